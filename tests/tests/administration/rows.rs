//! The routes, in the order in which whoever may ask them asks them: what ends most comes last.

use ::http::Method;

/// A route, what is asked of it, and what whoever may ask is answered.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) method: Method,
    /// As the gateway declares it; see `Names` for what is put for `{…}`.
    pub(crate) path: &'static str,
    /// The query, with its question mark.
    pub(crate) query: &'static str,
    /// JSON; empty is none.
    pub(crate) body: &'static str,
    pub(crate) answer: u16,
}

const fn row(
    method: Method,
    path: &'static str,
    query: &'static str,
    body: &'static str,
    answer: u16,
) -> Row {
    Row {
        method,
        path,
        query,
        body,
        answer,
    }
}

const fn get(path: &'static str) -> Row {
    row(Method::GET, path, "", "", 200)
}

const fn get_with(path: &'static str, query: &'static str) -> Row {
    row(Method::GET, path, query, "", 200)
}

const fn post(path: &'static str, body: &'static str, answer: u16) -> Row {
    row(Method::POST, path, "", body, answer)
}

const fn put(path: &'static str, body: &'static str, answer: u16) -> Row {
    row(Method::PUT, path, "", body, answer)
}

const fn delete(path: &'static str) -> Row {
    row(Method::DELETE, path, "", "", 204)
}

const fn delete_with(path: &'static str, query: &'static str) -> Row {
    row(Method::DELETE, path, query, "", 204)
}

