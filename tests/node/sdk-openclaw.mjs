// OpenAI's SDK at the gateway's own API: see sdk.mjs. `MODEL` is not needed; every run is the agent's.
import { load } from "./modules.mjs";
import { NUMBERS, fetch, tell } from "./sdk.mjs";

const { MODULES, BASE_URL, API_KEY } = process.env;
const { default: OpenAI } = await load(MODULES, "openai");
const client = new OpenAI({ baseURL: BASE_URL, apiKey: API_KEY, fetch });
const model = "openclaw";

const chat = (content, more) => client.chat.completions.create({ model, messages: [{ role: "user", content }], ...more });

await tell("chat", async (start) => {
  const { id, choices } = await chat(`${start} ${NUMBERS}`);
  return { ids: [id], text: choices[0].message.content };
});

await tell("models", async () => {
  const names = [];
  for await (const { id } of client.models.list()) names.push(id);
  return { text: names.join(" ") };
});

await tell("model", async () => ({ text: (await client.models.retrieve("openclaw/default")).id }));

await tell("chat-stream", async (start) => {
  let [id, text] = [undefined, ""];
  for await (const chunk of await chat(`${start} [[words=5]]`, { stream: true, stream_options: { include_usage: true } })) {
    id = chunk.id;
    text += chunk.choices[0]?.delta.content ?? "";
  }
  return { ids: [id], text };
});

await tell("image", async (start) => {
  const url = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
  const { id, choices } = await chat([
    { type: "text", text: start },
    { type: "image_url", image_url: { url } },
  ]);
  return { ids: [id], text: choices[0].message.content };
});

await tell("responses", async (start) => {
  const { id, output_text: text } = await client.responses.create({ model, input: [{ role: "user", content: start }] });
  return { ids: [id], text };
});

await tell("responses-helper", async (start) => {
  const { id, output_text: text } = await client.responses.stream({ model, input: `${start} [[words=5]]` }).finalResponse();
  return { ids: [id], text };
});

await tell("remembers", async (start) => {
  const first = await client.responses.create({ model, input: `${start} first` });
  const next = await client.responses.create({ model, input: `${start} next`, previous_response_id: first.id });
  return { ids: [first.id, next.id], text: String(next.usage.total_tokens > 0) };
});

await tell("wrong-model", async (start) => {
  await client.chat.completions.create({ model: "openclaw/main", messages: [{ role: "user", content: start }] });
});

await tell("wrong-member", async (start) => {
  await client.responses.create({ model, input: start, conversation: "conv_1" });
});
