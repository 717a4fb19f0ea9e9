// What may be asked how: options, patience, retries. Times are seconds, as everywhere on the wire.

import { Temporary } from "./errors.js";
import { timedOut } from "./failures.js";
import { STREAM_WINDOW } from "./wire/limits.js";

/** For one call, connecting included. The broker itself gives up waiting after four. */
export const DEFAULT_TIMEOUT = 5;

/** Until a streamed completion begins, unless told otherwise: models think first. */
export const FIRST_BYTE_TIMEOUT = 120;

/** Until a completion is there as a whole, unless told otherwise. */
export const JSON_TIMEOUT = 600;

/** For an unlock: the broker lets who gives a wrong passphrase wait for up to ten. */
export const UNLOCK_TIMEOUT = 15;

/** For the end of a stream whose `[DONE]` has come: leaving before would cut upstream. */
export const LAST_WORD_TIMEOUT = 1;

/** How often a call that may be repeated is sent when a restarting broker hangs up. */
const TRIES = 3;

/** Methods that change nothing: asking twice is asking once. */
const REPEATABLE = new Set([
  "account.list",
  "broker.doctor",
  "broker.hello",
  "broker.status",
  "grant.explain",
  "grant.list",
  "key.lease",
  "key.list",
  "key.mint",
  "models.list",
  "quota.get",
  "token.get",
  "usage.report",
]);

/**
 * Check that options are among those `known`: a misspelt one would otherwise be ignored in silence.
 * Returns them.
 */
export function optionsOf(options, ...known) {
  for (const name of Object.keys(options ?? {})) {
    if (name !== "signal" && !known.includes(name)) {
      throw new TypeError(`no such option: ${name}; there are: ${[...known, "signal"].join(", ")}`);
    }
  }
  return options ?? {};
}

/** Leave out what was not given. */
export const given = (params) =>
  Object.fromEntries(Object.entries(params).filter(([, value]) => value != null));

/** The parameters among some options: all but the signal. */
export const paramsOf = ({ signal: _, ...params }) => params;

/** Whether to ask again: the broker is going away, and the method changes nothing. */
export function mayRepeat(method, error, tries) {
  const leaving = error.code === "connection_lost" || error.code === "shutting_down";
  return leaving && REPEATABLE.has(method) && tries < TRIES;
}

/** How long to wait for what is asked on a connection of its own. */
export class Patience {
  constructor(broker, answer, greet = true) {
    this.broker = broker; // until the broker has said anything at all
    this.answer = answer; // until the answer, or its head, is there
    this.greet = greet; // whether the broker is asked for a hello, which it answers at once
  }

  /** The same for both, and no hello. */
  static even(seconds) {
    return new Patience(seconds, seconds, false);
  }

  /** Take a given timeout literally; else brokers answer at once and models in `usual`. */
  static forCompletion(timeout, usual) {
    return timeout == null
      ? new Patience(DEFAULT_TIMEOUT, usual)
      : new Patience(timeout, timeout);
  }

  /** Say who has not answered in time: the broker, or GitHub Copilot. */
  exhausted(answered) {
    if (!answered) return timedOut(this.broker);
    const message = `no answer from GitHub Copilot within ${this.answer} s`;
    const hint = "Ask again, or give it a longer timeout";
    return new Temporary("timeout", message, hint, { retry_after: 1 });
  }
}

/** Counts what a stream's receiver has used up; half a window at a time is given back. */
export class Credit {
  #used = 0;

  /** Note a chunk's cost; return the bytes to grant now, mostly 0. */
  use(cost) {
    this.#used += cost;
    if (this.#used < STREAM_WINDOW / 2) return 0;
    const granted = this.#used;
    this.#used = 0;
    return granted;
  }
}
