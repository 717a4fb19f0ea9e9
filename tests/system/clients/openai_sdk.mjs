// openai for Node: the same scenes as openai_sdk.py; see driving.py for what goes in and out.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const require = createRequire(process.argv[2] + "/of-the-clients.js");
const { default: OpenAI } = await import(pathToFileURL(require.resolve("openai")));
const { Agent, fetch } = require("undici");

const given = JSON.parse(readFileSync(0, "utf8"));
const WISH = 'Please use get_weather with {"city": "Zürich"} and tell me.';
const WEATHER = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const TOOL = { type: "function", function: { name: "get_weather", parameters: WEATHER } };
const FLAT_TOOL = { type: "function", name: "get_weather", parameters: WEATHER, strict: false };
const PICTURE =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

function client(way, key) {
  const more = way.socket
    ? { fetch, fetchOptions: { dispatcher: new Agent({ connect: { socketPath: way.socket } }) } }
    : {};
  return new OpenAI({ baseURL: `${way.root}/v1`, apiKey: key ?? way.key, maxRetries: 0, timeout: 30000, ...more });
}
const said = (content) => [{ role: "user", content }];
const weather = ({ city }) => `rain in ${city}`;

async function usedTool(way, model) {
  const c = client(way), messages = said(WISH);
  const first = (await c.chat.completions.create({ model, messages, tools: [TOOL] })).choices[0];
  const [call] = first.message.tool_calls;
  const content = weather(JSON.parse(call.function.arguments));
  messages.push(first.message, { role: "tool", tool_call_id: call.id, content });
  const last = (await c.chat.completions.create({ model, messages, tools: [TOOL] })).choices[0];
  return [first.finish_reason, call.function.name, last.message.content];
}

async function streamed(way, model) {
  const stream = client(way).responses.stream({ model, input: "hi" });
  let text = "";
  for await (const event of stream) if (event.type === "response.output_text.delta") text += event.delta;
  const final = await stream.finalResponse();
  return [text, final.output_text, final.status];
}

async function refused(way, key, model = "sim-chat") {
  const c = client(way, key);
  try {
    for (let i = 0; i < 3; i++) await c.chat.completions.create({ model, messages: said("hi") });
  } catch (error) {
    return told(error);
  }
  return null;
}
const told = (error) => ({
  kind: error.constructor.name, status: error.status ?? null, body: error.error ?? null,
  retry_after: error.headers?.get("retry-after") ?? null, text: String(error).slice(0, 300),
});

