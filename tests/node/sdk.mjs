// What the scripts of official SDKs have in common, which tests/tests/sdks/ runs: sdk-openai.mjs and sdk-anthropic.mjs.
//
// The environment: `MODULES` (the `node_modules` with the SDKs), `BASE_URL` and `API_KEY` for the SDK, `MODEL`, and `MARK`,
// which every message begins with. Each call prints one line of JSON:
//
//   call      its name; its messages begin with `MARK NAME: `
//   ids       those of the answers, where answers have one
//   text      what was answered
//   usage     tokens by class, as the SDK tells them; absent where it does not
//   error     how the SDK failed
//   answers   status and headers of each response, those to attempts that the SDK has repeated among them
const { MARK } = process.env;

// Wanted of most calls: every class is another number.
export const NUMBERS = "[[in=900]] [[cache_read=60]] [[out=120]] [[reasoning=30]]";

// For answers that nobody waits for: they take two seconds.
export const SLOW = "[[in=500]] [[out=200]] [[words=80]] [[chunk_delay=25]]";

export const TOOL = '[[tool=ls {"path":"."}]] [[in=300]] [[out=30]]';

// So many chunks are read of an answer that nobody waits for.
export const FEW = 5;

let answers;

// For the SDK: as the real one, but remembers what was answered.
export const fetch = async (...request) => {
  const response = await globalThis.fetch(...request);
  answers.push({ status: response.status, headers: Object.fromEntries(response.headers) });
  return response;
};

// tell(NAME, ASK): prints what comes of ASK(START), where START is how the messages begin.
export const tell = async (call, ask) => {
  answers = [];
  let told;
  try {
    told = await ask(`${MARK} ${call}:`);
  } catch (error) {
    told = { error: { name: error.constructor.name, status: error.status, message: error.message, body: error.error } };
  }
  console.log(JSON.stringify({ call, ...told, answers }));
};

// The classes of each of USAGES added up.
export const sum = (...usages) => {
  const names = ["input", "cacheRead", "cacheWrite", "output", "reasoning"];
  return Object.fromEntries(names.map((name) => [name, usages.reduce((all, usage) => all + usage[name], 0)]));
};
