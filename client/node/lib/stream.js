// Streams: chunks as they come, for `for await`, each stream on a connection of its own.
// Leaving the loop (`break`, `return`, an error) cancels it, and so cuts upstream at once.

import { Credit } from "./calls.js";
import { errorFrom } from "./errors.js";

/** Chunks as they come; ends after the last one, or throws the error that ended it. */
export class Stream {
  #link;
  #id;
  #credit = new Credit();
  #closed = false;
  #aborted = null; // { reason }
  #stopListening = () => {};

  constructor(link, result, signal) {
    this.#link = link;
    this.#id = result.stream;
    if (signal) this.#listen(signal);
  }

  #listen(signal) {
    const onAbort = () => {
      this.#aborted = { reason: signal.reason };
      this.close();
    };
    signal.addEventListener("abort", onAbort, { once: true });
    this.#stopListening = () => signal.removeEventListener("abort", onAbort);
    if (signal.aborted) onAbort();
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  async next() {
    try {
      if (this.#closed) return this.#over();
      const event = await this.#link.nextEvent();
      if ("data" in event) {
        const granted = this.#credit.use(event.cost);
        if (granted) this.#link.grant(this.#id, granted);
        return { done: false, value: this._chunk(event.chunk) };
      }
      this.close();
      this._takeEnd(event);
      if (event.error !== null) throw errorFrom(event.error);
      return { done: true, value: undefined };
    } catch (error) {
      const closed = this.#closed; // by somebody else, while we waited
      this.close();
      if (closed && error === this.#link.lost) return this.#over();
      throw error;
    }
  }

  #over() {
    if (this.#aborted !== null) {
      const { reason } = this.#aborted;
      this.#aborted = null; // told once
      throw reason;
    }
    return { done: true, value: undefined };
  }

  /** What a loop does that is left early. */
  async return(value) {
    this.close();
    return { done: true, value };
  }

  /** Stop it; upstream is cut at once. Closing twice is no error. */
  close() {
    if (this.#closed) return;
    this.#closed = true;
    this.#stopListening();
    this.#link.cancel(this.#id);
  }

  /** What a chunk is to who iterates. */
  _chunk(chunk) {
    return chunk;
  }

  /** Read what the end tells besides its error. */
  _takeEnd() {}
}

if (Symbol.asyncDispose) {
  Object.defineProperty(Stream.prototype, Symbol.asyncDispose, {
    async value() {
      this.close();
    },
  });
}
