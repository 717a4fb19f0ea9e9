// A Copilot token as the broker lends it. However it is shown, the id is there and never the token.

import { inspect } from "node:util";

import { InternalError } from "./errors.js";

export const RESTART_HINT = "Run: systemctl --user restart copilot-broker";

const badAnswer = () => {
  const message = "the broker's answer lacks what a token needs";
  return new InternalError("bad_answer", message, RESTART_HINT);
};

const asNumber = (value) => {
  if (typeof value !== "number") throw badAnswer();
  return value;
};

const asText = (value) => {
  if (value === undefined || value === null) throw badAnswer();
  return String(value);
};

/** Use it until `expires_in` has passed, then ask again; the broker refreshes it by itself. */
export class Token {
  #token;

  /** Read the result of `token.get`. Throws InternalError when something is missing. */
  constructor(result) {
    if (typeof result !== "object" || result === null) throw badAnswer();
    this.#token = asText(result.token);
    this.expires_at = asNumber(result.expires_at);
    this.expires_in = asNumber(result.expires_in);
    this.api_base = asText(result.api_base);
    this.account = asText(result.account);
    this.token_id = asText(result.token_id);
    this.clamped = Boolean(result.clamped);
    this.headers = Object.freeze({ ...result.headers });
    this.completions_base = String(result.completions_base ?? "");
    this.cooldown_until = result.cooldown_until == null ? null : asNumber(result.cooldown_until);
    Object.freeze(this);
  }

  /** The bearer: `Authorization: Bearer TOKEN`. A secret; on no own property, so copies lack it. */
  get token() {
    return this.#token;
  }

  toString() {
    return `Token(token_id=${this.token_id} account=${this.account})`;
  }

  toJSON() {
    return { ...this };
  }

  [inspect.custom](_depth, options, show = inspect) {
    return `Token ${show({ ...this }, options)}`;
  }
}
