// A second OpenID provider on loopback, which believes everybody and says whatever a test wants.
//
//   node other-issuer.mjs --modules DIR --port PORT
//
// DIR is the `node_modules` that holds `oauth2-mock-server`. It signs `johndoe` in without a page, for any client. What a
// test may ask, in JSON below `/test/`:
//
//   GET  requests   all other requests: {method, path}
//   POST mint       {alg, header, claims}: a token of any content, signed with its key for ALG, which it publishes from
//                   then on
//   POST change     {what, patch, status}: puts PATCH over what it says from then on, a member that is null removes one.
//                   WHAT is `discovery`, `redirect` (query of the redirect back), `id_token` or `access_token` (claims),
//                   `id_token_header`, `token` (whole answer), `userinfo` or `introspection`
import { createServer } from "node:http";
import { parseArgs } from "node:util";

import { load } from "./modules.mjs";
import { answer } from "./questions.mjs";

const { values: args } = parseArgs({ options: { modules: { type: "string" }, port: { type: "string" } } });
const { OAuth2Issuer, OAuth2Service } = await load(args.modules, "oauth2-mock-server");

const issuer = new OAuth2Issuer();
issuer.url = `http://127.0.0.1:${args.port}`;
await issuer.keys.generate("RS256", { kid: "RS256" });
const service = new OAuth2Service(issuer);

const requests = [];
const changes = new Map();

const change = (what, said) => {
  for (const [name, value] of Object.entries(changes.get(what)?.patch ?? {})) {
    if (value === null) delete said[name];
    else said[name] = value;
  }
};
const changeAnswer = (what) => (said) => {
  change(what, said.body);
  said.statusCode = changes.get(what)?.status ?? said.statusCode;
};
service.on("beforeWellKnownOpenIdConfiguration", changeAnswer("discovery"));
service.on("beforeResponse", changeAnswer("token"));
service.on("beforeUserinfo", changeAnswer("userinfo"));
service.on("beforeIntrospect", changeAnswer("introspection"));
service.on("beforeAuthorizeRedirect", ({ url }) => {
  const query = Object.fromEntries(url.searchParams);
  change("redirect", query);
  url.search = new URLSearchParams(query);
});
service.on("beforeTokenSigning", ({ header, payload }) => {
  // Only its access tokens say how somebody signed in.
  const what = "amr" in payload ? "access_token" : "id_token";
  change(what, payload);
  change(`${what}_header`, header);
});

const questions = {
  requests: () => requests,
  change: ({ what, ...rest }) => void changes.set(what, rest),
  mint: async ({ alg = "RS256", header, claims }) => {
    if (!issuer.keys.get(alg))
      await issuer.keys.generate(alg, { kid: alg, crv: alg === "EdDSA" ? "Ed25519" : undefined });
    const scopesOrTransform = (itsHeader, itsClaims) => {
      Object.assign(itsHeader, header);
      for (const name of Object.keys(itsClaims)) delete itsClaims[name];
      Object.assign(itsClaims, claims);
    };
    return { token: await issuer.buildToken({ kid: alg, scopesOrTransform }) };
  },
};

const server = createServer((request, response) => {
  if (request.url.startsWith("/test/")) return answer(questions, request, response);
  requests.push({ method: request.method, path: request.url.split("?")[0] });
  return service.requestHandler(request, response);
});
server.listen(Number(args.port), "127.0.0.1", () => console.log(`issuer ${issuer.url}`));
