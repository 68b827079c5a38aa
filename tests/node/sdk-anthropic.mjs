// Anthropic's SDK: see sdk.mjs.
import { load } from "./modules.mjs";
import { FEW, NUMBERS, SLOW, TOOL, fetch, sum, tell } from "./sdk.mjs";

const { MODULES, BASE_URL, API_KEY, MODEL: model } = process.env;
const { default: Anthropic } = await load(MODULES, "@anthropic-ai/sdk");
const client = new Anthropic({ baseURL: BASE_URL, apiKey: API_KEY, fetch });

const CACHED = `${NUMBERS} [[cache_write=40]]`;

const of = (content, more) => ({ model, max_tokens: 1000, messages: [{ role: "user", content }], ...more });

const usageOf = (usage) => ({
  input: usage.input_tokens,
  cacheRead: usage.cache_read_input_tokens ?? 0,
  cacheWrite: usage.cache_creation_input_tokens ?? 0,
  output: usage.output_tokens,
  reasoning: usage.output_tokens_details?.thinking_tokens ?? 0,
});

const told = ({ id, content, usage }) => ({ ids: [id], text: content[0].text, usage: usageOf(usage) });

const whole = async (content) => told(await client.messages.create(of(content)));

await tell("messages", (start) => whole(`${start} whole ${CACHED}`));

await tell("messages-stream", async (start) => {
  let [id, text, usage] = [undefined, "", undefined];
  const request = of(`${start} [[words=5]] ${CACHED}`, { stream: true });
  for await (const event of await client.messages.create(request)) {
    if (event.type === "message_start") {
      id = event.message.id;
      usage = event.message.usage;
    }
    if (event.type === "content_block_delta") text += event.delta.text;
    // What it tells is counted from the beginning of the message.
    if (event.type === "message_delta") usage = { ...usage, ...event.usage };
  }
  return { ids: [id], text, usage: usageOf(usage) };
});

// By the SDK's own helper, which puts the events together.
await tell("messages-helper", async (start) =>
  told(await client.messages.stream(of(`${start} [[words=5]] ${CACHED}`)).finalMessage()),
);

await tell("messages-aborted", async (start) => {
  const stream = await client.messages.create(of(`${start} ${SLOW}`, { stream: true }));
  let [id, text, read] = [undefined, "", 0];
  for await (const event of stream) {
    id ??= event.message?.id;
    if (event.type !== "content_block_delta") continue;
    text += event.delta.text;
    read += 1;
    if (read === FEW) stream.controller.abort();
  }
  return { ids: [id], text };
});

// The helper says that it was left.
await tell("messages-helper-aborted", async (start) => {
  const stream = client.messages.stream(of(`${start} ${SLOW}`));
  let read = 0;
  stream.on("text", () => {
    read += 1;
    if (read === FEW) stream.abort();
  });
  return told(await stream.finalMessage());
});

await tell("messages-tool", async (start) => {
  const request = of(`${start} ${TOOL}`, {
    tools: [{ name: "ls", input_schema: { type: "object", properties: { path: { type: "string" } } } }],
  });
  const asked = await client.messages.stream(request).finalMessage();
  const [{ id: tool_use_id, name, input }] = asked.content;
  const result = { type: "tool_result", tool_use_id, content: `${name} ${JSON.stringify(input)}` };
  request.messages.push({ role: "assistant", content: asked.content }, { role: "user", content: [result] });
  const answered = await client.messages.create(request);
  return {
    ids: [asked.id, answered.id],
    text: answered.content[0].text,
    usage: sum(usageOf(asked.usage), usageOf(answered.usage)),
  };
});

// === errors ===

await tell("messages-retried", (start) => whole(`${start} [[status=529]] [[times=1]] ${CACHED}`));

await tell("messages-failed", (start) => whole(`${start} [[status=529]]`));

await tell("messages-stream-failed", (start) => client.messages.create(of(`${start} [[status=500]]`, { stream: true })));
