// Where does the next message end? Told from the bytes alone, before anything is decoded.
//
// MessagePack has no frame length, so the end is found by walking the type bytes (MessagePack
// spec, "Formats"). A claim of 1 GB, a tower of nested arrays or an array of a million empty ones
// is refused when its header is read. The walk resumes where it stopped.

import { MAX_DEPTH, MAX_FRAME, MAX_ITEMS } from "./limits.js";
import { ProtocolProblem } from "./problem.js";

// Per type byte: bytes of the length field, size without one, payload bytes and values per length.
const FORMATS = new Array(256).fill(null);
const put = (from, to, form) => {
  for (let byte = from; byte <= to; byte++) FORMATS[byte] = form(byte);
};
put(0x00, 0x7f, () => [0, 0, 1, 0]); // small integers
put(0xe0, 0xff, () => [0, 0, 1, 0]);
put(0x80, 0x8f, (byte) => [0, byte & 0x0f, 0, 2]); // fixmap
put(0x90, 0x9f, (byte) => [0, byte & 0x0f, 0, 1]); // fixarray
put(0xa0, 0xbf, (byte) => [0, byte & 0x1f, 1, 0]); // fixstr
for (const byte of [0xc0, 0xc2, 0xc3]) FORMATS[byte] = [0, 0, 1, 0]; // nil, false, true
put(0xc4, 0xc6, (byte) => [1 << (byte - 0xc4), 0, 1, 0]); // bin
put(0xca, 0xcb, (byte) => [0, 4 << (byte - 0xca), 1, 0]); // float, double
put(0xcc, 0xcf, (byte) => [0, 1 << (byte - 0xcc), 1, 0]); // uint
put(0xd0, 0xd3, (byte) => [0, 1 << (byte - 0xd0), 1, 0]); // int
put(0xd9, 0xdb, (byte) => [1 << (byte - 0xd9), 0, 1, 0]); // str
put(0xdc, 0xdd, (byte) => [2 << (byte - 0xdc), 0, 0, 1]); // array
put(0xde, 0xdf, (byte) => [2 << (byte - 0xde), 0, 0, 2]); // map
// 0xc1 is never used; the extension types have no place on this wire.

const isArray = (byte) => (byte >= 0x90 && byte <= 0x9f) || byte === 0xdc || byte === 0xdd;
const isText = (byte) => (byte >= 0xa0 && byte <= 0xbf) || (byte >= 0xd9 && byte <= 0xdb);

/** Walks one message after the other; `find` is called again whenever bytes were added. */
export class Prescan {
  #position = 0;
  #items = 0;
  #lacking = []; // per open container: values still to come
  #texts = []; // where each text begins and ends

  /** The end of the first message and where its texts are; null while bytes are missing. */
  find(buffer) {
    if (buffer.length && !this.#position && !isArray(buffer[0])) {
      throw new ProtocolProblem("not_a_message", "a message is an array (MessagePack-RPC)");
    }
    if ((!this.#position || this.#lacking.length) && !this.#walk(buffer)) return null;
    if (this.#position > buffer.length) return null;
    const found = { end: this.#position, texts: this.#texts };
    this.#position = this.#items = 0;
    this.#texts = [];
    return found;
  }

  #walk(buffer) {
    while (!this.#position || this.#lacking.length) {
      if (this.#position >= buffer.length) return false;
      const byte = buffer[this.#position];
      const form = FORMATS[byte];
      if (form === null) {
        throw new ProtocolProblem("bad_type", `type byte 0x${byte.toString(16)} is not used`);
      }
      const [lengthBytes, fixed, payload, perLength] = form;
      const start = this.#position + 1 + lengthBytes;
      if (start > buffer.length) return false;
      const size = lengthBytes ? buffer.readUIntBE(this.#position + 1, lengthBytes) : fixed;
      this.#position = start + size * payload;
      if (this.#position > MAX_FRAME) {
        throw new ProtocolProblem("frame_too_large", `more than ${MAX_FRAME} bytes`);
      }
      if (size && isText(byte)) this.#texts.push([start, this.#position]);
      this.#count(size * perLength);
    }
    return true;
  }

  #count(values) {
    const lacking = this.#lacking;
    if (lacking.length) lacking[lacking.length - 1] -= 1;
    if (values) {
      this.#items += values;
      if (this.#items > MAX_ITEMS) {
        throw new ProtocolProblem("too_many_items", `more than ${MAX_ITEMS} values`);
      }
      if (lacking.length === MAX_DEPTH) {
        throw new ProtocolProblem("too_deep", `nested deeper than ${MAX_DEPTH}`);
      }
      lacking.push(values);
    }
    while (lacking.length && !lacking[lacking.length - 1]) lacking.pop();
  }
}
