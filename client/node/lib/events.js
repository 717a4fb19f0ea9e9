// Server-sent events out of bytes that arrive in any pieces, and what Copilot puts into them.
//
// The grammar is the HTML standard's, "Interpreting an event stream": lines end with CR LF, LF or
// CR, a colon begins a comment, several `data` lines make one payload, an empty line ends the
// event. OpenAI's convention on top of it: a payload is a JSON object, the last one is `[DONE]`.

import { unreadable } from "./failures.js";
import { MAX_FRAME } from "./wire/limits.js";

const CR = 13;
const LF = 10;
const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Takes bytes as they come and returns the payloads that they complete. */
export class EventDecoder {
  #line = []; // pieces of the line that has not ended
  #data = []; // data lines of the event that has not ended
  #held = 0;
  #first = true;
  #afterCr = false;

  feed(chunk) {
    const found = [];
    let start = this.#afterCr && chunk[0] === LF ? 1 : 0;
    if (chunk.length) this.#afterCr = false;
    for (let at = start; at < chunk.length; at++) {
      if (chunk[at] !== CR && chunk[at] !== LF) continue;
      this.#hold(chunk.subarray(start, at));
      this.#endLine(found);
      if (chunk[at] === CR && at + 1 === chunk.length) this.#afterCr = true;
      if (chunk[at] === CR && chunk[at + 1] === LF) at += 1;
      start = at + 1;
    }
    this.#hold(chunk.subarray(start));
    // as much as the wire lets a whole answer have
    if (this.#held > MAX_FRAME) {
      throw unreadable("event_too_long", `one event has more than ${MAX_FRAME} bytes`);
    }
    return found;
  }

  /** The last payload where only the empty line after it is missing. */
  finish() {
    const found = [];
    this.#endLine(found);
    this.#endEvent(found);
    return found;
  }

  #hold(piece) {
    if (piece.length) this.#line.push(piece);
    this.#held += piece.length;
  }

  #endLine(found) {
    let line = Buffer.concat(this.#line);
    this.#line = [];
    if (this.#first && line[0] === 0xef && line[1] === 0xbb && line[2] === 0xbf) {
      line = line.subarray(3);
    }
    this.#first = false;
    const colon = line.indexOf(":");
    const name = line.toString("latin1", 0, colon < 0 ? line.length : colon);
    if (!line.length) {
      this.#endEvent(found);
    } else if (name === "data") {
      const value = colon < 0 ? line.subarray(line.length) : line.subarray(colon + 1);
      this.#data.push(value[0] === 0x20 ? value.subarray(1) : value);
    } else if (!this.#data.length) {
      this.#held = 0;
    }
  }

  #endEvent(found) {
    if (this.#data.length) {
      found.push(Buffer.concat(this.#data.flatMap((line, n) => (n ? [Buffer.of(LF), line] : [line]))));
    }
    this.#data = [];
    this.#held = 0;
  }
}

/**
 * Reads an answer's body as a series of JSON objects; `done` once `[DONE]` was there.
 *
 * An answer that is no event stream but one JSON object is a series of one.
 */
export class EventReader {
  done = false;
  #whole;
  #events = new EventDecoder();

  constructor(headers) {
    const kind = (headers["content-type"] ?? "").split(";")[0].trim().toLowerCase();
    this.#whole = kind === "application/json" ? [] : null;
  }

  feed(chunk) {
    if (this.#whole === null) return this.#objects(this.#events.feed(chunk));
    this.#whole.push(chunk);
    return [];
  }

  finish() {
    return this.#objects(this.#whole === null ? this.#events.finish() : [Buffer.concat(this.#whole)]);
  }

  #objects(payloads) {
    const found = [];
    for (const payload of payloads) {
      let value;
      try {
        const text = strict.decode(payload).trim();
        if (this.done || text === "[DONE]") {
          this.done = true;
          break;
        }
        if (!text) continue;
        value = JSON.parse(text);
      } catch {
        throw unreadable("bad_event", "an event of the answer is not JSON");
      }
      if (typeof value === "object" && value !== null && !Array.isArray(value)) found.push(value);
    }
    return found;
  }
}
