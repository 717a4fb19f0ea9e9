// A completion as a whole, and what bodies and answers of one look like.

import { inspect } from "node:util";

import { isError, textIn } from "./answers.js";
import { InternalError, UsageError } from "./errors.js";
import { LOOK_HINT } from "./events.js";
import { brokenOff, isOk, refusalIn, unexplained } from "./refusals.js";
import { RESTART_HINT } from "./token.js";
import { isMap } from "./wire/messages.js";

/** Bytes of a body: the wire's largest request, less room for everything beside the body. */
export const MAX_BODY = 32 * 1024 * 1024 - 64 * 1024;

const ACCOUNT_HEADER = "x-copilot-broker-account";

const badAnswer = () => {
  const message = "the broker's answer lacks what a completion needs";
  return new InternalError("bad_answer", message, RESTART_HINT);
};

/** Status, headers, account and refusal of an answer. Throws InternalError `bad_answer`. */
export function headOf(result) {
  const { status, headers } = isMap(result) ? result : {};
  const given = headers ?? {};
  if (!Number.isInteger(status) || !isMap(given)) throw badAnswer();
  const account = String(result.account || given[ACCOUNT_HEADER] || "");
  return { status, headers: given, account, refusal: refusalIn(result) };
}

/** Upstream's answer, whatever its status. Shown, it has no body. */
export class Completion {
  #body;
  #head;

  /** Read the result of `completion.create`. Throws InternalError when parts are missing. */
  constructor(result) {
    const body = isMap(result) ? result.body : null;
    if (typeof body !== "string" && !(body instanceof Uint8Array)) throw badAnswer();
    this.#body = typeof body === "string" ? new TextEncoder().encode(body) : body;
    this.#head = headOf(result);
  }

  get status() {
    return this.#head.status;
  }

  get headers() {
    return this.#head.headers;
  }

  get account() {
    return this.#head.account;
  }

  get refusal() {
    return this.#head.refusal;
  }

  get body() {
    return this.#body;
  }

  get ok() {
    return isOk(this.status);
  }

  raise_for_status() {
    if (this.refusal !== null) throw this.refusal;
    if (!this.ok) throw unexplained(this.status);
  }

  /** Decode the body. Throws InternalError `not_json`. */
  json() {
    try {
      return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(this.#body));
    } catch {
      throw new InternalError("not_json", "upstream's answer is not JSON", LOOK_HINT);
    }
  }

  /** The first choice's text, "" when it has none (it calls tools, say). */
  get text() {
    this.raise_for_status();
    const found = this.json();
    if (!isMap(found)) return "";
    if (isError(found)) throw brokenOff(this.status);
    return textIn(found);
  }

  toString() {
    return `Completion(status=${this.status} account=${this.account})`;
  }

  toJSON() {
    return { status: this.status, account: this.account };
  }

  [inspect.custom]() {
    return this.toString();
  }
}

const LONE_SURROGATE = /\p{Surrogate}/u;

/** The bytes to send. Throws UsageError `bad_body`, `body_too_large`. */
export function bodyOf(body) {
  let data;
  if (body instanceof ArrayBuffer) data = new Uint8Array(body);
  else if (ArrayBuffer.isView(body)) {
    data = new Uint8Array(body.buffer, body.byteOffset, body.byteLength);
  } else data = textOf(body);
  if (data.length > MAX_BODY) {
    const message = `a body has at most ${MAX_BODY} bytes, this one ${data.length}`;
    throw new UsageError("body_too_large", message, "Shorten the prompt");
  }
  return data;
}

function textOf(body) {
  let text = typeof body === "string" ? body : undefined;
  try {
    if (isMap(body)) text = JSON.stringify(body);
  } catch {
    // said below
  }
  if (text === undefined || LONE_SURROGATE.test(text)) {
    const message = "a body is bytes, text or an object that JSON can say";
    throw new UsageError("bad_body", message, "Change the request");
  }
  return new TextEncoder().encode(text);
}
