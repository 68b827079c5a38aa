// OpenAI's SDK: see sdk.mjs. `EMBEDDING_MODEL` is in the environment too.
import { load } from "./modules.mjs";
import { FEW, NUMBERS, SLOW, TOOL, fetch, sum, tell } from "./sdk.mjs";

const { MODULES, BASE_URL, API_KEY, MODEL: model, EMBEDDING_MODEL } = process.env;
const { default: OpenAI } = await load(MODULES, "openai");
const client = new OpenAI({ baseURL: BASE_URL, apiKey: API_KEY, fetch });

const ls = { name: "ls", description: "Lists files", parameters: { type: "object", properties: { path: { type: "string" } } } };

// Of numbers that hold cached and written tokens to those that do not.
const usageOf = ([input, inputDetails], [output, outputDetails]) => {
  const { cached_tokens: cacheRead = 0, cache_write_tokens: cacheWrite = 0 } = inputDetails ?? {};
  const { reasoning_tokens: reasoning = 0 } = outputDetails ?? {};
  return { input: input - cacheRead - cacheWrite, cacheRead, cacheWrite, output, reasoning };
};

// === chat completions ===

const chatUsage = (usage) =>
  usageOf(
    [usage.prompt_tokens, usage.prompt_tokens_details],
    [usage.completion_tokens, usage.completion_tokens_details],
  );

const chat = (content, more) => client.chat.completions.create({ model, messages: [{ role: "user", content }], ...more });

const chatStream = async (content, more) => {
  let [id, text, usage] = [undefined, "", undefined];
  for await (const chunk of await chat(content, { stream: true, ...more })) {
    id = chunk.id;
    text += chunk.choices[0]?.delta.content ?? "";
    if (chunk.usage) usage = chatUsage(chunk.usage);
  }
  return { ids: [id], text, usage };
};

const chatWhole = async (content) => {
  const { id, choices, usage } = await chat(content);
  return { ids: [id], text: choices[0].message.content, usage: chatUsage(usage) };
};

await tell("chat", (start) => chatWhole(`${start} whole ${NUMBERS}`));

await tell("chat-stream", (start) =>
  chatStream(`${start} [[words=5]] ${NUMBERS}`, { stream_options: { include_usage: true } }),
);

// Who does not ask for usage is not told.
await tell("chat-stream-bare", (start) => chatStream(`${start} [[words=5]] ${NUMBERS}`));

await tell("chat-aborted", async (start) => {
  let [id, text] = [undefined, ""];
  const stream = await chat(`${start} ${SLOW}`, { stream: true });
  let read = 0;
  for await (const chunk of stream) {
    id = chunk.id;
    text += chunk.choices[0]?.delta.content ?? "";
    read += 1;
    if (read === FEW) stream.controller.abort();
  }
  return { ids: [id], text };
});

await tell("chat-tool", async (start) => {
  const messages = [{ role: "user", content: `${start} ${TOOL}` }];
  const tools = [{ type: "function", function: ls }];
  const asked = await client.chat.completions.create({ model, messages, tools });
  const { message } = asked.choices[0];
  const [{ id: tool_call_id, function: called }] = message.tool_calls;
  messages.push(message, { role: "tool", tool_call_id, content: `${called.name} ${called.arguments}` });
  const answered = await client.chat.completions.create({ model, messages, tools });
  return {
    ids: [asked.id, answered.id],
    text: answered.choices[0].message.content,
    usage: sum(chatUsage(asked.usage), chatUsage(answered.usage)),
  };
});

// === responses ===

const responseUsage = (usage) =>
  usageOf([usage.input_tokens, usage.input_tokens_details], [usage.output_tokens, usage.output_tokens_details]);

const responseTold = ({ id, output_text: text, usage }) => ({ ids: [id], text, usage: responseUsage(usage) });

await tell("responses", async (start) =>
  responseTold(await client.responses.create({ model, input: `${start} whole ${NUMBERS}` })),
);

await tell("responses-stream", async (start) => {
  const input = [{ role: "user", content: [{ type: "input_text", text: `${start} [[words=5]] ${NUMBERS}` }] }];
  let [text, last] = ["", undefined];
  for await (const event of await client.responses.create({ model, input, stream: true })) {
    if (event.type === "response.output_text.delta") text += event.delta;
    last = event;
  }
  const { id, usage } = last.response;
  return { ids: [id], text, usage: responseUsage(usage) };
});

// By the SDK's own helper, which puts the events together.
await tell("responses-helper", async (start) =>
  responseTold(await client.responses.stream({ model, input: `${start} [[words=5]] ${NUMBERS}` }).finalResponse()),
);

await tell("responses-aborted", async (start) => {
  const stream = await client.responses.create({ model, input: `${start} ${SLOW}`, stream: true });
  let [id, text, read] = [undefined, "", 0];
  for await (const event of stream) {
    id ??= event.response?.id;
    if (event.type !== "response.output_text.delta") continue;
    text += event.delta;
    read += 1;
    if (read === FEW) break;
  }
  return { ids: [id], text };
});

await tell("responses-tool", async (start) => {
  const input = [{ role: "user", content: `${start} ${TOOL}` }];
  const tools = [{ type: "function", strict: false, ...ls }];
  const asked = await client.responses.create({ model, input, tools });
  const [called] = asked.output;
  const output = `${called.name} ${called.arguments}`;
  input.push(called, { type: "function_call_output", call_id: called.call_id, output });
  const answered = await client.responses.create({ model, input, tools });
  return {
    ids: [asked.id, answered.id],
    text: answered.output_text,
    usage: sum(responseUsage(asked.usage), responseUsage(answered.usage)),
  };
});

// === embeddings ===

await tell("embeddings", async (start) => {
  const input = [`${start} [[in=70]]`, "another"];
  const { data, usage } = await client.embeddings.create({ model: EMBEDDING_MODEL, input });
  const text = data.map(({ embedding }) => embedding.join(" ")).join("\n");
  return { ids: [], text, usage: usageOf([usage.prompt_tokens], [0]) };
});

// === errors ===

await tell("chat-retried", (start) => chatWhole(`${start} [[status=500]] [[times=1]] ${NUMBERS}`));

await tell("chat-failed", (start) => chatWhole(`${start} [[status=500]]`));

await tell("chat-stream-failed", (start) => chatStream(`${start} [[status=503]]`));
