// A real OpenID provider on loopback, with three people in it.
//
//   node issuer.mjs --modules DIR --port PORT
//
// DIR is the `node_modules` that holds `oidc-provider`. Whoever types a name of `a-z`, `0-9` and `-`
// into the sign-in page, with any password, is that person; `admin` is an administrator. Clients:
//
//   gateway-cli   public; code with PKCE; http://127.0.0.1:<any port>/callback
//   gateway       secret `gateway-secret`; http://127.0.0.1:<any port>/auth/callback
//
// Access tokens are RFC 9068 JWTs for the resource `urn:<audience>` or, to choose how long they
// live, `urn:<audience>:ttl:<seconds>`. Without a resource they are for `openclaw`, for an hour.
import { generateKeyPairSync } from "node:crypto";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

const { values: args } = parseArgs({ options: { modules: { type: "string" }, port: { type: "string" } } });
const { default: Provider } = await import(pathToFileURL(join(args.modules, "oidc-provider/lib/index.js")));

const DEFAULT_RESOURCE = "urn:openclaw";

const person = (id) => ({
  name: `${id} of Example`,
  email: `${id}@example.com`,
  email_verified: true,
  groups: id === "admin" ? ["staff", "openclaw-admins"] : ["staff"],
});

const resourceServer = (indicator) => {
  const [, audience, ttl] = /^urn:([a-z0-9-]+)(?::ttl:(\d+))?$/.exec(indicator) ?? [];
  if (!audience) throw new Error(`no resource server is called ${indicator}`);
  return {
    audience,
    scope: "openclaw",
    accessTokenFormat: "jwt",
    accessTokenTTL: ttl ? Number(ttl) : 3600,
    jwt: { sign: { alg: "RS256" } },
  };
};

const signingKey = (type, options, alg) => ({
  ...generateKeyPairSync(type, options).privateKey.export({ format: "jwk" }),
  kid: `test-${alg.toLowerCase()}`,
  use: "sig",
  alg,
});

// `native` is what lets a loopback redirect have any port (RFC 8252, section 7.3).
const client = (id, path, rest) => ({
  client_id: id,
  application_type: "native",
  grant_types: ["authorization_code", "refresh_token"],
  response_types: ["code"],
  redirect_uris: [`http://127.0.0.1${path}`],
  ...rest,
});

const issuer = `http://127.0.0.1:${args.port}`;
const provider = new Provider(issuer, {
  clients: [
    client("gateway-cli", "/callback", { token_endpoint_auth_method: "none" }),
    client("gateway", "/auth/callback", {
      client_secret: "gateway-secret",
      token_endpoint_auth_method: "client_secret_basic",
      post_logout_redirect_uris: ["http://127.0.0.1/"],
    }),
  ],
  jwks: {
    keys: [signingKey("rsa", { modulusLength: 2048 }, "RS256"), signingKey("ec", { namedCurve: "P-256" }, "ES256")],
  },
  cookies: { keys: ["only-for-tests"] },
  claims: { openid: ["sub"], profile: ["name", "groups"], email: ["email", "email_verified"] },
  conformIdTokenClaims: false,
  pkce: { required: () => true },
  issueRefreshToken: async (_ctx, client) => client.grantTypeAllowed("refresh_token"),
  features: {
    devInteractions: { enabled: true },
    registration: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => DEFAULT_RESOURCE,
      useGrantedResource: () => true,
      getResourceServerInfo: (_ctx, indicator) => resourceServer(indicator),
    },
  },
  findAccount: (_ctx, id) =>
    /^[a-z0-9-]{1,48}$/.test(id) ? { accountId: id, claims: () => ({ sub: id, ...person(id) }) } : undefined,
  extraTokenClaims: (_ctx, token) => person(token.accountId),
});

const server = provider.listen(Number(args.port), "127.0.0.1", () => console.log(`issuer ${issuer}`));
process.on("SIGTERM", () => {
  server.closeAllConnections();
  server.close(() => process.exit(0));
});
