//! The configuration an instance starts with.

use std::path::Path;

use serde_json::{Value, json};

/// The header that names the user, in front of an instance in trusted-proxy mode.
pub const USER_HEADER: &str = "x-forwarded-user";

/// The one browser origin an instance accepts: the gateway presents it for everybody.
pub const PROXY_ORIGIN: &str = "https://proxy.internal";

/// The smallest configuration of a pool instance that reaches nobody.
///
/// There is no model provider in it, so no agent can call a model until the gateway has given it
/// one. OpenClaw keeps the file it finds at its very first start; afterwards it is changed by
/// `config.patch` only, and a file put in its place from outside is thrown away.
pub(crate) fn pool(dir: &Path, port: u16, password: &str) -> Value {
    json!({
        "gateway": {
            "mode": "local",
            "port": port,
            "bind": "loopback",
            "trustedProxies": ["127.0.0.1"],
            "auth": {
                "mode": "trusted-proxy",
                "password": password,
                "trustedProxy": {
                    "userHeader": USER_HEADER,
                    "requiredHeaders": [],
                    "allowLoopback": true,
                    "deviceAutoApprove": {
                        "enabled": true,
                        "scopes": ["operator.read", "operator.write"],
                    },
                },
            },
            "http": {"endpoints": {
                "chatCompletions": {"enabled": true},
                "responses": {
                    "enabled": true,
                    "files": {"allowUrl": false},
                    "images": {"allowUrl": false},
                },
            }},
            "controlUi": {
                "enabled": true,
                "communityInvite": false,
                "automaticallyFetchFavicons": false,
                "allowedOrigins": [PROXY_ORIGIN],
            },
            "terminal": {"enabled": false},
        },
        // The default log is one file per host, shared by all instances and readable through them.
        "logging": {"file": dir.join("openclaw.log")},
        "models": {"mode": "replace", "catalogRefresh": {"enabled": false}, "providers": {}},
        "agents": {"defaults": {
            "workspace": dir.join("workspace"),
            // Model calls that nobody asked for.
            "heartbeat": {"every": "0m"},
            "utilityModel": "",
        }},
        "skills": {"workshop": {"autonomous": {"mode": "off"}}},
        // What would reach into the internet.
        "plugins": {"enabled": false},
        "browser": {"enabled": false},
        "telemetry": {"enabled": false},
        "update": {"checkOnStart": false},
    })
}
