//! The answer to `connect`: the user's own view of the instance.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::connect::PROTOCOL_VERSION;
use super::method::METHODS;

/// What of the instance's `hello-ok` a client may see.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct HelloView {
    server: Server,
    policy: Map<String, Value>,
    #[serde(default)]
    snapshot: Snapshot,
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
}

/// The response frame to the `connect` request `id`, for a client whose messages may have `max_payload` bytes: written
/// anew, so that neither the instance's `deviceToken` nor
/// other people's presence, sessions or agents can slip through.
#[must_use]
pub fn hello_ok(id: &str, view: &HelloView, agent: &str, max_payload: usize) -> String {
    let mut policy = view.policy.clone();
    policy.insert("maxPayload".to_owned(), max_payload.into());
    let methods: Vec<&str> = METHODS.iter().map(|method| method.name).collect();
    let frame = serde_json::json!({
        "type": "res",
        "id": id,
        "ok": true,
        "payload": {
            "type": "hello-ok",
            "protocol": PROTOCOL_VERSION,
            "server": view.server,
            "features": {
                "methods": methods,
                "events": ["agent", "chat", "chat.metadata.changed", "session.message", "session.operation",
                    "session.tool", "sessions.changed", "shutdown", "tick"],
                "capabilities": [],
            },
            "snapshot": {
                "presence": [],
                "health": {},
                "stateVersion": { "presence": 0, "health": 0 },
                "uptimeMs": view.snapshot.uptime_ms,
                "authMode": "trusted-proxy",
                "sessionDefaults": {
                    "defaultAgentId": agent,
                    "mainKey": "main",
                    "mainSessionKey": format!("agent:{agent}:main"),
                    "scope": "per-sender",
                },
            },
            "auth": {
                "method": "trusted-proxy",
                "role": "operator",
                "scopes": ["operator.read", "operator.write"],
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
    fn neither_secrets_nor_others_are_in_the_users_view() {
        let view: HelloView = serde_json::from_str(
            r#"{"type":"hello-ok","protocol":4,"server":{"version":"2026.9.6","buildId":"b","connId":"c"},
            "features":{"methods":["config.get"],"events":[]},
            "snapshot":{"presence":[{"user":{"email":"bob@example.com"}}],"health":{"agents":[{"agentId":"user-bob"}]},
            "uptimeMs":5,"configPath":"/etc/openclaw.json","stateDir":"/state"},
            "pluginSurfaceUrls":{"canvas":"https://x/cap/secret"},
            "auth":{"deviceToken":"canary","recoveryScope":"r"},"policy":{"maxPayload":26214400,"tickIntervalMs":30000}}"#,
        )
        .unwrap();
        let hello = hello_ok("1", &view, "user-alice", 1_000);
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
            hello["payload"]["snapshot"]["sessionDefaults"]["mainSessionKey"],
            "agent:user-alice:main"
        );
    }
}
