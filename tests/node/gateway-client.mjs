// OpenClaw's own client from npm, through the gateway at `GATEWAY_WS` with `GATEWAY_TOKEN`: sends `MESSAGE` and waits for the
// reply.
import { randomUUID } from "node:crypto";

import { load } from "./modules.mjs";

const { MODULES, GATEWAY_WS, GATEWAY_TOKEN, MESSAGE } = process.env;
const { GatewayClient } = await load(MODULES, "@openclaw/gateway-client");

const reply = new Promise((resolve, reject) => {
  const client = new GatewayClient({
    url: GATEWAY_WS,
    token: GATEWAY_TOKEN,
    clientName: "gateway-client",
    mode: "backend",
    onHelloOk: async (hello) => {
      try {
        const sessionKey = hello.snapshot.sessionDefaults.mainSessionKey;
        await client.request("chat.send", { sessionKey, message: MESSAGE, idempotencyKey: randomUUID() });
      } catch (error) {
        reject(error);
      }
    },
    onEvent: ({ event, payload }) => {
      if (event === "chat" && payload.state === "final") resolve(payload.message);
      if (event === "chat" && payload.state === "error") reject(new Error(payload.errorMessage));
    },
    onConnectError: reject,
  });
  client.start();
});
const text = JSON.stringify(await reply);
if (!text.includes(`echo: ${MESSAGE}`)) throw new Error(`another reply: ${text}`);
console.log(text);
process.exit(0);
