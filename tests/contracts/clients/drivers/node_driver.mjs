// Drives the Node client; see `driving.py` for what is said on stdin and stdout.

import { createInterface } from "node:readline";
import { inspect } from "node:util";

import * as library from "copilot-broker";

const { Client, Completion, CompletionStream, CopilotBrokerError, Stream, Token } = library;

let client = null;
const streams = new Map();
const aborts = new Map();

/** It as JSON can say it; bytes as {"$bytes": BASE64}. */
function plain(value) {
  if (value instanceof Uint8Array) return { $bytes: Buffer.from(value).toString("base64") };
  if (value instanceof CopilotBrokerError) return errorOf(value);
  if (value instanceof Token) return { ...value, token: value.token };
  if (value instanceof Completion || value instanceof CompletionStream) {
    const { status, headers, account, refusal, ok } = value;
    const body = value instanceof Completion ? { body: plain(value.body) } : {};
    return { status, headers, account, refusal: plain(refusal), ok, ...body };
  }
  if (value instanceof Stream) return {};
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value === "object" && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, plain(each)]));
  }
  return value ?? null;
}

function errorOf(error) {
  if (!(error instanceof CopilotBrokerError)) {
    return { kinds: [error.constructor.name], text: String(error) };
  }
  const { code, hint, url, retry_after, message, error_class, status = null } = error;
  const kinds = Object.entries(library)
    .filter(([, kind]) => typeof kind === "function" && error instanceof kind)
    .map(([name]) => name)
    .sort();
  return { kinds, code, hint, url, retry_after, message, class: error_class, status, text: String(error) };
}

const real = (value) => (value?.$bytes === undefined ? value : Buffer.from(value.$bytes, "base64"));

async function ask({ id, method, needed, options }) {
  const abort = new AbortController();
  aborts.set(id, abort);
  return await client[method](...needed.map(real), { ...options, signal: abort.signal });
}

const deeds = {
  async open({ path, options }) {
    await deeds.close();
    client = new Client({ ...options, path });
  },
  async close() {
    await client?.close();
  },
  surface() {
    const own = Object.getOwnPropertyNames(Client.prototype);
    return own.filter((name) => name !== "constructor").sort();
  },
  cancel({ call }) {
    aborts.get(call).abort();
  },
  async call(asked) {
    return plain(await ask(asked));
  },
  async shown(asked) {
    const found = await ask(asked);
    const ways = [inspect(found), inspect({ found }, { showHidden: true }), String(found), `${found}`];
    const copies = [JSON.stringify(found), JSON.stringify({ ...found }), JSON.stringify([found])];
    return { shown: [...ways, ...copies], kept: plain(found) };
  },
  async begin(asked) {
    const stream = await ask(asked);
    streams.set(asked.id, stream);
    return { stream: asked.id, ...plain(stream) };
  },
  /** Take items until the end, or leave after some, as a program would. */
  async items({ stream: id, what, count, leave }) {
    const stream = streams.get(id);
    const items = [];
    let error = null;
    try {
      if (leave || count === null) {
        for await (const item of what === "chunks" ? stream : stream[what]()) {
          items.push(plain(item));
          if (items.length === count) break;
        }
      } else {
        while (items.length < count) {
          const { done, value } = await stream.next();
          if (done) break;
          items.push(plain(value));
        }
      }
    } catch (raised) {
      error = errorOf(raised);
    }
    return { items, error, refusal: plain(stream.refusal) };
  },
  leave({ stream }) {
    streams.get(stream).close();
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const asked = JSON.parse(line);
  Promise.resolve()
    .then(() => deeds[asked.do](asked))
    .then((ok) => ({ ok: ok ?? null }))
    .catch((error) => (error?.name === "AbortError" ? { cancelled: true } : { error: errorOf(error) }))
    .then((told) => process.stdout.write(`${JSON.stringify({ id: asked.id, ...told })}\n`));
}
