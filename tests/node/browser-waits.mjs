// Somebody opens OpenClaw's own page behind the gateway at `GATEWAY_URL` before the instance of `ALICE` runs: the page says so,
// and becomes OpenClaw's without anybody doing anything.
import assert from "node:assert/strict";

import { browse } from "./browser.mjs";
import { signIn } from "./sign-in.mjs";

const { GATEWAY_URL, ALICE } = process.env;

await browse(async ({ page }) => {
  const [waits, refused] = [[], []];
  page.on("response", async (response) => {
    const request = response.request();
    if (!request.isNavigationRequest() || response.status() !== 503) return;
    const wait = { headers: response.headers(), text: "" };
    waits.push(wait);
    // There is none of a page that has loaded itself again meanwhile.
    wait.text = await response.text().catch(() => "");
  });
  page.on("console", (message) => {
    if (/Content.Security.Policy/i.test(message.text())) refused.push(message.text());
  });
  await page.goto(`${GATEWAY_URL}/`);
  await signIn(page, ALICE);
  // Nobody touches it from here on.
  await page.waitForURL(`${GATEWAY_URL}/chat/main**`, { timeout: 300_000 });
  const box = page.locator("textarea:visible").last();
  await page.locator(".agent-chat__file-input").first().waitFor({ state: "attached" });
  await box.fill(`plum of ${ALICE}`);
  await box.press("Enter");
  const answer = page.locator(".chat-group.assistant", { hasText: `echo: plum of ${ALICE}` });
  await answer.last().waitFor();
  assert.ok(waits.length > 1, "it was loaded again");
  for (const { headers } of waits) assert.ok(headers["retry-after"] && headers.refresh, JSON.stringify(headers));
  const said = waits.filter(({ text }) => text.includes("is starting") && text.includes("loads itself again"));
  assert.ok(said.length > 0, JSON.stringify(waits));
  assert.deepEqual(refused, []);
});
