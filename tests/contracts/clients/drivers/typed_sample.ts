// Does what a typed program does, and what it must not: each `@ts-expect-error` is an error of types.

import {
  Client,
  Completion,
  CopilotBrokerError,
  ErrorClass,
  Temporary,
  Token,
  UpstreamRefused,
} from "copilot-broker";

export async function use(signal: AbortSignal): Promise<string> {
  const broker = new Client({ timeout: 5, name: "sample" });
  const token: Token = await broker.token({ min_valid: 300, signal });
  const secret: string = token.token;
  const until: number | null = token.cooldown_until;
  const answer: Completion = await broker.complete({ model: "m", messages: [] }, { timeout: 9 });
  const bytes: Uint8Array = answer.body;
  const stream = await broker.stream(bytes, { path: "/responses", headers: { a: "b" } });
  for await (const chunk of stream) {
    const size: number = chunk.byteLength;
    if (size > until!) break;
  }
  let said = "";
  for await (const text of (await broker.stream("{}")).text()) said += text;
  for await (const event of await broker.watch({ account: "work" })) said += event.event;
  try {
    const key = await broker.mint_key("label", ["gpt-*"], { expires_in: 60 });
    said += key.key;
  } catch (error) {
    if (error instanceof UpstreamRefused) said += error.status;
    if (error instanceof Temporary) said += error.retry_after ?? 0;
    if (error instanceof CopilotBrokerError && error.error_class === ErrorClass.DENIED) throw error;
  }
  // @ts-expect-error - the names are Python's
  await broker.token({ minValid: 300 });
  // @ts-expect-error - there is none without an account
  await broker.use();
  // @ts-expect-error - nobody makes one
  new Token({});
  // @ts-expect-error - it is read only
  token.account = "other";
  await broker.close();
  return secret + said;
}
