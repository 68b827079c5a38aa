// Signatures that are not quite what they should be.
import { ALGS, BASE, b64, signature, times } from "./tokens.mjs";

const ORDER = {
  p256: 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n,
  ed25519: 2n ** 252n + 27742317777372353535851937790883648493n,
};
const number = (bytes) => BigInt(`0x${Buffer.from(bytes).toString("hex") || "0"}`);
const bytes = (n, size) => Buffer.from(n.toString(16).padStart(size * 2, "0"), "hex");
const reversed = (buffer) => Buffer.from(buffer).reverse();

export const signatures = (maker) => {
  const finish = {
    ES256: [
      ["high s", (s) => Buffer.concat([s.subarray(0, 32), bytes(ORDER.p256 - number(s.subarray(32)), 32)])],
      ["zero", () => Buffer.alloc(64)],
      ["r is zero", (s) => Buffer.concat([Buffer.alloc(32), s.subarray(32)])],
      ["s is zero", (s) => Buffer.concat([s.subarray(0, 32), Buffer.alloc(32)])],
      ["s is the order", (s) => Buffer.concat([s.subarray(0, 32), bytes(ORDER.p256, 32)])],
      ["s too large", (s) => Buffer.concat([s.subarray(0, 32), Buffer.alloc(32, 255)])],
      ["longer", (s) => Buffer.concat([s, Buffer.alloc(1)])],
      ["padded", (s) => Buffer.concat([Buffer.alloc(1), s.subarray(0, 32), Buffer.alloc(1), s.subarray(32)])],
      ["shorter", (s) => s.subarray(0, 63)],
      ["swapped", (s) => Buffer.concat([s.subarray(32), s.subarray(0, 32)])],
    ],
    EdDSA: [
      [
        "s plus the order",
        (s) =>
          Buffer.concat([s.subarray(0, 32), reversed(bytes(number(reversed(s.subarray(32))) + ORDER.ed25519, 32))]),
      ],
      ["zero", () => Buffer.alloc(64)],
      ["small order", () => Buffer.concat([Buffer.from([1]), Buffer.alloc(63)])],
      ["longer", (s) => Buffer.concat([s, Buffer.alloc(1)])],
      ["shorter", (s) => s.subarray(0, 63)],
    ],
    RS256: [
      ["zero", () => Buffer.alloc(256)],
      ["one", () => Buffer.concat([Buffer.alloc(255), Buffer.from([1])])],
      ["longer", (s) => Buffer.concat([Buffer.alloc(1), s])],
      ["shorter", (s) => s.subarray(1)],
      ["the modulus", () => Buffer.from(maker.keys.rs.jwk.n, "base64url")],
      [
        "plus the modulus",
        (s) => {
          const sum = number(s) + number(Buffer.from(maker.keys.rs.jwk.n, "base64url"));
          return bytes(sum, sum >> 2048n ? 257 : 256);
        },
      ],
    ],
    PS256: [
      ["zero", () => Buffer.alloc(256)],
      ["longer", (s) => Buffer.concat([Buffer.alloc(1), s])],
      ["shorter", (s) => s.subarray(1)],
    ],
  };
  for (const alg of ALGS) {
    for (const [name, change] of finish[alg]) {
      times(4, () =>
        maker.add(
          `signature: ${name}`,
          maker.token(maker.header(alg), maker.claims(), { finish: (s) => b64(change(s)) }),
        ),
      );
    }
    // Right for another message, another hash, another form.
    times(4, () =>
      maker.add(
        "signature: of nothing",
        maker.token(maker.header(alg), maker.claims(), {
          finish: () => b64(signature(alg, maker.keys[BASE[alg]], "")),
        }),
      ),
    );
  }
  for (const salt of [0, 1, 20, 31, 32, 33, 64, 222])
    times(2, () => maker.add("signature: salt", maker.token(maker.header("PS256"), maker.claims(), { salt })));
  for (const [named, used, key] of [
    ["RS256", "RS512", "rs"],
    ["RS256", "PS256", "rs"],
    ["PS256", "RS256", "ps"],
    ["PS256", "PS384", "ps"],
    ["ES256", "ES512", "es"],
    ["ES256", "ES384", "es"],
  ]) {
    times(3, () =>
      maker.add("signature: another way", maker.token(maker.header(named), maker.claims(), { alg: used, key })),
    );
  }
  // One of 256 signatures begins with a zero byte, which it has to keep.
  for (const alg of ["RS256", "PS256"]) {
    for (let jti = 0; ; jti += 1) {
      const found = maker.token(maker.header(alg), maker.claims({ jti: `${jti}` }));
      const [header, claims, right] = found.split(".");
      const bytes = Buffer.from(right, "base64url");
      if (bytes[0] !== 0) continue;
      maker.add("signature: with its zero byte", found);
      maker.add("signature: without its zero byte", [header, claims, b64(bytes.subarray(1))].join("."));
      break;
    }
  }
  times(4, () => maker.add("signature: DER", maker.token(maker.header("ES256"), maker.claims(), { encoding: "der" })));
};
