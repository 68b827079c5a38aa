// Somebody in OpenClaw's own page behind the gateway at `GATEWAY_URL`, whose instance is their own: `ALICE` signs in, talks,
// begins anew and comes back.
import assert from "node:assert/strict";

import { browse } from "./browser.mjs";
import { signIn } from "./sign-in.mjs";

const { GATEWAY_URL, ALICE } = process.env;

const box = (page) => page.locator("textarea:visible").last();
// Her cell is new, and its first turns take their time on a busy machine.
const answered = (page, text) =>
  page.locator(".chat-group.assistant", { hasText: text }).last().waitFor({ timeout: 60_000 });
const send = async (page, text) => {
  await box(page).fill(text);
  await box(page).press("Enter");
};

await browse(async ({ page }) => {
  page.setDefaultTimeout(60_000);
  const [asked, methods] = [[], new Map()];
  page.on("websocket", (socket) => {
    socket.on("framesent", ({ payload }) => {
      const { id, method, params } = JSON.parse(String(payload));
      asked.push(method);
      methods.set(id, `${method} ${JSON.stringify(params)}`.slice(0, 500));
    });
    socket.on("framereceived", ({ payload }) => {
      const { id, ok, error } = JSON.parse(String(payload));
      if (ok === false) console.log(`refused ${methods.get(id)}: ${JSON.stringify(error)}`);
    });
  });
  await page.goto(`${GATEWAY_URL}/`);
  await signIn(page, ALICE);
  await page.waitForURL(`${GATEWAY_URL}/chat/main**`);
  await page.locator(".agent-chat__file-input").first().waitFor({ state: "attached" });
  await send(page, `plum of ${ALICE}`);
  await answered(page, `echo: plum of ${ALICE}`);
  await page.locator('[aria-label="New conversation"]').first().click();
  await page.waitForURL(`${GATEWAY_URL}/new**`);
  await page.locator('textarea[aria-label="Chat composer"]').first().waitFor({ state: "hidden" });
  await send(page, "begin anew");
  await answered(page, "echo: begin anew");
  await page.waitForURL(`${GATEWAY_URL}/chat/**`);
  await page.reload();
  await answered(page, "echo: begin anew");
  await send(page, "and go on");
  await answered(page, "echo: and go on");
  // What is refused, or answered in another way than it expects, the page asks for again and again.
  const before = asked.length;
  await page.waitForTimeout(5_000);
  assert.ok(asked.length - before < 10, `${asked.slice(before)}`);
});
