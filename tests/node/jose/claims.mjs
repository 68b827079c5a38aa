// Mutations of claims, before they are signed.
import { ALGS, AUDIENCE, BASE, ISSUER, NOW, times } from "./tokens.mjs";

const CLAIMS = [
  "iss",
  "aud",
  "sub",
  "exp",
  "nbf",
  "iat",
  "jti",
  "azp",
  "client_id",
  "scope",
  "scp",
  "sid",
  "acr",
  "auth_time",
  "nonce",
  "name",
  "picture",
  "email",
  "email_verified",
  "groups",
  "at_hash",
  "c_hash",
  "events",
  "cnf",
  "unheard_of",
];
const VALUES = [
  "null",
  "true",
  "false",
  "0",
  "-1",
  "1.5",
  '""',
  '"x"',
  "[]",
  "{}",
  "[1]",
  '["x",1]',
  '[["x"]]',
  "1e400",
  "-1e400",
  "1e-400",
  `${NOW + 600}`,
  `"${NOW + 600}"`,
  '"9999999999"',
  `[${NOW + 600}]`,
  `"${ISSUER}"`,
  `["${ISSUER}"]`,
  `"${AUDIENCE}"`,
  `["${AUDIENCE}"]`,
  "99999999999999999999999",
  "253402300799",
  "253402300800",
  "9007199254740993",
];

// The JSON of the usual claims, with one of them given as text.
const withText = (maker, name, value) => {
  const { [name]: _, ...rest } = maker.claims();
  const text = JSON.stringify(rest).slice(1, -1);
  return `{${value === undefined ? text : `${text},${JSON.stringify(name)}:${value}`}}`;
};

export const types = (maker) => {
  for (const name of CLAIMS) {
    for (const value of [undefined, ...VALUES]) {
      const alg = maker.random.one(ALGS);
      maker.add(`claim: ${name}`, maker.token(maker.header(alg), withText(maker, name, value)));
    }
    const { [name]: value = 1, ...rest } = maker.claims();
    for (const other of [name.toUpperCase(), `${name} `, ` ${name}`, `${name}\0`, name.slice(1), `${name}s`]) {
      maker.add("claim: another name", maker.token(maker.header("ES256"), { ...rest, [other]: value }));
    }
  }
};

export const edges = (maker) => {
  for (const alg of ALGS) {
    for (const name of ["exp", "nbf", "iat"]) {
      for (const step of [
        -86_400, -61, -60.001, -60, -59.999, -59, -1, -0.5, 0, 0.5, 1, 59, 59.999, 60, 60.001, 61, 86_400,
      ]) {
        maker.add(`time: ${name}`, maker.token(maker.header(alg), maker.claims({ [name]: NOW + step })));
      }
    }
  }
};

export const names = (maker) => {
  const wrong = (right) => [
    right.toUpperCase(),
    `${right}/`,
    ` ${right}`,
    `${right} `,
    `${right}\0`,
    right.slice(0, -1),
    `${right}.evil.example`,
    right.replace("o", "о"),
    right.replace("e", "e\u0301"),
    `${right}#`,
    `${right}?`,
    `x${right}`,
  ];
  for (const alg of ALGS) {
    for (const iss of wrong(ISSUER)) maker.add("another issuer", maker.token(maker.header(alg), maker.claims({ iss })));
    for (const aud of wrong(AUDIENCE)) {
      maker.add("another audience", maker.token(maker.header(alg), maker.claims({ aud })));
      maker.add("another audience", maker.token(maker.header(alg), maker.claims({ aud: [aud, "x"] })));
      maker.add("one of two audiences", maker.token(maker.header(alg), maker.claims({ aud: [aud, AUDIENCE] })));
    }
    for (const sub of [
      "",
      " ",
      "alice ",
      " alice",
      "a\0b",
      "a\nb",
      "a\u007fb",
      "a\u0085b",
      "a\u200bb",
      "a\u202eb",
      "\ufeffa",
      "a\u00adb",
      "a".repeat(256),
      "é".repeat(128),
      "a\u{e0041}b",
      "a\u2028b",
      "\u3000a",
      "a\u0301",
      "..",
      "/",
      "a|b",
    ])
      maker.add("a subject", maker.token(maker.header(alg), maker.claims({ sub })));
  }
};

// === two at once ===

export const pairs = (maker) =>
  times(1000, () => {
    const { random } = maker;
    const alg = random.one(ALGS);
    const header = maker.header(alg);
    const claims = maker.claims();
    times(2, () => {
      const name = random.one(random.heads(4) ? ["typ", "kid", "cty", "crit", "jku"] : CLAIMS);
      const target = ["typ", "kid", "cty", "crit", "jku"].includes(name) ? header : claims;
      if (random.heads(4)) delete target[name];
      else {
        target[name] = random.one([
          JSON.parse(random.one(VALUES.filter((value) => !value.includes("e400")))),
          NOW - random.below(200),
          NOW + random.below(200),
          AUDIENCE,
          ISSUER,
          "alice",
          ["exp"],
          "JWT",
          BASE[alg],
        ]);
      }
    });
    maker.add("two changes", maker.token(header, claims, { alg, key: BASE[alg] }));
  });
