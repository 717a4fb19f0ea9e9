// How a client asks: many calls at once on one connection, each stream and each completion on one of
// its own.

import { Bound, Room } from "./bound.js";
import { given, mayRepeat } from "./calls.js";
import { CopilotBrokerError } from "./errors.js";
import { timedOut } from "./failures.js";
import { connect } from "./link.js";
import { checkedStream } from "./reading.js";
import { REQUESTS_IN_FLIGHT } from "./wire/limits.js";

export class Asker {
  #path;
  #name;
  #link = null; // the one that calls share
  #connecting = null;
  #room = new Room(REQUESTS_IN_FLIGHT - 1);
  #apart = new Set(); // streams, and links of completions

  /** Nothing is opened yet. A null `path` is the usual one; `name` is told to the broker. */
  constructor(path, name) {
    this.#path = path;
    this.#name = name;
  }

  /** The parameters of a hello. */
  get introduction() {
    return given({ protocol: 1, client: this.#name });
  }

  /** Ask on the shared connection, `seconds` at most; return the result. */
  async call(method, params, seconds, signal) {
    const bound = new Bound(seconds, () => timedOut(seconds), signal);
    try {
      await this.#room.enter(bound);
      try {
        return await this.#callWithin(bound, method, given(params));
      } finally {
        this.#room.leave();
      }
    } finally {
      bound.done();
    }
  }

  async #callWithin(bound, method, params) {
    for (let tries = 1; ; tries++) {
      let link;
      try {
        link = await this.#usableLink(bound);
        return await bound.race(link.ask(method, params));
      } catch (error) {
        if (!(error instanceof CopilotBrokerError) || !mayRepeat(method, error, tries)) {
          throw error;
        }
        link?.close(); // a broker that shuts down answers nothing more on it
      }
    }
  }

  /** Ask on a connection of its own, which is over with the answer; return the result. */
  async alone(method, params, patience, signal) {
    const { link, result } = await this.#askApart(method, params, patience, signal);
    link.close();
    return result;
  }

  /** Ask for a stream of a `kind`, on a connection of its own; return it once it has begun. */
  async begin(kind, method, params, patience, signal) {
    const { link, result } = await this.#askApart(method, params, patience, signal);
    try {
      const stream = new kind(link, checkedStream(method, result), signal);
      this.#keepWhileOpen(stream, link);
      return stream;
    } catch (error) {
      link.close();
      throw error;
    }
  }

  /** Ask on a new connection, once; return that and the result. */
  async #askApart(method, params, patience, signal) {
    let link = null;
    const late = () => patience.exhausted(link !== null && link.answered);
    const begun = performance.now();
    const bound = new Bound(patience.broker, late, signal);
    try {
      link = await this.#connect(bound, patience.greet);
      this.#keepWhileOpen(link, link);
      const answer = link.ask(method, given(params));
      await bound.race(Promise.race([answer, link.news])); // anything at all
      bound.extend(patience.answer - (performance.now() - begun) / 1000, late);
      return { link, result: await bound.race(answer) };
    } catch (error) {
      link?.close();
      throw error;
    } finally {
      if (link !== null) this.#apart.delete(link);
      bound.done();
    }
  }

  #keepWhileOpen(what, link) {
    this.#apart.add(what);
    link.onLost(() => this.#apart.delete(what));
  }

  async #usableLink(bound) {
    for (;;) {
      if (this.#link !== null && this.#link.lost === null) return this.#link;
      if (this.#connecting === null) {
        this.#connecting = this.#connect(bound);
        try {
          return (this.#link = await this.#connecting);
        } finally {
          this.#connecting = null;
        }
      }
      await bound.race(this.#connecting.catch(() => {})); // then look again: its time is not ours
    }
  }

  async #connect(bound, greet = false) {
    const link = await connect(this.#path, bound);
    if (greet || this.#name !== null) {
      // goes out with the first request; its answer changes nothing
      link.ask("broker.hello", this.introduction).catch(() => {});
    }
    return link;
  }

  /** Close all connections and streams; they can be opened again. */
  close() {
    for (const what of [...this.#apart]) what.close();
    this.#apart.clear();
    this.#link?.close();
    this.#link = null;
  }
}
