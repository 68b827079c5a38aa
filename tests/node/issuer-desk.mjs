// What a test may ask of the issuer beside the protocol, in JSON below `/test/`:
//
//   GET  requests      all requests to the issuer: {method, path, status, client_id, grant_type, error}
//   POST behaviour     {path, before_ms, after_ms, status, times}: the next TIMES requests of PATH wait before and after
//                      they are done, or are not done and get STATUS. Without the rest PATH behaves again.
//   POST rotate        {}: signs with new keys from now on, and publishes no others
//   POST sign          {alg, header, claims}: a token of any content, signed with the current key for ALG
//   POST end-sessions  {account}: as an administrator ends them; clients are told by back-channel logout
//
// What is asked here is not among the requests.

import { answer } from "./questions.mjs";

// The most requests that are remembered.
const REQUESTS = 20_000;

const sleep = (ms) => new Promise((wake) => setTimeout(wake, ms ?? 0));

// The questions by their name, and the middleware that writes down and misbehaves.
export const desk = ({ store, provider, rotate, jose }) => {
  const requests = [];
  const rules = new Map();

  const questions = {
    requests: () => requests,

    behaviour: ({ path, times = 1, ...rule }) => {
      rules.delete(path);
      if (Object.keys(rule).length > 0) rules.set(path, { times, ...rule });
    },

    rotate,

    sign: async ({ alg = "RS256", header, claims }) => {
      const jwk = store.keys.find((key) => key.alg === alg);
      const token = new jose.SignJWT(claims).setProtectedHeader({ alg, kid: jwk.kid, ...header });
      return { token: await token.sign(await jose.importJWK(jwk)) };
    },

    "end-sessions": async ({ account }) => {
      const told = [];
      for (const session of store.sessionsOf(account)) {
        store.end(session);
        for (const [id, { sid }] of Object.entries(session.authorizations ?? {})) {
          const client = await provider().Client.find(id);
          if (!client?.backchannelLogoutUri) continue;
          const failed = await client.backchannelLogout(account, sid).then(() => null, String);
          told.push({ client_id: id, sid, failed });
        }
      }
      return told;
    },
  };

  const middleware = async (ctx, next) => {
    const request = { method: ctx.method, path: ctx.path };
    requests.push(request);
    if (requests.length > REQUESTS) requests.shift();
    const rule = rules.get(ctx.path);
    if (rule && --rule.times === 0) rules.delete(ctx.path);
    await sleep(rule?.before_ms);
    if (rule?.status) ctx.status = rule.status;
    else await next();
    await sleep(rule?.after_ms);
    request.status = ctx.status;
    request.client_id = ctx.oidc?.client?.clientId ?? ctx.oidc?.params?.client_id;
    request.grant_type = ctx.oidc?.params?.grant_type;
    request.error = ctx.body?.error;
  };

  return { middleware, listener: (request, response) => answer(questions, request, response) };
};
