// Somebody, `ACCOUNT`, in OpenClaw's own page behind a gateway at `GATEWAY_URL` that speaks TLS itself: pages come by HTTP/2, the
// socket by a connection of its own.
import assert from "node:assert/strict";

import { browse } from "./browser.mjs";
import { signIn } from "./sign-in.mjs";

await browse(async ({ page, context, env }) => {
  const { GATEWAY_URL, ACCOUNT } = env;
  const sockets = [];
  page.on("websocket", (socket) => sockets.push(socket.url()));
  await page.goto(`${GATEWAY_URL}/`);
  await signIn(page, ACCOUNT);
  await page.waitForURL(`${GATEWAY_URL}/chat/**`);
  const box = page.locator("textarea:visible").last();
  await box.fill(`damson ${ACCOUNT}`);
  await box.press("Enter");
  await page.locator(".chat-group.assistant", { hasText: `echo: damson ${ACCOUNT}` }).last().waitFor();

  const protocols = await page.evaluate(() => {
    const entries = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")];
    const ours = entries.filter(({ name }) => name.startsWith(location.origin));
    return ours.map(({ name, nextHopProtocol }) => `${nextHopProtocol} ${new URL(name).pathname}`);
  });
  assert.ok(protocols.length > 3, protocols.join("\n"));
  // What the page's worker has kept came by none.
  for (const line of protocols) assert.match(line, /^(h2)? /, protocols.join("\n"));
  assert.ok(protocols.some((line) => line.startsWith("h2 ")), protocols.join("\n"));
  assert.ok(sockets.length > 0 && sockets.every((url) => url.startsWith(GATEWAY_URL.replace("https", "wss"))));

  // Several cookies, which a browser may send in crumbs, are one header behind the listener.
  await context.addCookies([1, 2, 3].map((n) => ({ name: `other-${n}`, value: "x".repeat(n), url: GATEWAY_URL })));
  const known = await page.evaluate(async () => {
    const answers = await Promise.all(Array.from({ length: 50 }, () => fetch("/api/user/info")));
    return Promise.all(answers.map((answer) => answer.json()));
  });
  assert.equal(known.length, 50);
  for (const info of known) assert.equal(info.user_id, ACCOUNT);
});
