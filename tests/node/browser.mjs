// A real browser for a script, which tests/src/chromium.rs starts. A script is
//
//   import { browse } from "./browser.mjs";
//   await browse(async ({ page, context, env }) => { … });
//
// and fails by throwing, best of all by `node:assert`. Then it leaves behind a picture and the HTML of every open page, and
// the program ends with 1. What pages say on their consoles, and what they could not load, is in the output at any rate.
//
// The environment: `MODULES` (the `node_modules` with playwright-core), `CHROMIUM`, `OUTPUT` (an existing directory),
// `CERTIFICATE` (a PEM file whose key is trusted, whoever has signed it), and what a test adds. No page reaches anything but
// loopback.
import { X509Certificate, createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";

import { load } from "./modules.mjs";

const { env } = process;

const ARGUMENTS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--disable-dev-shm-usage",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost, EXCLUDE *.localhost",
];

// How long one step may take.
const STEP = 60_000;

// What a query holds may be a code or a token.
const shown = (url) => url.split(/[?#]/)[0];

const report = (page) => {
  page.on("console", (message) => console.log(`console.${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => console.log(`page error: ${error.stack ?? error}`));
  page.on("framenavigated", (frame) => frame.parentFrame() ?? console.log(`at ${shown(frame.url())}`));
  page.on("response", (response) => {
    if (response.status() >= 400) console.log(`${response.status()} ${shown(response.url())}`);
  });
  page.on("requestfailed", (request) => console.log(`${request.failure()?.errorText} ${shown(request.url())}`));
};

const keep = async (context, name) => {
  for (const [number, page] of context.pages().entries()) {
    const path = join(env.OUTPUT, `${name}-${number + 1}`);
    await page
      .screenshot({ path: `${path}.png`, fullPage: true })
      .catch((error) => console.log(`no picture: ${error}`));
    await writeFile(`${path}.html`, await page.content().catch(String));
  }
};

// The option by which a key is trusted.
const trusted = async (path) => {
  if (!path) return [];
  const key = new X509Certificate(await readFile(path)).publicKey.export({ type: "spki", format: "der" });
  return [`--ignore-certificate-errors-spki-list=${createHash("sha256").update(key).digest("base64")}`];
};

// Runs BODY with a browser that nobody has used; `newContext` makes another person's.
export const browse = async (body) => {
  const name = basename(process.argv[1], ".mjs");
  const { default: playwright } = await load(env.MODULES, "playwright-core");
  const args = [...ARGUMENTS, ...(await trusted(env.CERTIFICATE))];
  const browser = await playwright.chromium.launch({ executablePath: env.CHROMIUM, headless: true, args });
  const contexts = [];
  const newContext = async (options) => {
    const context = await browser.newContext(options);
    context.setDefaultTimeout(STEP);
    context.on("page", report);
    contexts.push(context);
    return context;
  };
  try {
    const context = await newContext();
    await body({ browser, newContext, context, page: await context.newPage(), env });
  } catch (error) {
    for (const [number, context] of contexts.entries()) await keep(context, `${name}-${number + 1}`);
    console.log(`FAILED: ${error.stack ?? error}`);
    process.exitCode = 1;
  } finally {
    await browser.close();
  }
};
