// Mutations of the JSON that is signed: what parsers read differently.
import { ALGS, BASE, ISSUER, NOW } from "./tokens.mjs";

export const json = (maker) => {
  const plain = JSON.stringify(maker.claims()).slice(1, -1);
  const evil = JSON.stringify(maker.claims({ sub: "mallory" }));
  const payloads = [
    `{${plain},"sub":"mallory"}`,
    `{"sub":"mallory",${plain}}`,
    `{${plain},"s\\u0075b":"mallory"}`,
    `{${plain},"exp":${NOW + 900}}`,
    `{"exp":1,${plain}}`,
    `{${plain},"exp":1}`,
    `{${plain},"aud":"other"}`,
    `{"aud":"other",${plain}}`,
    `{${plain},"x":{"a":1,"a":2}}`,
    `{${plain},"x":[{"a":1,"\\u0061":2}]}`,
    `{${plain},"x":1,"x":1}`,
    `{${plain},"nbf":"${NOW}","nbf":${NOW - 1}}`,
    `\ufeff{${plain}}`,
    ` {${plain}}`,
    `{${plain}} `,
    `\n{${plain}}\r\n`,
    `{${plain}}x`,
    `{${plain}}${evil}`,
    `{${plain}}\0`,
    `[{${plain}}]`,
    `"${ISSUER}"`,
    "null",
    "1",
    "",
    `{${plain},}`,
    `{${plain}/**/}`,
    `//\n{${plain}}`,
    `{${plain},"x":NaN}`,
    `{${plain},"x":Infinity}`,
    `{${plain},"x":.5}`,
    `{${plain},"x":01}`,
    `{${plain},"x":+1}`,
    `{${plain},"x":0x1}`,
    `{${plain},'x':1}`,
    `{${plain},x:1}`,
    `{${plain},"x":"\u0001"}`,
    `{${plain},"x":"\\x41"}`,
    `{${plain},"x":"\\ud83d\\ude00"}`,
    `{${plain},"x":"\\ud83d"}`,
    `{${plain},"x":"\\ude00\\ud83d"}`,
    `{${plain},"\\ud800":1}`,
    `{${plain},"__proto__":{"sub":"mallory"}}`,
    `{${plain},"constructor":{"prototype":{}}}`,
    `{${plain},"toString":1}`,
    `{${plain},"x":1e309}`,
    `{${plain},"x":-1e309}`,
    `{${plain},"x":${"9".repeat(400)}}`,
    `{${plain},"x":0.${"1".repeat(400)}}`,
    `{${plain},"x":1e-999}`,
    `{${plain},"":""}`,
    `{ ${plain.replaceAll(",", " ,\t").replaceAll(":", ": ").replaceAll(": //", "://")} }`,
    ...[1, 2, 8, 13, 14, 15, 16, 17, 32, 100, 127, 128, 200, 1000].flatMap((depth) => [
      `{${plain},"x":${"[".repeat(depth)}${"]".repeat(depth)}}`,
      `{${plain},"x":${'{"x":'.repeat(depth)}1${"}".repeat(depth)}}`,
    ]),
    ...[4_000, 8_000, 11_500, 13_000, 16_384, 60_000].map((size) => `{${plain},"x":"${"x".repeat(size)}"}`),
    Buffer.concat([Buffer.from(`{${plain},"x":"`), Buffer.from([0xff]), Buffer.from('"}')]),
    Buffer.concat([Buffer.from(`{${plain},"x":"`), Buffer.from([0xc0, 0xaf]), Buffer.from('"}')]),
    Buffer.concat([Buffer.from(`{${plain},"x":"`), Buffer.from([0xed, 0xa0, 0x80]), Buffer.from('"}')]),
    Buffer.from(`{${plain}}`, "utf16le"),
    Buffer.from([0]),
  ];
  for (const payload of payloads) {
    for (const alg of ALGS) maker.add("JSON of the claims", maker.token(maker.header(alg), payload));
  }
  for (const alg of ALGS) {
    const head = JSON.stringify(maker.header(alg)).slice(1, -1);
    for (const header of [
      `{${head},"alg":"${alg}"}`,
      `{"alg":"none",${head}}`,
      `{${head},"alg":"none"}`,
      `{${head},"al\\u0067":"none"}`,
      `{${head},"kid":"x"}`,
      `{"kid":"x",${head}}`,
      `{"typ":"x",${head}}`,
      `{${head},"x":{"y":1,"y":1}}`,
      `\ufeff{${head}}`,
      ` {${head}}\n`,
      `{${head}}{}`,
      `[{${head}}]`,
      `{${head},}`,
      "null",
      "",
      `{${head},"x":${"[".repeat(20)}${"]".repeat(20)}}`,
      `{${head},"x":"\\ud800"}`,
      `{${head},"x":1e999}`,
      `{${head},"__proto__":{"crit":["x"]}}`,
      Buffer.concat([Buffer.from(`{${head},"x":"`), Buffer.from([0xff]), Buffer.from('"}')]),
    ])
      maker.add("JSON of the header", maker.token(header, maker.claims(), { alg, key: BASE[alg] }));
  }
};
