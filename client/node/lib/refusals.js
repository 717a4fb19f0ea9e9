// What GitHub Copilot says instead of a completion, as an error.
//
// The broker explains each refusal beside upstream's own answer. One that comes without (from an
// older broker) is only named.

import { Denied, infoFrom, refused, Temporary } from "./errors.js";

const HINT = "Look at: copilot-cred status";
const TOO_MANY = 429;

export const isOk = (status) => status >= 200 && status < 300;

/** The error for a refusal that the broker has explained. */
export const refusalOf = (said, status) => refused(status, infoFrom(said));

/** The error for an answer that is not 2xx and that nobody has explained. */
export function unexplained(status) {
  const isFinal = status >= 400 && status < 500 && status !== TOO_MANY;
  const message = `GitHub Copilot answered ${status}`;
  const kind = isFinal ? Denied : Temporary;
  return refused(status, { kind, code: `upstream_${status}`, message, hint: HINT, more: {} });
}

/** The error for one among the events that nobody has explained. */
export function brokenOff(status) {
  const message = "GitHub Copilot broke off with an error";
  const code = "upstream_error";
  return refused(status, { kind: Temporary, code, message, hint: HINT, more: {} });
}

/** What an answer's head or end tells of a refusal, or null. */
export function refusalIn({ refusal = null, status }) {
  if (refusal !== null) return refusalOf(refusal, status);
  return isOk(status) ? null : unexplained(status);
}
