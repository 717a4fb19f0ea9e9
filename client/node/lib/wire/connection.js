// One connection's protocol, the client's side of it, without I/O and without a clock.
//
// Requests and wishes are turned into bytes to be written; bytes that arrive into events:
//
//   { response: msgid, error, result }
//   { data: stream, chunk, cost }          give `cost` back with `creditFor` when it is used up
//   { end: stream, error, refusal }        nothing follows

import { Bytes } from "./bytes.js";
import { decode, encode, isCount, isMap, NOTIFICATION, REQUEST, RESPONSE } from "./messages.js";
import { Prescan } from "./prescan.js";
import { ProtocolProblem } from "./problem.js";

const MSGIDS = 2 ** 32;

export class Connection {
  #incoming = new Bytes();
  #prescan = new Prescan();
  #unanswered = new Set();
  #streams = new Map(); // open stream → the next seq
  #lastMsgid = -1;

  /** Whether a message has begun and not ended. */
  get isHalf() {
    return this.#incoming.size > 0;
  }

  /** The bytes of a request, and the msgid that its answer will bear. */
  request(method, params) {
    let msgid = (this.#lastMsgid + 1) % MSGIDS;
    while (this.#unanswered.has(msgid)) msgid = (msgid + 1) % MSGIDS;
    const bytes = encode([REQUEST, msgid, method, [params]]);
    this.#lastMsgid = msgid;
    this.#unanswered.add(msgid);
    return { msgid, bytes };
  }

  /** Let the broker send so many bytes more; null for a stream that has ended. */
  creditFor(stream, bytes) {
    return this.#wish("stream.credit", stream, { bytes });
  }

  /** Stop a stream; its end still arrives. Null for one that has ended. */
  cancelFor(stream) {
    return this.#wish("stream.cancel", stream, {});
  }

  #wish(method, stream, more) {
    return this.#streams.has(stream) ? encode([NOTIFICATION, method, [{ stream, ...more }]]) : null;
  }

  /** Take bytes and yield what they tell. Throws ProtocolProblem after what was right. */
  *receive(data) {
    this.#incoming.append(data);
    for (;;) {
      const found = this.#prescan.find(this.#incoming.view);
      if (found === null) return;
      const frame = this.#incoming.take(found.end);
      const event = this.#eventOf(decode(frame, found.texts), frame.length);
      if (event !== null) yield event;
    }
  }

  #eventOf(message, size) {
    if (message.kind === RESPONSE) return this.#answered(message);
    if (message.params === null) return null; // of a shape we do not know: as an unknown name
    if (message.method === "stream.data") return this.#chunk(message.params, size);
    if (message.method === "stream.end") return this.#ended(message.params);
    return null;
  }

  #answered({ msgid, error, result }) {
    if (!this.#unanswered.delete(msgid)) {
      throw new ProtocolProblem("unknown_msgid", "an answer to what was not asked");
    }
    if (error === null && isMap(result) && isCount(result.stream)) {
      this.#streams.set(result.stream, 0);
    }
    return { response: msgid, error, result };
  }

  #chunk({ stream, seq, chunk = null }, size) {
    this.#mustBeOpen(stream);
    if (seq !== this.#streams.get(stream)) {
      throw new ProtocolProblem("lost_chunk", "a stream's chunks are out of order");
    }
    this.#streams.set(stream, seq + 1);
    return { data: stream, chunk, cost: costOf(chunk, size, stream, seq) };
  }

  #ended({ stream, error = null, refusal = null }) {
    this.#mustBeOpen(stream);
    this.#streams.delete(stream);
    return { end: stream, error, refusal };
  }

  #mustBeOpen(stream) {
    if (!this.#streams.has(stream)) {
      throw new ProtocolProblem("unknown_stream", "news of a stream that is not open");
    }
  }
}

/**
 * What a chunk takes from its stream's credit: bytes by number, else the size it has on the wire.
 * JavaScript does not tell 60.0 from 60, so a map is not encoded again: the message's size less
 * what is around the chunk is the same number.
 */
function costOf(chunk, size, stream, seq) {
  if (chunk instanceof Uint8Array) return chunk.length;
  const around = encode([NOTIFICATION, "stream.data", [{ stream, seq, chunk: null }]]);
  return size - (around.length - 1);
}
