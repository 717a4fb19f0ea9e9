// The body of a request as the bytes to send.

import { UsageError } from "./errors.js";
import { MAX_BODY } from "./wire/limits.js";
import { isMap } from "./wire/messages.js";

const LONE_SURROGATE = /\p{Surrogate}/u;

/** The bytes to send. Throws UsageError `bad_body`, `body_too_large`. */
export function bodyOf(body) {
  let data;
  if (body instanceof ArrayBuffer) data = new Uint8Array(body);
  else if (ArrayBuffer.isView(body)) {
    data = new Uint8Array(body.buffer, body.byteOffset, body.byteLength);
  } else data = textOf(body);
  if (data.length > MAX_BODY) {
    const message = `a body has at most ${MAX_BODY} bytes, this one ${data.length}`;
    throw new UsageError("body_too_large", message, "Shorten the prompt");
  }
  return data;
}

function textOf(body) {
  let text = typeof body === "string" ? body : undefined;
  try {
    if (isMap(body)) text = JSON.stringify(body);
  } catch {
    // said below
  }
  if (text === undefined || LONE_SURROGATE.test(text)) {
    const message = "a body is bytes, text or an object that JSON can say";
    throw new UsageError("bad_body", message, "Change the request");
  }
  return new TextEncoder().encode(text);
}
