// A completion as a whole.

import { inspect } from "node:util";

import { isError, textIn } from "./answers.js";
import { lacking, unreadable } from "./failures.js";
import { headOf } from "./head.js";
import { brokenOff, isOk } from "./refusals.js";
import { isMap } from "./wire/messages.js";

/** Upstream's answer, whatever its status. Shown, it has no body. */
export class Completion {
  #body;
  #head;

  /** Read the result of `completion.create`. Throws InternalError when parts are missing. */
  constructor(result) {
    const body = isMap(result) ? result.body : null;
    if (typeof body !== "string" && !(body instanceof Uint8Array)) throw lacking("completion");
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
  }

  /** Decode the body. Throws InternalError `not_json`. */
  json() {
    try {
      return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(this.#body));
    } catch {
      throw unreadable("not_json", "upstream's answer is not JSON");
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
