// Signs in at the issuer `ISSUER_URL` as `ACCOUNT` by its own pages, as an application on loopback does, and out again.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { createServer } from "node:http";

import { browse } from "./browser.mjs";
import { signIn, signOut } from "./sign-in.mjs";

// The application: a page for the way there, a cookie, and a page for the way back.
const application = createServer((request, response) => {
  response.writeHead(200, {
    "content-type": "text/html",
    "set-cookie": "__Host-application=1; Secure; HttpOnly; SameSite=Lax; Path=/",
  });
  response.end(`<title>application</title><p>${request.headers.cookie ?? "no cookie"}</p>`);
});
await new Promise((listening) => application.listen(0, "127.0.0.1", listening));
const origin = `http://localhost:${application.address().port}`;

await browse(async ({ page, env }) => {
  await page.goto(origin);
  assert.equal(await page.innerText("p"), "no cookie");

  const verifier = randomBytes(32).toString("base64url");
  const state = randomBytes(16).toString("base64url");
  const query = new URLSearchParams({
    response_type: "code",
    client_id: "gateway-cli",
    redirect_uri: `${origin}/callback`,
    scope: "openid profile email openclaw",
    state,
    code_challenge: createHash("sha256").update(verifier).digest("base64url"),
    code_challenge_method: "S256",
  });
  await page.goto(`${env.ISSUER_URL}/auth?${query}`);
  await signIn(page, env.ACCOUNT);
  const back = new URL(page.url());
  assert.equal(`${back.origin}${back.pathname}`, `${origin}/callback`);
  assert.equal(back.searchParams.get("state"), state);
  assert.equal(back.searchParams.get("iss"), env.ISSUER_URL);
  assert.equal(await page.innerText("p"), "__Host-application=1", "the browser keeps cookies of loopback");

  const answer = await fetch(`${env.ISSUER_URL}/token`, {
    method: "POST",
    body: new URLSearchParams({
      grant_type: "authorization_code",
      client_id: "gateway-cli",
      redirect_uri: `${origin}/callback`,
      code: back.searchParams.get("code"),
      code_verifier: verifier,
    }),
  });
  const { id_token } = await answer.json();
  const claims = JSON.parse(Buffer.from(id_token.split(".")[1], "base64url"));
  assert.equal(claims.sub, env.ACCOUNT);

  await page.goto(`${env.ISSUER_URL}/session/end?id_token_hint=${id_token}`);
  await signOut(page);
  assert.match(await page.innerText("h1"), /Sign-out Success/);
});
application.close();
application.closeAllConnections();
