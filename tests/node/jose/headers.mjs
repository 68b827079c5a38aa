// Mutations of the header, with the keys and algorithms that it asks for.
import { ALGS, BASE, b64 } from "./tokens.mjs";

const HEADERS = [
  ...[
    "alg",
    "kid",
    "typ",
    "cty",
    "crit",
    "b64",
    "enc",
    "zip",
    "jku",
    "x5u",
    "x5c",
    "jwk",
    "x5t",
    "x5t#S256",
    "p2c",
    "epk",
    "apu",
    "svt",
  ].flatMap((name) =>
    [
      "null",
      "true",
      "false",
      "1",
      '""',
      '"x"',
      "[]",
      "{}",
      '["exp"]',
      '["b64"]',
      '["x"]',
      '"https://evil.example/jwks"',
      '"none"',
      '"DEF"',
    ].map((value) => [name, value]),
  ),
  ...[
    "JWT",
    "jwt",
    "JOSE",
    "JOSE+JSON",
    "dpop+jwt",
    "logout+jwt",
    "secevent+jwt",
    "id+jwt",
    "application/jwt",
    "application/at+jwt",
    "at+JWT",
    "text/at+jwt",
    "at+jwt ",
    "at+jwt;x",
  ].map((typ) => ["typ", JSON.stringify(typ)]),
  ...[
    "rs",
    "ps",
    "es",
    "es-2",
    "ed",
    "ed-alg",
    "enc",
    "weak",
    "p384",
    "oct",
    "RS",
    "rs ",
    "../../etc/passwd",
    "' OR 1=1 --",
    "__proto__",
    "a".repeat(5000),
  ].map((kid) => ["kid", JSON.stringify(kid)]),
];

export const headers = (maker) => {
  for (const [name, value] of HEADERS) {
    for (const alg of ALGS) {
      const { [name]: _, ...rest } = maker.header(alg);
      const text = JSON.stringify(rest).slice(1, -1);
      maker.add(
        `header: ${name}`,
        maker.token(`{${text},${JSON.stringify(name)}:${value}}`, maker.claims(), { alg, key: BASE[alg] }),
      );
    }
  }
  for (const alg of ALGS) {
    // Signed with the key that it names, or brings along.
    for (const kid of Object.keys(maker.keys)) {
      const kind = maker.keys[kid].jwk.kty;
      const fits = { RSA: "RSPS", EC: "ES", OKP: "Ed" }[kind].includes(alg.slice(0, 2)) && kid !== "p384";
      if (fits) maker.add("a key of the set", maker.token(maker.header(alg, { kid }), maker.claims(), { key: kid }));
    }
    const { kid: _, ...unnamed } = maker.header(alg);
    for (const kid of Object.keys(maker.keys).filter(
      (id) => maker.keys[id].jwk.kty === maker.keys[BASE[alg]].jwk.kty && id !== "p384",
    )) {
      maker.add("no key named", maker.token(unnamed, maker.claims(), { key: kid }));
    }
    const jwk = maker.keys[BASE[alg]].jwk;
    maker.add("a key brought along", maker.token(maker.header(alg, { jwk, kid: "own" }), maker.claims()));
  }
};

const NAMES = [
  "none",
  "None",
  "NONE",
  "nOnE",
  "",
  " ",
  "RS256",
  "rs256",
  "RS256 ",
  "RS384",
  "RS512",
  "PS256",
  "PS384",
  "PS512",
  "ES256",
  "ES256K",
  "ES384",
  "ES512",
  "EdDSA",
  "EDDSA",
  "Ed25519",
  "Ed448",
  "HS256",
  "HS384",
  "HS512",
  "RSA-OAEP",
  "dir",
  "A128KW",
  "RS1",
  "ML-DSA-44",
];

export const algorithms = (maker) => {
  for (const name of NAMES) {
    for (const alg of ALGS) {
      for (const kid of [BASE[alg], undefined]) {
        const header = { alg: name, ...(kid && { kid }), typ: "at+jwt" };
        maker.add("another algorithm", maker.token(header, maker.claims(), { alg, key: BASE[alg] }));
        maker.add("another algorithm", maker.token(header, maker.claims(), { alg, key: BASE[alg], finish: () => "" }));
      }
    }
  }
  for (const name of ["EdDSA", "Ed25519"]) {
    for (const kid of ["ed", "ed-alg"]) {
      const header = { alg: name, kid, typ: "at+jwt" };
      maker.add("a name of EdDSA", maker.token(header, maker.claims(), { alg: "EdDSA", key: kid }));
    }
  }
  // The public key as a secret, in each form that somebody may have it.
  for (const { kid, publicKey, jwk } of Object.values(maker.keys)) {
    const forms = [
      publicKey.export({ type: "spki", format: "pem" }),
      publicKey.export({ type: "spki", format: "pem" }).trimEnd(),
      publicKey.export({ type: "spki", format: "der" }),
      JSON.stringify(jwk),
      Buffer.from(jwk.n ?? jwk.x, "base64url"),
      jwk.n ?? jwk.x,
      "",
    ];
    if (jwk.kty === "RSA") {
      forms.push(...["pem", "der"].map((format) => publicKey.export({ type: "pkcs1", format })));
    }
    for (const secret of forms) {
      for (const alg of ["HS256", "HS384", "HS512"]) {
        maker.add(
          "the public key as a secret",
          maker.token({ alg, kid, typ: "at+jwt" }, maker.claims(), { alg, secret }),
        );
      }
    }
  }
  const secret = Buffer.alloc(32, 7);
  maker.add(
    "the public key as a secret",
    maker.token({ alg: "HS256", kid: "oct" }, maker.claims(), { alg: "HS256", secret }),
  );
};
