// Two people in OpenClaw's own page behind the gateway at `GATEWAY_URL`, `ALICE` and `BOB`, in two tabs each: they sign in at the
// issuer, talk, attach, stop, begin anew, tidy up, and sign out; and of one there is nothing in what the other's browser got.
import assert from "node:assert/strict";

import { browse } from "./browser.mjs";
import { signIn } from "./sign-in.mjs";

const { GATEWAY_URL, ALICE, BOB } = process.env;

// The box that is written into, and what is said in a conversation.
const box = (page) => page.locator("textarea:visible").last();
const said = (page, text) => page.getByText(text).first().waitFor();

// What the model has answered: unlike `said`, not what is around an older answer and one's own message together.
const answered = (page, text) => page.locator(".chat-group.assistant", { hasText: text }).last().waitFor();
// Nothing is being answered any more: what is sent now begins a run of its own, and what is stopped now is that one.
const idle = (page) => page.locator('button[aria-label*="Stop" i]:visible').first().waitFor({ state: "detached" });

const send = async (page, text) => {
  await box(page).fill(text);
  await box(page).press("Enter");
};

// Everything that a person's browser receives from the gateway and keeps.
const watch = (context) => {
  const got = [];
  context.on("page", (page) => {
    page.on("websocket", (socket) => socket.on("framereceived", ({ payload }) => got.push(String(payload))));
    page.on("response", async (response) => {
      if (!response.url().startsWith(GATEWAY_URL)) return;
      const kind = response.headers()["content-type"] ?? "";
      if (/json|html|text\/plain/.test(kind)) got.push(await response.text().catch(() => ""));
    });
  });
  return got;
};

// A tab that is sent to the issuer.
const begin = async (context) => {
  const page = await context.newPage();
  page.sockets = [];
  page.on("websocket", (socket) => page.sockets.push(socket));
  await page.goto(`${GATEWAY_URL}/`);
  assert.ok(!page.url().startsWith(GATEWAY_URL), "it is at the issuer");
  return page;
};
const enter = async (page, name) => {
  await signIn(page, name);
  await page.waitForURL(`${GATEWAY_URL}/chat/**`);
  await page.locator(".agent-chat__file-input").first().waitFor({ state: "attached" });
};

// The page reads a file before it shows it; what is sent earlier goes without.
const attach = async (page, name, mimeType, buffer) => {
  await page.locator(".agent-chat__file-input").first().setInputFiles({ name, mimeType, buffer });
  await page.locator(".chat-attachments-preview .chat-attachment-thumb:visible").first().waitFor();
  await page.locator(`.chat-attachment-loading[data-state="ready"]`).first().waitFor({ state: "attached" });
};

const kept = (page) =>
  page.evaluate(async () => {
    const names = await caches.keys();
    const files = await Promise.all(names.map(async (name) => (await (await caches.open(name)).keys()).map(({ url }) => url)));
    return JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.body.innerText, files]);
  });