const SCENES = {
  async models(way) {
    const found = [];
    for await (const each of client(way).models.list()) found.push([each.id, each.object, each.owned_by]);
    return found;
  },
  async model(way) {
    const each = await client(way).models.retrieve("sim-chat");
    return [each.id, each.object, each.owned_by, each.created];
  },
  async chat(way) {
    const answer = await client(way).chat.completions.create({ model: "sim-chat", messages: said("Grüße") });
    const [choice] = answer.choices;
    return [choice.message.content, choice.finish_reason, answer.usage.total_tokens > 0];
  },
  async chat_stream(way) {
    const stream = await client(way).chat.completions.create({
      model: "sim-chat", messages: said("Grüße"), stream: true, stream_options: { include_usage: true },
    });
    const pieces = [], ends = [];
    let usage = null;
    for await (const chunk of stream) {
      usage = chunk.usage ?? usage;
      for (const choice of chunk.choices) {
        pieces.push(choice.delta.content ?? "");
        ends.push(choice.finish_reason);
      }
    }
    return [pieces.join(""), pieces.length > 3, ends.at(-1), usage.total_tokens > 0];
  },
  async chat_first_chunk(way) {
    const model = "sim-quirk-prompt_filter";
    const stream = await client(way).chat.completions.create({ model, messages: said("hi"), stream: true });
    let text = "";
    for await (const chunk of stream) text += chunk.choices[0].delta.content ?? "";
    return text;
  },
  async chat_helper(way) {
    const stream = client(way).chat.completions.stream({ model: "sim-claude", messages: said("hi") });
    let text = "";
    stream.on("content", (piece) => (text += piece));
    const final = (await stream.finalChatCompletion()).choices[0];
    return [text, final.message.content, final.finish_reason];
  },
  tools: (way) => usedTool(way, "sim-chat"),
  tools_translated_to_responses: (way) => usedTool(way, "sim-responses"),
  async tools_run(way) {
    // The SDK itself calls the tool and goes on.
    const run = client(way).chat.completions.runTools({
      model: "sim-claude", stream: true, messages: said(WISH),
      tools: [{ type: "function", function: { ...TOOL.function, function: weather, parse: JSON.parse } }],
    });
    return await run.finalContent();
  },
  async vision(way) {
    const content = [
      { type: "text", text: "What is this?" },
      { type: "image_url", image_url: { url: `data:image/png;base64,${PICTURE}` } },
    ];
    const answer = await client(way).chat.completions.create({ model: "sim-chat", messages: said(content) });
    return answer.choices[0].message.content;
  },
  async embeddings(way) {
    const c = client(way), input = ["one", "two"];
    const answer = await c.embeddings.create({ model: "sim-embedding", input, dimensions: 4 });
    const floats = await c.embeddings.create({
      model: "an-alias-of-mine", input, dimensions: 4, encoding_format: "float",
    });
    const close = answer.data.every((each, i) =>
      each.embedding.every((value, j) => Math.abs(value - floats.data[i].embedding[j]) < 1e-6));
    return [answer.data.length, answer.data[0].embedding.length, close, answer.usage.total_tokens > 0];
  },
  async responses(way) {
    const answer = await client(way).responses.create({ model: "sim-responses", input: "Grüße", store: true });
    return [answer.output_text, answer.status, answer.usage.total_tokens > 0];
  },
  responses_stream: (way) => streamed(way, "sim-quirk-unstable_ids"),
  responses_translated_to_chat: (way) => streamed(way, "sim-chat"),
  async responses_tools(way) {
    const c = client(way), model = "sim-responses", input = said(WISH);
    const first = await c.responses.create({ model, input, tools: [FLAT_TOOL] });
    const call = first.output.find((each) => each.type === "function_call");
    const output = weather(JSON.parse(call.arguments));
    input.push(...first.output, { type: "function_call_output", call_id: call.call_id, output });
    const last = await c.responses.create({ model, input, tools: [FLAT_TOOL] });
    return [call.name, last.output_text];
  },
  unknown_model: (way) => refused(way, undefined, "no-such-model"),
  async unknown_model_retrieved(way) {
    try {
      await client(way).models.retrieve("no-such-model");
    } catch (error) {
      return told(error);
    }
    return null;
  },
  wrong_key: (way) => refused(way, way.wrong_key),
  limited_by_key: (way) => refused(way, way.limited_key),
  limited_upstream: (way) => refused(way, undefined, "sim-small"),
  async broken_stream(way) {
    try {
      const model = "sim-quirk-error_midstream";
      const stream = await client(way).chat.completions.create({ model, messages: said("hi"), stream: true });
      let text = "";
      for await (const chunk of stream) text += chunk.choices[0].delta.content ?? "";
      return text;
    } catch (error) {
      return told(error);
    }
  },
};

const { socket, ...rest } = given;
const ways = { tcp: rest, unix: { ...rest, root: "http://localhost", key: "not-needed", socket } };
const found = {};
for (const [name, way] of Object.entries(ways)) {
  found[name] = {};
  for (const [scene, play] of Object.entries(SCENES)) {
    try {
      found[name][scene] = await play(way);
    } catch (error) {
      found[name][scene] = { failed: String(error), where: String(error?.stack).split("\n").slice(0, 12) };
    }
  }
}
console.log(JSON.stringify(found));
process.exit(0);
