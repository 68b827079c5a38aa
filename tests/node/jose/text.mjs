// Mutations of the text of a token: after it was signed, and in how it is spelled.
import { ALGS, BASE, b64, times } from "./tokens.mjs";

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const STRANGE = ["=", "+", "/", ".", " ", "\n", "\t", "\0", "é", "\u200b", "\ufeff", "%", ",", "𝐀", "~"];

export const broken = (maker) => {
  const { random } = maker;
  const at = (token) => random.below(token.length);
  times(1500, () => {
    const token = maker.good();
    const place = at(token);
    const put = (cut, text) => token.slice(0, place) + text + token.slice(place + cut);
    const parts = token.split(".");
    const other = maker.token(maker.header("ES256"), maker.claims({ sub: "bob" })).split(".");
    const which = random.below(3);
    const [kind, changed] = random.one([
      () => ["bit", put(1, String.fromCharCode(token.charCodeAt(place) ^ (1 << random.below(7))))],
      () => ["bit", put(1, ALPHABET[random.below(64)])],
      () => ["insert", put(0, random.one([...ALPHABET.slice(0, 8), ...STRANGE]))],
      () => ["insert", put(1, random.one(STRANGE))],
      () => ["cut", put(1 + random.below(8), "")],
      () => ["cut", token.slice(0, place)],
      () => ["cut", token.slice(place)],
      () => ["parts", parts.map((part, i) => (i === which ? other[i] : part)).join(".")],
      () => ["parts", parts.map((part, i) => (i === which ? "" : part)).join(".")],
      () => ["parts", parts.filter((_, i) => i !== which).join(".")],
      () => ["parts", [parts[1], parts[0], parts[2]].join(".")],
      () => ["parts", [...parts, random.one(["", parts[which], "e30"])].join(".")],
      () => ["parts", `${token}${random.one([".", "..", "=", " ", "\n", "\0", "#", `.${token}`])}`],
      () => ["parts", `${random.one([" ", ".", "\n", "Bearer ", "\ufeff", "="])}${token}`],
      () => ["case", random.heads() ? token.toLowerCase() : token.toUpperCase()],
    ])();
    maker.add(`text: ${kind}`, changed);
  });
  for (const text of [
    "",
    ".",
    "..",
    "...",
    "a.b.c",
    "e30.e30.",
    "e30.e30.e30",
    "{}",
    "null",
    "[object Object]",
    "🙂.🙂.🙂",
  ]) {
    maker.add("text: no token", text);
  }
};

// One byte of the JSON is another, and the token is signed.
export const flipped = (maker) =>
  times(900, (i) => {
    const { random } = maker;
    const alg = ALGS[i % 4];
    const parts = [maker.header(alg), maker.claims({ name: "A", email_verified: false })].map((part) =>
      Buffer.from(JSON.stringify(part)),
    );
    const part = parts[random.heads(3) ? 0 : 1];
    const place = random.below(part.length);
    if (random.heads()) part[place] ^= 1 << random.below(8);
    else part[place] = random.below(256);
    maker.add("signed with another byte", maker.token(...parts, { alg, key: BASE[alg] }));
  });

// === base64url ===

export const spellings = (maker) => {
  const last = (text, step) => text.slice(0, -1) + ALPHABET[(ALPHABET.indexOf(text.at(-1)) + step) % 64];
  const spell = {
    padded: (text) => text + "=".repeat((4 - (text.length % 4)) % 4),
    "padded too much": (text) => `${text}==`,
    "not for URLs": (text) => text.replaceAll("-", "+").replaceAll("_", "/"),
    "bits that no byte has": (text) => (text.length % 4 === 2 || text.length % 4 === 3 ? last(text, 1) : `${text}A`),
    "one more letter": (text) => `${text}A`,
    "white space": (text) => `${text.slice(0, 4)} ${text.slice(4)}`,
    "a line end": (text) => `${text}\n`,
    "a tab before": (text) => `\t${text}`,
    "a zero byte": (text) => `${text}\0`,
  };
  for (const [name, respell] of Object.entries(spell)) {
    for (const alg of ALGS) {
      // Names of some lengths, so that all remainders are there.
      for (const sub of ["alice", "alice1", "alice12", "???>>>~~~"]) {
        const claims = maker.claims({ sub });
        for (const part of ["header", "claims"]) {
          const encode = (text, which) => (which === part ? respell(b64(text)) : b64(text));
          maker.add(`base64url: ${name}`, maker.token(maker.header(alg), claims, { encode }));
        }
        maker.add(
          `base64url: ${name}`,
          maker.token(maker.header(alg), claims, { finish: (bytes) => respell(b64(bytes)) }),
        );
      }
    }
  }
};
