// How an answer is read. Each throws InternalError `bad_answer`.

import { badAnswer } from "./failures.js";
import { isCount, isMap } from "./wire/messages.js";

/** The result, if it is that of a method that streams. */
export function checkedStream(method, result) {
  if (!isMap(result) || !isCount(result.stream)) throw badAnswer(`${method} does not stream`);
  return result;
}

/** The result of a method whose answers are maps. */
export function mapOf(result, method) {
  if (!isMap(result)) throw badAnswer(`the answer to ${method} is no map`);
  return result;
}

/** A list of maps out of a result. */
export function mapsOf(result, key, method) {
  const found = isMap(result) ? result[key] : null;
  if (!Array.isArray(found) || !found.every(isMap)) {
    throw badAnswer(`the answer to ${method} holds no ${key}`);
  }
  return found;
}

/** A text out of a result. */
export function textOf(result, key, method) {
  const found = isMap(result) ? result[key] : null;
  if (typeof found !== "string") throw badAnswer(`the answer to ${method} holds no ${key}`);
  return found;
}
