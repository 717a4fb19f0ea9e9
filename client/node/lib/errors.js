// One class for each thing a caller can do about an error; the names of the Python client.
//
//   CopilotBrokerError         error_class, code, message, hint, url, retry_after
//   ├── BrokerUnreachable      start the broker
//   ├── LoginRequired          sign in
//   ├── Denied                 nothing: GitHub or the broker's policy refuses
//   ├── Locked                 unlock the broker, or the secret store
//   ├── Temporary              ask again after `retry_after` seconds
//   ├── MinValidUnsatisfiable  ask for less
//   ├── StoreUnavailable       choose a place to keep the login
//   ├── UsageError             change the request
//   ├── InternalError          report the defect
//   └── UpstreamRefused        GitHub Copilot refuses; is also one of those above
//
// toString() of each is `code: message. hint`; none holds a secret.

/** What a caller can do about it; the exit codes of `copilot-cred`. */
export const ErrorClass = Object.freeze({
  INTERNAL: 1,
  USAGE: 2,
  UNREACHABLE: 3,
  LOGIN_REQUIRED: 4,
  DENIED: 5,
  LOCKED: 6,
  TEMPORARY: 7,
  MIN_VALID: 8,
  STORE_UNAVAILABLE: 9,
});

export class CopilotBrokerError extends Error {
  static error_class = ErrorClass.INTERNAL;

  constructor(code, message, hint = "", { url = null, retry_after = null } = {}) {
    const told = `${code}: ${message}.${hint ? ` ${hint}` : ""}`;
    super(told); // so the stack tells all of it
    hidden(this, "message", message);
    hidden(this, "told", told);
    this.code = code;
    this.hint = hint;
    this.url = url;
    this.retry_after = retry_after;
  }

  get name() {
    return this.constructor.name;
  }

  get error_class() {
    return this.constructor.error_class;
  }

  toString() {
    return this.told;
  }
}

const hidden = (object, name, value) =>
  Object.defineProperty(object, name, { value, writable: true, configurable: true });

/** No broker answers, or none that may be trusted. */
export class BrokerUnreachable extends CopilotBrokerError {
  static error_class = ErrorClass.UNREACHABLE;
}

/** Nobody is signed in, or GitHub refused the login. */
export class LoginRequired extends CopilotBrokerError {
  static error_class = ErrorClass.LOGIN_REQUIRED;
}

/** GitHub or the broker's policy refuses; asking again does not help. */
export class Denied extends CopilotBrokerError {
  static error_class = ErrorClass.DENIED;
}

/** The broker is locked, or the secret store is. */
export class Locked extends CopilotBrokerError {
  static error_class = ErrorClass.LOCKED;
}

/** Network, upstream or load; asking again after `retry_after` can help. */
export class Temporary extends CopilotBrokerError {
  static error_class = ErrorClass.TEMPORARY;
}

/** No token can live as long as was strictly asked for. */
export class MinValidUnsatisfiable extends CopilotBrokerError {
  static error_class = ErrorClass.MIN_VALID;
}

/** There is no place to keep the login. */
export class StoreUnavailable extends CopilotBrokerError {
  static error_class = ErrorClass.STORE_UNAVAILABLE;
}

/** The request is malformed or names something that is not there. */
export class UsageError extends CopilotBrokerError {
  static error_class = ErrorClass.USAGE;
}

/** A defect of the broker or of this library. */
export class InternalError extends CopilotBrokerError {
  static error_class = ErrorClass.INTERNAL;
}

const REFUSED = Symbol("refused by upstream");

/**
 * GitHub Copilot answered a completion, but not with one; the broker says what that means.
 *
 * Each is also what can be done about it (`error instanceof Temporary` holds, say). `status` is
 * the HTTP status, 200 for an error in the middle of a stream.
 */
export class UpstreamRefused extends CopilotBrokerError {
  static [Symbol.hasInstance](value) {
    if (this !== UpstreamRefused) return Function.prototype[Symbol.hasInstance].call(this, value);
    return typeof value === "object" && value !== null && value[REFUSED] === true;
  }
}

const KINDS = [
  BrokerUnreachable,
  LoginRequired,
  Denied,
  Locked,
  Temporary,
  MinValidUnsatisfiable,
  StoreUnavailable,
  UsageError,
  InternalError,
];
const BY_CLASS = new Map(KINDS.map((kind) => [kind.error_class, kind]));

/** Read the wire's error: a map, or a string; a newer broker's unknown class is INTERNAL. */
export function infoFrom(error) {
  if (typeof error !== "object" || error === null) {
    return { kind: InternalError, code: "error", message: String(error), hint: "", more: {} };
  }
  const { class: number, code = "error", message = "", hint = "", url, retry_after } = error;
  const more = {
    url: typeof url === "string" ? url : null,
    retry_after: typeof retry_after === "number" ? retry_after : null,
  };
  const kind = BY_CLASS.get(number) ?? InternalError;
  return { kind, code: String(code), message: String(message), hint: String(hint), more };
}

/** The wire's error as one of its class. */
export function errorFrom(error) {
  const { kind, code, message, hint, more } = infoFrom(error);
  return new kind(code, message, hint, more);
}

/** No refusal of upstream's is of the classes that only a broker or a store can have. */
const OF_UPSTREAM = new Set([LoginRequired, Denied, Temporary, UsageError]);

/** An UpstreamRefused that is also a `kind`. */
export function refused(status, { kind, code, message, hint, more }) {
  const error = new (OF_UPSTREAM.has(kind) ? kind : InternalError)(code, message, hint, more);
  error.status = status;
  Object.defineProperty(error, REFUSED, { value: true });
  Object.defineProperty(error, "name", { value: "UpstreamRefused" });
  return error;
}