pub(crate) const ROWS: &[Row] = &[
    get("/openapi.json"),
    get("/health"),
    get("/livez"),
    get("/readyz"),
    // Of whoever comes.
    row(Method::GET, "/auth/login", "", "", 303),
    row(Method::GET, "/auth/callback", "", "", 400),
    get("/auth/signed-out"),
    post("/auth/backchannel-logout", "", 400),
    row(Method::GET, "/ws", "", "", 426),
    // Of people.
    post("/api/openclaw/initialize", "{}", 200),
    get("/api/openclaw/status"),
    get("/api/openclaw/credentials"),
    post("/v1/chat/completions", CHAT, 200),
    post("/v1/responses", RESPONSE, 200),
    get("/v1/models"),
    get("/v1/models/{*name}"),
    // The page.
    get("/"),
    get("/chat"),
    get("/chat/{*rest}"),
    get("/new"),
    get("/assets/{*rest}"),
    row(Method::GET, "/file-icons/{*rest}", "", "", 404),
    row(Method::GET, "/fonts/{*rest}", "", "", 404),
    get("/apple-touch-icon.png"),
    get("/favicon-32.png"),
    get("/favicon.ico"),
    get("/favicon.svg"),
    get("/manifest.webmanifest"),
    get("/sw.js"),
    get("/control-ui-config.json"),
    // What they know and have.
    get("/api/user/info"),
    get("/api/quota"),
    get("/api/quota/explain"),
    get("/api/alerts"),
    get("/api/usage"),
    get("/api/usage/records"),
    get_with("/api/usage/export", "?format=jsonl"),
    get("/api/keys"),
    post("/api/keys", r#"{"name":"one more"}"#, 201),
    delete("/api/keys/{id}"),
    put(
        "/api/openclaw/provider-key",
        r#"{"key":"sk-own-0123456789"}"#,
        204,
    ),
    delete("/api/openclaw/provider-key"),
    // Of administrators: what they read.
    get("/api/admin/users"),
    get("/api/admin/users/{user_id}/export"),
    get("/api/admin/users/{user_id}/snapshots"),
    get("/api/admin/users/{user_id}/sessions"),
    get("/api/admin/users/{user_id}/keys"),
    get("/api/admin/users/{user_id}/quota"),
    get("/api/admin/users/{user_id}/quota/explain"),
    get("/api/admin/usage"),
    get("/api/admin/usage/records"),
    get_with("/api/admin/usage/export", "?format=csv"),
    get("/api/admin/usage/reconcile"),
    get("/api/admin/virtual-keys"),
    get("/api/admin/instances"),
    get("/api/admin/quotas"),
    get("/api/admin/counters"),
    get("/api/admin/plans"),
    get("/api/admin/prices"),
    get("/api/admin/alerts"),
    get("/api/admin/audit"),
    // What they change.
    post("/api/admin/users/{user_id}/snapshots", "", 201),
    post(
        "/api/admin/users/{user_id}/identities",
        r#"{"provider":"other","subject":"alice"}"#,
        204,
    ),
    post(
        "/api/admin/users/{user_id}/quota/grants",
        r#"{"dimension":"calls","window":"day","amount":1,"expiresAt":"2100-01-01T00:00:00Z"}"#,
        201,
    ),
    post("/api/admin/users/{user_id}/quota/reset", "", 200),
    // Versions: the fixture's, the grant's and the reset's.
    put(
        "/api/admin/users/{user_id}/quota",
        r#"{"version":3,"timeZone":"Europe/Berlin"}"#,
        200,
    ),
    post("/api/admin/provider-keys/reseal", "", 200),
    post("/api/admin/usage/reprice", "", 200),
    post("/api/admin/alerts/{id}/acknowledge", "", 200),
    post("/api/admin/alerts/{id}/resolve", r#"{"note":"so"}"#, 200),
    post("/api/admin/instances/{name}/drain", "", 204),
    post("/api/admin/instances/{name}/resume", "", 204),
    post(
        "/api/admin/instances",
        r#"{"name":"added","url":"http://127.0.0.1:1","auth":{"kind":"trusted-proxy","password":"x"}}"#,
        201,
    ),
    delete("/api/admin/instances/{name}"),
    delete("/api/admin/counters/members/{member}"),
    // What ends something of the user's.
    post("/api/admin/users/{user_id}/virtual-key/rotate", "", 200),
    delete("/api/admin/users/{user_id}/virtual-key"),
    delete("/api/admin/users/{user_id}/keys/{id}"),
    delete("/api/admin/users/{user_id}/sessions/{id}"),
    delete("/api/admin/users/{user_id}/sessions"),
    delete_with("/api/admin/users/{user_id}/assignment", "?instance=pool-1"),
    post("/api/admin/users/{user_id}/disable", "", 204),
    post("/api/admin/users/{user_id}/enable", "", 204),
    delete("/api/admin/users/{user_id}"),
    SIGN_OUT,
];

/// What ends it for whoever asks, from a page.
pub(crate) const SIGN_OUT: Row = post("/auth/logout", "", 200);

/// More than the plan has, for oneself.
pub(crate) const RAISE: Row = post(
    "/api/openclaw/initialize",
    r#"{"quotaTokensPerDay":3000000}"#,
    200,
);

const CHAT: &str =
    r#"{"model":"openclaw","messages":[{"role":"user","content":"[[in=1]] [[out=1]] hi"}]}"#;

const RESPONSE: &str = r#"{"model":"openclaw","input":"[[in=1]] [[out=1]] hi"}"#;

/// Whether the log has what was before an act, and what is after it.
pub(crate) const STATES: &[(&str, [bool; 2])] = &[
    ("alert.acknowledge", CHANGES),
    ("alert.resolve", CHANGES),
    ("counters.forget", ENDS),
    ("instance.add", MAKES),
    ("instance.drain", CHANGES),
    ("instance.remove", ENDS),
    ("instance.resume", CHANGES),
    ("key.revoke", ENDS),
    ("provider-keys.reseal", CHANGES),
    ("quota.grant", CHANGES),
    ("quota.reset", CHANGES),
    ("quota.set", CHANGES),
    ("session.end", ENDS),
    ("sessions.end", CHANGES),
    ("snapshot.take", MAKES),
    ("usage.reprice", CHANGES),
    ("user.delete", ENDS),
    ("user.disable", CHANGES),
    ("user.enable", CHANGES),
    // It takes out, and changes nothing.
    ("user.export", [false, false]),
    ("user.link", CHANGES),
    ("user.unassign", ENDS),
    ("virtual-key.revoke", CHANGES),
    ("virtual-key.rotate", CHANGES),
];

const CHANGES: [bool; 2] = [true, true];

const MAKES: [bool; 2] = [false, true];

const ENDS: [bool; 2] = [true, false];

// === impl Row ===

impl Row {
    /// Whether it is about a thing of somebody's that is named.
    pub(crate) fn names_a_thing(&self) -> bool {
        self.path.contains('{') && !self.path.contains("{*")
    }

    pub(crate) fn is_sign_out(&self) -> bool {
        self.path == SIGN_OUT.path
    }
}
