// What a completion has besides its body, whether that comes whole or in pieces.

import { lacking } from "./failures.js";
import { refusalIn } from "./refusals.js";
import { isMap } from "./wire/messages.js";

const ACCOUNT_HEADER = "x-copilot-broker-account";

/**
 * Status, headers, account and refusal, which is there unless the status is 2xx. Throws
 * InternalError `bad_answer`.
 */
export function headOf(result) {
  const { status, headers } = isMap(result) ? result : {};
  const given = headers ?? {};
  if (!Number.isInteger(status) || !isMap(given)) throw lacking("completion");
  const account = String(result.account || given[ACCOUNT_HEADER] || "");
  return { status, headers: given, account, refusal: refusalIn(result) };
}
