// What panva's `jose` says of thousands of tokens, for tests/tests/jose.rs to hold ours against.
//
//   node jose.mjs --modules DIR [--seed N]
//
// Prints lines of JSON: first {seed, jwks, issuer, audience, now, leeway}, then {kind, token, refused, subject} for each
// token, where `refused` is jose's error code, or null, and then `subject` is whose it is. The clock stands still.
import { parseArgs } from "node:util";

import { edges, names, pairs, types } from "./jose/claims.mjs";
import { algorithms, headers } from "./jose/headers.mjs";
import { json } from "./jose/json.mjs";
import { signatures } from "./jose/signatures.mjs";
import { broken, flipped, spellings } from "./jose/text.mjs";
import { AUDIENCE, chance, ISSUER, makeKeys, Maker, NOW } from "./jose/tokens.mjs";
import { valid } from "./jose/valid.mjs";
import { load } from "./modules.mjs";

const { values: args } = parseArgs({
  options: { modules: { type: "string" }, seed: { type: "string", default: "1" } },
});
const { createLocalJWKSet, jwtVerify } = await load(args.modules, "jose");

const LEEWAY = 60;
const { keys, jwks } = makeKeys();
const set = createLocalJWKSet(jwks);
const options = {
  issuer: ISSUER,
  audience: AUDIENCE,
  // `Ed25519` is what RFC 9864 calls the one curve of `EdDSA` that is in use.
  algorithms: ["RS256", "PS256", "ES256", "EdDSA", "Ed25519"],
  requiredClaims: ["exp", "sub", "aud", "iss"],
  clockTolerance: LEEWAY,
  currentDate: new Date(NOW * 1000),
};

const lines = [{ seed: Number(args.seed), jwks, issuer: ISSUER, audience: AUDIENCE, now: NOW, leeway: LEEWAY }];
const maker = new Maker(keys, chance(Number(args.seed)));
const kinds = [valid, broken, flipped, spellings, types, edges, names, headers, algorithms, json, signatures, pairs];
for (const make of kinds) make(maker);
for (const { kind, token } of maker.tokens) {
  const answer = await jwtVerify(token, set, options).then(
    ({ payload }) => ({ refused: null, subject: typeof payload.sub === "string" ? payload.sub : null }),
    (error) => ({ refused: error.code ?? error.name }),
  );
  lines.push({ kind, token, ...answer });
}
process.stdout.write(lines.map((line) => JSON.stringify(line)).join("\n"));
