// One connection: moves bytes between a socket and the protocol, brings answers to who asked and
// chunks to a queue, which the granted credit bounds.
//
// A link keeps the process alive only while somebody waits for it.

import { setTimeout as pause } from "node:timers/promises";

import { errorFrom, UsageError } from "./errors.js";
import { connectionLost, noBroker, protocolBroken } from "./failures.js";
import { BUSY_PAUSE, connectOnce, NoBroker, socketPath } from "./wire/address.js";
import { Connection } from "./wire/connection.js";
import { FRAME_TIMEOUT } from "./wire/limits.js";
import { ProtocolProblem } from "./wire/problem.js";

/** Connect; a full queue is waited for as long as `bound` lets. Throws CopilotBrokerError. */
export async function connect(path, bound) {
  try {
    const where = path === null ? socketPath() : path;
    for (;;) {
      const connecting = connectOnce(where);
      try {
        const socket = await bound.race(connecting);
        if (socket !== null) return new Link(socket);
      } catch (error) {
        connecting.then((late) => late?.destroy(), () => {});
        throw error;
      }
      await bound.race(pause(BUSY_PAUSE * 1000));
    }
  } catch (error) {
    throw error instanceof NoBroker ? noBroker(error) : error;
  }
}

export class Link {
  /** Why it is over; null while it is not. */
  lost = null;
  /** Settles with the first answer, or the end. */
  news;

  #wire = new Connection();
  #socket;
  #answers = new Map(); // msgid → { resolve, reject }
  #chunks = []; // events of its stream that nobody has fetched
  #fetchers = []; // who waits for one
  #tellNews;
  #onLost = [];
  #half = null; // the timer of a message that has begun

  constructor(socket) {
    this.news = new Promise((resolve) => (this.#tellNews = resolve));
    this.answered = false;
    this.#socket = socket;
    socket.on("data", (data) => this.#take(data));
    socket.on("error", () => this.#fail(connectionLost()));
    socket.on("close", () => this.#fail(connectionLost()));
    socket.on("end", () => this.#fail(connectionLost()));
    socket.unref();
  }

  /** Have `action` done when it is over. */
  onLost(action) {
    this.#onLost.push(action);
  }

  /** Send, and return the answer's promise. Throws UsageError. */
  async ask(method, params) {
    if (this.lost !== null) throw connectionLost();
    const { msgid, bytes } = this.#request(method, params);
    const answer = new Promise((resolve, reject) => this.#answers.set(msgid, { resolve, reject }));
    answer.catch(() => {}); // who asked may have gone
    this.#socket.ref();
    this.#socket.write(bytes);
    try {
      const { error, result } = await answer;
      if (error !== null) throw errorFrom(error); // here, where the stack shows who has asked
      return result;
    } finally {
      this.#answers.delete(msgid);
      this.#rest();
    }
  }

  #request(method, params) {
    try {
      return this.#wire.request(method, params);
    } catch (error) {
      throw error instanceof ProtocolProblem ? new UsageError(error.code, error.message) : error;
    }
  }

  /** The next event of its stream: a chunk or its end. Throws what broke the connection. */
  async nextEvent() {
    if (this.#chunks.length) return this.#chunks.shift();
    if (this.lost !== null) throw this.lost;
    this.#socket.ref();
    try {
      return await new Promise((resolve, reject) => this.#fetchers.push({ resolve, reject }));
    } finally {
      this.#rest();
    }
  }

  /** Give credit back to a stream. */
  grant(stream, bytes) {
    this.#write(this.#wire.creditFor(stream, bytes));
  }

  /** Cancel a stream unless it has ended, and hang up. */
  cancel(stream) {
    if (this.lost === null) this.#write(this.#wire.cancelFor(stream));
    this.close();
  }

  /** Hang up; whoever waits gets `connection_lost`. Twice is no error. */
  close() {
    this.#fail(connectionLost());
  }

  #write(bytes) {
    if (bytes !== null && this.lost === null) this.#socket.write(bytes);
  }

  #rest() {
    if (!this.#answers.size && !this.#fetchers.length) this.#socket.unref();
  }

  #take(data) {
    try {
      for (const event of this.#wire.receive(data)) {
        if (this.lost !== null) return;
        if ("response" in event) this.#answer(event);
        else this.#queue(event);
      }
    } catch (error) {
      if (!(error instanceof ProtocolProblem)) throw error;
      this.#fail(protocolBroken(error));
    }
    this.#watchHalf();
  }

  #answer(event) {
    this.answered = true;
    this.#tellNews();
    this.#answers.get(event.response)?.resolve(event);
  }

  #queue(event) {
    const fetcher = this.#fetchers.shift();
    if (fetcher) fetcher.resolve(event);
    else this.#chunks.push(event);
  }

  /** Half a message must not take long; idle is free. */
  #watchHalf() {
    if (!this.#wire.isHalf || this.lost !== null) {
      clearTimeout(this.#half);
      this.#half = null;
    } else if (this.#half === null) {
      const late = { code: "frame_timeout", message: "a message came too slowly" };
      this.#half = setTimeout(() => this.#fail(protocolBroken(late)), FRAME_TIMEOUT * 1000);
      this.#half.unref();
    }
  }

  #fail(error) {
    if (this.lost !== null) return;
    this.lost = error;
    clearTimeout(this.#half);
    this.#tellNews();
    for (const waiting of this.#answers.values()) waiting.reject(error);
    for (const fetcher of this.#fetchers.splice(0)) fetcher.reject(error);
    this.#socket.destroy();
    for (const action of this.#onLost) action();
  }
}
