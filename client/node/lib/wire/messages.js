// The messages of MessagePack-RPC, and the only place that encodes and decodes them.
//
//   request       [0, msgid, method, params]     params: a one-element array holding a map
//   response      [1, msgid, error, result]
//   notification  [2, method, params]
//
// `decode` must only ever see what Prescan has walked: depth and counts are bounded there.

import { decode as unpack, encode as pack } from "@msgpack/msgpack";

import { ProtocolProblem } from "./problem.js";

export const REQUEST = 0;
export const RESPONSE = 1;
export const NOTIFICATION = 2;

const MSGID_END = 2 ** 32; // msgid is an unsigned 32-bit number

export const isCount = (value) => Number.isSafeInteger(value) && value >= 0;
export const isMsgid = (value) => isCount(value) && value < MSGID_END;
export const isMap = (value) =>
  typeof value === "object" &&
  value !== null &&
  !Array.isArray(value) &&
  !(value instanceof Uint8Array);

// Dates, Maps, class instances: MessagePack would say something else than what was meant.
const PLAIN_ONLY = {
  tryToEncode(value) {
    if (Array.isArray(value) || value instanceof Uint8Array) return null;
    const kind = Object.getPrototypeOf(value);
    if (kind === Object.prototype || kind === null) return null;
    throw new TypeError("neither a plain object nor an array");
  },
  decode() {
    throw new TypeError("no extension types");
  },
};

/** The bytes of a message; null-valued keys stay, undefined ones are left out. */
export function encode(message) {
  try {
    return pack(message, { extensionCodec: PLAIN_ONLY, ignoreUndefined: true });
  } catch {
    throw new ProtocolProblem("not_encodable", "a message holds what MessagePack cannot say");
  }
}

const strict = new TextDecoder("utf-8", { fatal: true });

const textKeys = (key) => {
  if (typeof key !== "string") throw new TypeError("a key is no text");
  return key;
};

/** One whole message; `texts` is where its texts are, for the decoder takes any bytes for UTF-8. */
export function decode(frame, texts) {
  let value;
  try {
    for (const [start, end] of texts) strict.decode(frame.subarray(start, end));
    value = unpack(frame, { extensionCodec: PLAIN_ONLY, mapKeyConverter: textKeys });
  } catch {
    // The cause would show what was sent: it is dropped on purpose.
    throw new ProtocolProblem("not_a_message", "text that is not UTF-8, or odd keys");
  }
  const [kind, second, third, fourth] = value;
  if (kind === RESPONSE && value.length === 4 && isMsgid(second)) {
    return { kind, msgid: second, error: third, result: fourth };
  }
  if (kind === NOTIFICATION && value.length === 3 && typeof second === "string") {
    return { kind, method: second, params: paramsOf(third) };
  }
  if (kind === REQUEST && value.length === 4 && isMsgid(second) && typeof third === "string") {
    throw new ProtocolProblem("wrong_direction", "this side never sends that");
  }
  const message = "neither request nor response nor notification";
  throw new ProtocolProblem("not_a_message", message);
}

/** The map inside `params`; null when it has another shape. */
function paramsOf(params) {
  if (!Array.isArray(params) || params.length > 1) return null;
  const [found] = params;
  if (isMap(found)) return found;
  const isEmpty = found === undefined || found === null;
  return isEmpty || (Array.isArray(found) && !found.length) ? {} : null;
}
