// A Copilot token as the broker lends it. However it is shown, the id is there and never the token.

import { inspect } from "node:util";

import { lacking } from "./failures.js";

const asNumber = (value) => {
  if (typeof value !== "number") throw lacking("token");
  return value;
};

const asText = (value) => {
  if (value === undefined || value === null) throw lacking("token");
  return String(value);
};

/** Use it until `expires_in` has passed, then ask again; the broker refreshes it by itself. */
export class Token {
  #token;

  /** Read the result of `token.get`. Throws InternalError when something is missing. */
  constructor(result) {
    if (typeof result !== "object" || result === null) throw lacking("token");
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
