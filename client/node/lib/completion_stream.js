// A completion as it comes: bytes, the objects in its events, or their text.

import { inspect } from "node:util";

import { isError, textIn } from "./answers.js";
import { Bound } from "./bound.js";
import { LAST_WORD_TIMEOUT } from "./calls.js";
import { EventReader } from "./events.js";
import { badAnswer, timedOut } from "./failures.js";
import { headOf } from "./head.js";
import { brokenOff, isOk, refusalOf } from "./refusals.js";
import { Stream } from "./stream.js";

/**
 * A completion as it comes: iterate over upstream's own bytes, or `events`, or `text`.
 *
 * One of the three, once. The bytes are given whatever they say; `events` and `text` throw what
 * upstream refuses.
 */
export class CompletionStream extends Stream {
  #head;

  constructor(link, result, signal) {
    super(link, result, signal);
    try {
      this.#head = headOf(result);
    } catch (error) {
      this.close();
      throw error;
    }
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

  /** What a status that is not 2xx means, or, at the end, an error in the middle; else null. */
  get refusal() {
    return this.#head.refusal;
  }

  get ok() {
    return isOk(this.status);
  }

  _chunk(chunk) {
    if (chunk instanceof Uint8Array) return chunk;
    throw badAnswer("a chunk of a completion is not bytes", "");
  }

  _takeEnd({ refusal }) {
    if (refusal !== null) this.#head.refusal = refusalOf(refusal, this.status);
  }

  /** The rest of the body. Throws the error that ended it, as iterating does. */
  async read() {
    const chunks = [];
    for await (const chunk of this) chunks.push(chunk);
    return new Uint8Array(Buffer.concat(chunks));
  }

  /**
   * Yield the JSON objects out of upstream's events, up to `[DONE]`.
   *
   * An `error` in mid-stream is the last of them; after it UpstreamRefused is thrown, as it is at
   * once when the status is not 2xx.
   */
  async *events() {
    this.raise_for_status();
    const reader = new EventReader(this.headers);
    try {
      for (let step = await this.next(); !step.done; step = await this.next()) {
        yield* this.#told(reader.feed(step.value));
        if (reader.done) break;
      }
      if (reader.done) await this.#awaitEnd();
      else yield* this.#told(reader.finish());
    } finally {
      this.close();
    }
    if (this.refusal !== null) throw this.refusal;
  }

  async *#told(events) {
    for (const event of events) {
      yield event;
      if (isError(event)) {
        await this.#awaitEnd();
        throw this.refusal ?? brokenOff(this.status);
      }
    }
  }

  /** Yield the first choice's text as it comes. Throws as `events` does. */
  async *text() {
    for await (const event of this.events()) {
      const text = textIn(event);
      if (text) yield text;
    }
  }

  /** Throw UpstreamRefused unless the status is 2xx; the stream is over then. */
  raise_for_status() {
    if (this.ok) return;
    this.close();
    throw this.refusal;
  }

  /** Hear its end; and cancelling it before that would cut upstream's connection. */
  async #awaitEnd() {
    const bound = new Bound(LAST_WORD_TIMEOUT, () => timedOut(LAST_WORD_TIMEOUT));
    try {
      while (!(await bound.race(this.next())).done);
    } catch {
      // what was wanted is there
    } finally {
      bound.done();
    }
  }

  toString() {
    return `CompletionStream(status=${this.status} account=${this.account})`;
  }

  toJSON() {
    return { status: this.status, account: this.account };
  }

  [inspect.custom]() {
    return this.toString();
  }
}
