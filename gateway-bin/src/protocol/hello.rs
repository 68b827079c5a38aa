//! The answer to `connect`: the user's own view of the instance.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::connect::PROTOCOL_VERSION;
use super::events::{EVENTS, Scope};
use super::method::{Answer, METHODS, RENEW};
use super::policy::{Policy, Verdict, judge};
use super::view::{Owner, View};

/// What of the instance's `hello-ok` a client may see.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct HelloView {
    server: Server,
    policy: Map<String, Value>,
    /// Some ten kilobytes that matter in a cell only.
    #[serde(default)]
    features: Option<Box<RawValue>>,
    #[serde(default)]
    snapshot: Snapshot,
    #[serde(default)]
    auth: Auth,
}

#[derive(Debug, Default, Deserialize)]
struct Auth {
    #[serde(default)]
    scopes: Vec<String>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Server {
    version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    build_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boot_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    conn_id: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Snapshot {
    #[serde(default)]
    uptime_ms: u64,
    #[serde(default)]
    presence: Value,
    #[serde(default)]
    health: Value,
    #[serde(default)]
    state_version: Value,
    #[serde(default)]
    session_defaults: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Features {
    methods: Vec<String>,
    events: Vec<String>,
}

// === impl HelloView ===

impl HelloView {
    /// The instance's own version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.server.version
    }

    /// Whether the connection may read and write.
    #[must_use]
    pub fn may_write(&self) -> bool {
        SCOPES
            .iter()
            .all(|scope| self.auth.scopes.iter().any(|given| given == scope))
    }
}

/// The scopes of every person.
const SCOPES: [&str; 2] = ["operator.read", "operator.write"];

/// The response frame to the `connect` request `id`, for a client whose messages may have `max_payload` bytes: written
/// anew, so that neither the instance's `deviceToken` nor
/// other people's presence, sessions or agents can slip through.
#[must_use]
pub fn hello_ok(id: &str, view: &HelloView, owner: &Owner, max_payload: usize) -> String {
    let agent = &*owner.agent;
    let of_snapshot = |part: &Value, view| owner.show(part.clone(), view);
    let presence = of_snapshot(&view.snapshot.presence, View::Presence);
    let health = of_snapshot(&view.snapshot.health, View::Health);
    let mut policy = view.policy.clone();
    policy.insert("maxPayload".to_owned(), max_payload.into());
    // What is only answered so that the shipped page is content is not offered: it would show what nobody has.
    let offered = METHODS
        .iter()
        .filter(|method| !matches!(method.answer, Answer::Fixed(_)));
    let methods: Vec<&str> = offered.map(|method| method.name).collect();
    let told = EVENTS
        .iter()
        .filter(|row| row.advertised && row.scope != Scope::Nobody);
    let events: Vec<&str> = told.map(|row| row.name).collect();
    let frame = json!({
        "type": "res",
        "id": id,
        "ok": true,
        "payload": {
            "type": "hello-ok",
            "protocol": PROTOCOL_VERSION,
            "server": view.server,
            "features": {
                "methods": methods,
                "events": events,
                "capabilities": [],
            },
            "snapshot": {
                "presence": presence.unwrap_or_else(|| json!([])),
                "health": health.unwrap_or_else(|| json!({})),
                "stateVersion": { "presence": 0, "health": 0 },
                "uptimeMs": view.snapshot.uptime_ms,
                "authMode": "trusted-proxy",
                "sessionDefaults": {
                    "defaultAgentId": agent,
                    "mainKey": "main",
                    "mainSessionKey": owner.main_session(),
                    "scope": "per-sender",
                },
            },
            "auth": {
                "method": "trusted-proxy",
                "role": "operator",
                "scopes": SCOPES,
                // The shipped page keeps what it has not sent yet under this name: the same for all connections of a
                // user, and nobody else's.
                "recoveryScope": format!("gateway:{agent}"),
            },
            "policy": policy,
        },
    });
    frame.to_string()
}

/// The same in the client's own cell: what is in it is theirs, and is shown as it is. What runs it is not, and neither
/// are the secrets of our own connection to it.
#[must_use]
pub fn hello_ok_of_cell(id: &str, view: &HelloView, owner: &Owner, max_payload: usize) -> String {
    let features = view.features.as_deref().map(RawValue::get);
    let features = features.and_then(|features| serde_json::from_str(features).ok());
    let Features { methods, events } = features.unwrap_or_default();
    let passes = |name: &str| judge(Policy::Cell, name) == Verdict::Pass;
    let methods = methods.iter().map(String::as_str);
    let methods = methods.filter(|name| passes(name)).chain([RENEW]);
    let methods: Vec<&str> = methods.collect();
    let mut policy = view.policy.clone();
    policy.insert("maxPayload".to_owned(), max_payload.into());
    let Snapshot {
        uptime_ms,
        presence,
        health,
        state_version,
        session_defaults,
    } = &view.snapshot;
    let frame = json!({
        "type": "res",
        "id": id,
        "ok": true,
        "payload": {
            "type": "hello-ok",
            "protocol": PROTOCOL_VERSION,
            "server": view.server,
            "features": { "methods": methods, "events": events, "capabilities": [] },
            "snapshot": {
                "presence": presence, "health": health, "stateVersion": state_version,
                "uptimeMs": uptime_ms, "sessionDefaults": session_defaults,
                // With any other one the shipped page has a form for the cell's password.
                "authMode": "trusted-proxy",
            },
            "auth": {
                "method": "trusted-proxy",
                "role": "operator",
                "scopes": view.auth.scopes,
                "recoveryScope": format!("gateway:cell:{}", owner.user),
            },
            "policy": policy,
        },
    });
    frame.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_their_cell_somebody_sees_all_but_what_runs_it() {
        let view: HelloView = serde_json::from_str(
            r#"{"type":"hello-ok","protocol":4,"server":{"version":"2026.9.6"},
            "features":{"methods":["agents.files.get","chat.send","config.patch","future.method"],"events":["chat","future"],
            "capabilities":["x"]},"snapshot":{"presence":[{"host":"vm"}],"health":{"ok":true},"stateVersion":{"presence":3},
            "sessionDefaults":{"mainSessionKey":"agent:main:main"},"uptimeMs":5,"configPath":"/etc/openclaw.json",
            "stateDir":"/state"},"pluginSurfaceUrls":{"canvas":"https://x/cap/secret"},
            "auth":{"deviceToken":"canary","recoveryScope":"r","scopes":["operator.read","operator.write"]},"policy":{}}"#,
        )
        .unwrap();
        let hello = hello_ok_of_cell("1", &view, &Owner::new("main", "alice"), 1_000);
        for foreign in [
            "canary",
            "config.patch",
            "future.method",
            "/etc",
            "/state",
            "cap/secret",
        ] {
            assert!(!hello.contains(foreign), "{foreign}");
        }
        let hello: Value = serde_json::from_str(&hello).unwrap();
        let payload = &hello["payload"];
        let methods = json!(["agents.files.get", "chat.send", "gateway.renew"]);
        assert_eq!(payload["features"]["methods"], methods);
        assert_eq!(payload["features"]["events"], json!(["chat", "future"]));
        assert_eq!(payload["snapshot"]["stateVersion"]["presence"], 3);
        assert_eq!(payload["auth"]["recoveryScope"], "gateway:cell:alice");
        assert_eq!(payload["policy"]["maxPayload"], 1_000);
    }

    #[test]
    fn neither_secrets_nor_others_are_in_the_users_view() {
        let view: HelloView = serde_json::from_str(
            r#"{"type":"hello-ok","protocol":4,"server":{"version":"2026.9.6","buildId":"b","connId":"c"},
            "features":{"methods":["config.get"],"events":[]},
            "snapshot":{"presence":[{"user":{"email":"bob"}},{"user":{"email":"alice"}}],
            "health":{"ok":true,"agents":[{"agentId":"user-bob"}]},
            "uptimeMs":5,"configPath":"/etc/openclaw.json","stateDir":"/state"},
            "pluginSurfaceUrls":{"canvas":"https://x/cap/secret"},
            "auth":{"deviceToken":"canary","recoveryScope":"r","scopes":["operator.read"]},"policy":{"maxPayload":26214400,"tickIntervalMs":30000}}"#,
        )
        .unwrap();
        assert!(!view.may_write(), "it may only read");
        let hello = hello_ok("1", &view, &Owner::new("user-alice", "alice"), 1_000);
        for foreign in [
            "canary",
            "bob",
            "config.get",
            "/etc",
            "/state",
            "cap/secret",
        ] {
            assert!(!hello.contains(foreign), "{foreign}");
        }
        let hello: serde_json::Value = serde_json::from_str(&hello).unwrap();
        assert_eq!(
            hello["payload"]["policy"]["maxPayload"], 1_000,
            "our own limit"
        );
        assert_eq!(hello["payload"]["policy"]["tickIntervalMs"], 30_000);
        assert_eq!(
            hello["payload"]["snapshot"]["presence"],
            json!([{"user": {"email": "alice"}}])
        );
        assert_eq!(hello["payload"]["snapshot"]["health"]["ok"], true);
        assert_eq!(
            hello["payload"]["snapshot"]["sessionDefaults"]["mainSessionKey"],
            "agent:user-alice:main"
        );
    }
}
