// A real OpenID provider on loopback, with three people in it.
//
//   node issuer.mjs --modules DIR --port PORT [--state FILE] [--issued FILE]
//
// DIR is the `node_modules` that holds `oidc-provider` and `jose`. FILE keeps its keys, and all else it knows once it is
// told to end by SIGTERM; it goes on with that. The other FILE gets a line for each code, token and client secret that is
// issued, since nobody but its owner may ever see one. Whoever types a name of `a-z`, `0-9` and `-` into the sign-in page, with
// any password, is that person; `admin` is an administrator. Clients:
//
//   gateway-cli   public; code with PKCE; http://127.0.0.1:<any port>/callback
//   gateway       secret `gateway-secret`; http://127.0.0.1:<any port>/auth/callback, or localhost
//
// Others register themselves at `/reg` (OpenID Connect Dynamic Client Registration), with `"application_type": "native"`
// for redirects to loopback, and may say there, beside what is standard:
//
//   access_token_ttl      seconds that access tokens live
//   access_token_format   `jwt` (unless said), `opaque`, or `userinfo`: opaque and for the userinfo endpoint alone
//
// Access tokens are RFC 9068 JWTs for the resource `urn:<audience>` or, to choose how long they live,
// `urn:<audience>:ttl:<seconds>`. Without a resource they are for `openclaw`, for an hour. Refresh tokens are good once.
// Every ID token has a `sid`. What tests may ask beside the protocol is in issuer-desk.mjs.
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { createServer } from "node:http";
import { parseArgs } from "node:util";

import { desk } from "./issuer-desk.mjs";
import { Store } from "./issuer-store.mjs";
import { load } from "./modules.mjs";

const { values: args } = parseArgs({
  options: { modules: { type: "string" }, port: { type: "string" }, state: { type: "string" }, issued: { type: "string" } },
});
const { default: Provider } = await load(args.modules, "oidc-provider");
const jose = await load(args.modules, "jose");

const DEFAULT_RESOURCE = "urn:openclaw";

const person = (id) => ({
  name: `${id} of Example`,
  email: `${id}@example.com`,
  email_verified: true,
  groups: id === "admin" ? ["staff", "openclaw-admins"] : ["staff"],
});

const resourceServer = (indicator, client) => {
  const [, audience, ttl] = /^urn:([a-z0-9-]+)(?::ttl:(\d+))?$/.exec(indicator) ?? [];
  if (!audience) throw new Error(`no resource server is called ${indicator}`);
  return {
    audience,
    scope: "openclaw",
    accessTokenFormat: client.access_token_format ?? "jwt",
    accessTokenTTL: ttl ? Number(ttl) : (client.access_token_ttl ?? 3600),
    jwt: { sign: { alg: "RS256" } },
  };
};

const signingKey = (type, options, alg) => ({
  ...generateKeyPairSync(type, options).privateKey.export({ format: "jwk" }),
  kid: `${alg.toLowerCase()}-${randomBytes(4).toString("hex")}`,
  use: "sig",
  alg,
});

const newKeys = () => [
  signingKey("rsa", { modulusLength: 2048 }, "RS256"),
  signingKey("ec", { namedCurve: "P-256" }, "ES256"),
];

// `native` is what lets a loopback redirect have any port (RFC 8252, section 7.3).
const client = (id, path, rest) => ({
  client_id: id,
  application_type: "native",
  grant_types: ["authorization_code", "refresh_token"],
  response_types: ["code"],
  redirect_uris: [`http://127.0.0.1${path}`, `http://localhost${path}`],
  ...rest,
});

const issuer = `http://127.0.0.1:${args.port}`;
const store = new Store(args.state, args.issued);
store.keys ??= newKeys();

const configuration = () => ({
  adapter: (model) => store.adapter(model),
  clients: [
    client("gateway-cli", "/callback", { token_endpoint_auth_method: "none" }),
    client("gateway", "/auth/callback", {
      client_secret: "gateway-secret",
      token_endpoint_auth_method: "client_secret_basic",
      post_logout_redirect_uris: ["http://127.0.0.1/auth/signed-out", "http://localhost/auth/signed-out"],
    }),
  ],
  extraClientMetadata: { properties: ["access_token_ttl", "access_token_format"] },
  jwks: { keys: store.keys },
  cookies: { keys: ["only-for-tests"] },
  claims: { openid: ["sub"], profile: ["name", "groups"], email: ["email", "email_verified"] },
  conformIdTokenClaims: false,
  pkce: { required: () => true },
  issueRefreshToken: async (_ctx, client) => client.grantTypeAllowed("refresh_token"),
  rotateRefreshToken: true,
  ttl: {
    AccessToken: (_ctx, token, client) => token.resourceServer?.accessTokenTTL ?? client.access_token_ttl ?? 3600,
  },
  features: {
    backchannelLogout: { enabled: true },
    devInteractions: { enabled: true },
    introspection: { enabled: true },
    registration: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: (_ctx, client) => (client.access_token_format === "userinfo" ? undefined : DEFAULT_RESOURCE),
      useGrantedResource: () => true,
      getResourceServerInfo: (_ctx, indicator, client) => resourceServer(indicator, client),
    },
  },
  // Its own refuses to tell a client on loopback that somebody was signed out.
  fetch: (url, { dispatcher, ...options }) => fetch(url, options),
  findAccount: (_ctx, id) =>
    /^[a-z0-9-]{1,48}$/.test(id) ? { accountId: id, claims: () => ({ sub: id, ...person(id) }) } : undefined,
  extraTokenClaims: (_ctx, token) => person(token.accountId),
});

// Keys are read once by a provider: other keys are another provider, which knows what the first one knew.
let provider, listener;
const open = () => {
  provider = new Provider(issuer, configuration());
  provider.Client.prototype.includeSid = () => true;
  provider.use(front.middleware);
  listener = provider.callback();
  store.save();
};
const front = desk({
  store,
  jose,
  provider: () => provider,
  rotate: () => {
    store.keys = newKeys();
    open();
  },
});
open();

const server = createServer((request, response) =>
  request.url.startsWith("/test/") ? front.listener(request, response) : listener(request, response),
);
server.listen(Number(args.port), "127.0.0.1", () => console.log(`issuer ${issuer}`));
process.on("SIGTERM", () => {
  server.closeAllConnections();
  server.close(() => {
    store.save();
    process.exit(0);
  });
});
