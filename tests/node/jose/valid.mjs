// Tokens in which nothing is wrong.
import { ALGS, AUDIENCE, BASE, NOW, times } from "./tokens.mjs";

const SUBJECTS = [
  "alice",
  "auth0|5f7c8ec7c33c6c004bbafe82",
  "Ünïcödé",
  "日本語",
  "a".repeat(255),
  "x y",
  "🙂",
  "10001",
];
const EXTRAS = [
  {},
  { scope: "openid openclaw" },
  { groups: ["staff", "admins"] },
  { groups: [] },
  { email: "a@example.com", email_verified: true },
  { name: 'Alice "A" \\ Example' },
  { jti: "j-1", client_id: "gateway" },
  { sid: "s", azp: "gateway" },
  { acr: "0" },
  { auth_time: NOW },
  { realm_access: { roles: ["a"] }, resource_access: { account: { roles: ["b", "c"] } } },
  { nonce: "n" },
  { "": 1, " ": null },
  { a: [[[[1]]]], b: 1e300, c: -0, d: 12345678901234567890 },
  { __proto__x: 1, constructor: 2 },
  { scp: ["a", "b"] },
];

export const valid = (maker) =>
  times(1200, (i) => {
    const { random } = maker;
    const alg = ALGS[i % 4];
    const claims = maker.claims({ ...random.one(EXTRAS), ...random.one(EXTRAS), sub: random.one(SUBJECTS) });
    if (random.heads())
      claims.aud = random.one([[AUDIENCE], ["other", AUDIENCE], [AUDIENCE, AUDIENCE], Array(40).fill(AUDIENCE)]);
    if (random.heads()) claims.nbf = NOW - random.below(1000);
    if (random.heads()) claims.exp = NOW + random.below(100_000) + random.below(1000) / 1000;
    if (random.heads(4)) delete claims.iat;
    const header = maker.header(alg);
    if (random.heads())
      header.typ = random.one(["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", "Application/JWT"]);
    if (random.heads(4)) delete header.typ;
    if (random.heads(8) && alg === "PS256") delete header.kid;
    if (random.heads(4)) header.cty = "JWT";
    const indent = random.heads() ? undefined : random.one([1, "\t", "\n"]);
    maker.add(
      "valid",
      maker.token(JSON.stringify(header, null, indent), JSON.stringify(claims, null, indent), { alg, key: BASE[alg] }),
    );
  });
