// What the provider in issuer.mjs remembers: in memory, and in a file while it is not running.
import { appendFileSync, readFileSync, writeFileSync } from "node:fs";

const now = () => Date.now() / 1000;
const live = (record) => (record && record.expires_at > now() ? record.payload : undefined);

// The models whose ids are secrets.
const SECRET = ["AccessToken", "AuthorizationCode", "RefreshToken", "RegistrationAccessToken"];

export class Store {
  #records = new Map();
  #file;
  #issued;
  keys;

  // FILE need not exist, and need not be given. The file ISSUED gets what is secret, if it is given.
  constructor(file, issued) {
    this.#file = file;
    this.#issued = issued;
    try {
      const saved = JSON.parse(readFileSync(file));
      this.keys = saved.keys;
      this.#records = new Map(saved.records);
    } catch (error) {
      if (file && error.code !== "ENOENT") throw error;
    }
  }

  save() {
    if (!this.#file) return;
    writeFileSync(this.#file, JSON.stringify({ keys: this.keys, records: [...this.#records] }), { mode: 0o600 });
  }

  // The adapter that oidc-provider wants for each of its models.
  adapter(model) {
    const key = (id) => `${model}:${id}`;
    const by = (name, value) => live(this.#all(model).find(({ payload }) => payload[name] === value));
    return {
      upsert: async (id, payload, seconds) => {
        if (SECRET.includes(model)) this.#write(model, id);
        if (payload.client_secret) this.#write("client_secret", payload.client_secret);
        // JSON has no number for ever.
        this.#records.set(key(id), { model, payload, expires_at: seconds ? now() + seconds : Number.MAX_SAFE_INTEGER });
      },
      find: async (id) => live(this.#records.get(key(id))),
      findByUid: async (uid) => by("uid", uid),
      findByUserCode: async (code) => by("userCode", code),
      consume: async (id) => {
        this.#records.get(key(id)).payload.consumed = Math.floor(now());
      },
      destroy: async (id) => {
        this.#records.delete(key(id));
      },
      revokeByGrantId: async (grant) => this.#forget(({ payload }) => payload.grantId === grant),
    };
  }

  // The sessions in which ACCOUNT is signed in.
  sessionsOf(account) {
    return this.#all("Session")
      .map(live)
      .filter((session) => session?.accountId === account);
  }

  // Ends a session and all that was granted in it.
  end(session) {
    const grants = Object.values(session.authorizations ?? {}).map(({ grantId }) => grantId);
    this.#forget(
      ({ model, payload }) => grants.includes(payload.grantId) || (model === "Session" && payload.uid === session.uid),
    );
  }

  #write(kind, secret) {
    if (this.#issued) appendFileSync(this.#issued, `${kind} ${secret}\n`);
  }

  #all(model) {
    return [...this.#records.values()].filter((record) => record.model === model);
  }

  #forget(matches) {
    for (const [id, record] of this.#records) if (matches(record)) this.#records.delete(id);
  }
}