await browse(async ({ newContext }) => {
  const [of_alice, of_bob] = [await newContext(), await newContext()];
  const [got_by_alice, got_by_bob] = [watch(of_alice), watch(of_bob)];
  // Both tabs of each begin before either is done.
  const [alice, alices_tab] = [await begin(of_alice), await begin(of_alice)];
  const [bob, bobs_tab] = [await begin(of_bob), await begin(of_bob)];
  for (const page of [alices_tab, alice]) await enter(page, ALICE);
  for (const page of [bobs_tab, bob]) await enter(page, BOB);

  // Each talks, and both tabs of each show it.
  await send(alice, `plumcake ${ALICE} one`);
  await said(alice, `echo: plumcake ${ALICE} one`);
  await said(alices_tab, `echo: plumcake ${ALICE} one`);
  await send(bob, `quince ${BOB} one`);
  await said(bob, `echo: quince ${BOB} one`);
  await said(bobs_tab, `echo: quince ${BOB} one`);

  // A file, a picture, a tool; each when the one before is done, for what is stopped below must be none of them.
  await idle(alice);
  await attach(alice, "note.txt", "text/plain", Buffer.from("what the note says"));
  await send(alice, `with a file of ${ALICE}`);
  await answered(alice, `with a file of ${ALICE}`);
  await idle(alice);
  const dot =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==";
  await attach(alice, "dot.png", "image/png", Buffer.from(dot, "base64"));
  await send(alice, `with a picture of ${ALICE}`);
  await answered(alice, `with a picture of ${ALICE}`);
  await idle(alice);
  await send(alice, '[[tool=ls {"path":"."}]] look around');
  await answered(alice, "echo: look around");
  await idle(alice);

  // One that is stopped.
  await send(alice, "[[words=600]] [[chunk_delay=50]] long");
  await alice.locator('button[aria-label*="Stop" i]:visible').first().click();
  await alice.locator('button[aria-label*="Stop" i]:visible').first().waitFor({ state: "detached" });

  // A conversation that begins with a message, kept over a reload, then archived.
  await alice.locator('[aria-label="New conversation"]').first().click();
  await alice.waitForURL(`${GATEWAY_URL}/new**`);
  await alice.locator('textarea[aria-label="Chat composer"]').first().waitFor({ state: "hidden" });
  await send(alice, "begin anew");
  await answered(alice, "echo: begin anew");
  await alice.waitForURL(`${GATEWAY_URL}/chat/**`);
  await alice.reload();
  await answered(alice, "echo: begin anew");
  await send(alice, "and go on");
  await answered(alice, "echo: and go on");
  // Going back, the page finds one address of the conversation, and not two that each lead to the other.
  await alice.locator(".sidebar-recent-session__link").first().click();
  await alice.waitForURL(`${GATEWAY_URL}/chat/**`);
  await alice.locator('[aria-label="New conversation"]').first().click();
  await alice.waitForURL(`${GATEWAY_URL}/new**`);
  let navigations = 0;
  const count = (frame) => frame.parentFrame() ?? (navigations += 1);
  alice.on("framenavigated", count);
  await alice.goBack({ waitUntil: "commit" });
  await answered(alice, "echo: and go on");
  await alice.waitForTimeout(1_000);
  alice.off("framenavigated", count);
  assert.ok(navigations < 10, `${navigations} addresses in a second`);
  const row = alice.locator(".sidebar-recent-session__link").first();
  await row.hover();
  await alice.locator('[aria-label^="Archive session"]').first().click();
  await alice.getByText("Session archived").waitFor();
  await alice.locator('[aria-label^="Actions for"]:visible').last().click();
  await alice.locator(".session-menu__text", { hasText: /^Delete/ }).click();
  await alice.getByRole("button", { name: "Delete", exact: true }).click();
  await alice.waitForFunction(() => !document.body.innerText.includes("begin anew"));

  // An address that the page makes up and that is not ours leads back.
  await bobs_tab.goto(`${GATEWAY_URL}/settings/general`);
  await bobs_tab.getByRole("link").click();
  await bobs_tab.waitForURL(`${GATEWAY_URL}/chat/**`);
  await said(bobs_tab, `echo: quince ${BOB} one`);

  await send(bob, `quince ${BOB} two`);
  await said(bob, `echo: quince ${BOB} two`);

  // Of the other there is nothing: not in the page, not in what is kept, not in what came.
  for (const [page, got, other, fruit] of [
    [alice, got_by_alice, BOB, "quince"],
    [alices_tab, got_by_alice, BOB, "quince"],
    [bob, got_by_bob, ALICE, "plumcake"],
    [bobs_tab, got_by_bob, ALICE, "plumcake"],
  ]) {
    const all = [await kept(page), ...got].join("\n");
    assert.ok(all.includes(fruit === "quince" ? "plumcake" : "quince"), "what is one's own is there");
    for (const foreign of [other, fruit]) {
      const at = all.indexOf(foreign);
      assert.equal(at, -1, `${foreign} is in ${all.slice(Math.max(0, at - 200), at + 100)}`);
    }
  }

  // She signs out in one tab; the other's socket is closed within a second, and bob goes on.
  const open = alices_tab.sockets.filter((socket) => !socket.isClosed());
  assert.equal(open.length, 1);
  const closed = open[0].waitForEvent("close", { timeout: 1_000 });
  const status = await alice.evaluate(async () => {
    const answer = await fetch("/auth/logout", { method: "POST", headers: { accept: "application/json" } });
    return answer.status;
  });
  assert.equal(status, 200);
  await closed;
  assert.ok(!(await of_alice.cookies()).some(({ name }) => name === "__Host-session"));
  assert.ok(bobs_tab.sockets.some((socket) => !socket.isClosed()), "bob's are open");
  await alices_tab.goto(`${GATEWAY_URL}/`);
  assert.ok(!alices_tab.url().startsWith(GATEWAY_URL), "she is asked to sign in");

  // Whoever sits at this browser next finds nothing of hers.
  await alice.goto(`${GATEWAY_URL}/auth/signed-out`);
  const left = await alice.evaluate(async () => {
    const answer = (request) =>
      new Promise((resolve, reject) => {
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
      });
    // The page that was open makes its database anew, with nothing in it.
    const records = [];
    for (const { name } of await indexedDB.databases()) {
      const database = await answer(indexedDB.open(name));
      for (const store of database.objectStoreNames) {
        records.push(...(await answer(database.transaction(store).objectStore(store).getAllKeys())));
      }
    }
    return {
      stored: Object.keys(localStorage),
      cached: await caches.keys(),
      records,
      workers: (await navigator.serviceWorker.getRegistrations()).length,
    };
  });
  assert.deepEqual(left, { stored: [], cached: [], records: [], workers: 0 });
});
