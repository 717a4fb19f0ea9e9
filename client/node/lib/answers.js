// What an answer says, in whichever of Copilot's three dialects.
//
//   Chat Completions   choices[].delta (or .message)
//   Responses          response.output_text.delta; output[] of a whole one
//   Messages           content_block_delta; content[]
//
// It forgives what Copilot is known for: several choices where one was asked for, choices without
// index, content that is null, Anthropic's shape under OpenAI's path. Nothing here throws.

import { isMap } from "./wire/messages.js";

/** Types of events that are errors, with or without a field `error` (Responses, Messages). */
const FAILED = new Set(["error", "response.failed"]);

/** Whether an event of a stream, or an answer under 200, is an error. */
export const isError = (event) => Boolean(event.error) || FAILED.has(event.type);

/** What a completion, or one event of a stream, adds to the first choice's text. */
export function textIn(event) {
  const { choices } = event;
  if (choices === undefined || choices === null) return textWithoutChoices(event);
  for (const [position, choice] of (Array.isArray(choices) ? choices : []).entries()) {
    if (!isMap(choice)) continue;
    const index = choice.index === undefined ? position : choice.index;
    if (index !== 0 && index !== null) continue;
    const { delta } = choice;
    const said = isMap(delta) && Object.keys(delta).length ? delta : choice.message;
    const text = isMap(said) ? plain(said.content) : "";
    if (text) return text;
  }
  return "";
}

function textWithoutChoices({ type, delta, output, content }) {
  if (isMap(delta)) return plain([delta]);
  if (typeof delta === "string") return type === "response.output_text.delta" ? delta : "";
  if (!Array.isArray(output)) return plain(content);
  // Thoughts have content, too: only a message is speech.
  const messages = output.filter((item) => isMap(item) && item.type === "message");
  return messages.map((message) => plain(message.content)).join("");
}

/** Content is text, null, or parts of which some are text. */
function plain(content) {
  if (typeof content === "string") return content;
  const parts = (Array.isArray(content) ? content : []).filter(isMap);
  return parts.map(({ text }) => (typeof text === "string" ? text : "")).join("");
}
