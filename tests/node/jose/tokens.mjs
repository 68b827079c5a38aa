// Makes tokens of every kind that a verifier has to tell apart. The choices follow from a seed; keys and some signatures
// are random, as these algorithms want it.
import { constants, createHmac, generateKeyPairSync, sign as signBytes } from "node:crypto";

export const ISSUER = "https://login.example.com";
export const AUDIENCE = "openclaw";
export const NOW = 1_800_000_000;

export const b64 = (bytes) => Buffer.from(bytes).toString("base64url");
export const times = (n, make) => {
  for (let i = 0; i < n; i += 1) make(i);
};

// === chance ===

// Mulberry32, a small generator of 32-bit numbers.
export const chance = (seed) => {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (t ^ (t >>> 14)) >>> 0;
  };
  const below = (n) => next() % n;
  return { below, one: (list) => list[below(list.length)], heads: (n = 2) => below(n) === 0 };
};

// === keys ===

const pair = (kid, type, options, extra = {}) => {
  const { publicKey, privateKey } = generateKeyPairSync(type, options);
  return { kid, publicKey, privateKey, jwk: { ...publicKey.export({ format: "jwk" }), kid, ...extra } };
};

export const makeKeys = () => {
  const rsa = { modulusLength: 2048 };
  const all = [
    pair("rs", "rsa", rsa, { alg: "RS256", use: "sig" }),
    // For any algorithm that takes such a key.
    pair("ps", "rsa", rsa),
    pair("es", "ec", { namedCurve: "P-256" }, { alg: "ES256", use: "sig" }),
    pair("es-2", "ec", { namedCurve: "P-256" }, { alg: "ES256", key_ops: ["verify"] }),
    pair("ed", "ed25519", {}, { use: "sig" }),
    pair("ed-alg", "ed25519", {}, { alg: "EdDSA" }),
    // None of these may verify anything.
    pair("enc", "rsa", rsa, { use: "enc" }),
    pair("weak", "rsa", { modulusLength: 1024 }, { alg: "RS256" }),
    pair("p384", "ec", { namedCurve: "P-384" }, { alg: "ES384" }),
  ];
  const keys = Object.fromEntries(all.map((key) => [key.kid, key]));
  const oct = { kty: "oct", kid: "oct", k: b64(Buffer.alloc(32, 7)) };
  return { keys, jwks: { keys: [...all.map(({ jwk }) => jwk), oct] } };
};

const hashes = { 256: "sha256", 384: "sha384", 512: "sha512" };

// A signature by ALG, or by what ALG stands for in the options.
export const signature = (alg, key, input, options = {}) => {
  const hash = hashes[alg.slice(2)];
  const data = Buffer.from(input);
  switch (alg.slice(0, 2)) {
    case "RS":
      return signBytes(hash, data, key.privateKey);
    case "PS":
      return signBytes(hash, data, {
        key: key.privateKey,
        padding: constants.RSA_PKCS1_PSS_PADDING,
        saltLength: options.salt ?? Number(alg.slice(2)) / 8,
      });
    case "ES":
      return signBytes(hash, data, { key: key.privateKey, dsaEncoding: options.encoding ?? "ieee-p1363" });
    case "HS":
      return createHmac(hash, options.secret).update(data).digest();
    default:
      return signBytes(null, data, key.privateKey);
  }
};

// === tokens ===

export const BASE = { RS256: "rs", PS256: "ps", ES256: "es", EdDSA: "ed" };
export const ALGS = Object.keys(BASE);

export class Maker {
  constructor(keys, random) {
    this.keys = keys;
    this.random = random;
    this.tokens = [];
  }

  add(kind, token) {
    this.tokens.push({ kind, token });
  }

  header(alg, rest = {}) {
    return { alg, kid: BASE[alg], typ: "at+jwt", ...rest };
  }

  claims(rest = {}) {
    return { iss: ISSUER, aud: AUDIENCE, sub: "alice", exp: NOW + 600, iat: NOW - 60, ...rest };
  }

  // A token of header and claims, or of any text or bytes in their place; `made` says otherwise what is usual.
  token(header, claims, made = {}) {
    const text = (part) => (typeof part === "string" || Buffer.isBuffer(part) ? part : JSON.stringify(part));
    const encode = made.encode ?? b64;
    const input = `${encode(text(header), "header")}.${encode(text(claims), "claims")}`;
    const alg = made.alg ?? header.alg;
    const key = this.keys[made.key ?? BASE[alg] ?? "rs"];
    return `${input}.${(made.finish ?? b64)(signature(alg, key, input, made))}`;
  }

  good(alg = this.random.one(ALGS)) {
    return this.token(this.header(alg), this.claims());
  }
}
