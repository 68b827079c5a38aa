//! What an instance's own configuration must say, so that people get in as who they are and nobody else does.

use serde_json::Value;

use crate::config::{Instance, InstanceAuth};

const SCOPES: [&str; 2] = ["operator.read", "operator.write"];

/// What must be changed in an instance's `openclaw.json`, a sentence each; none if it is as it must be. `actual` is the
/// `config` of its `config.get`.
#[must_use]
pub(super) fn unmet_requirements(actual: &Value, instance: &Instance) -> Vec<String> {
    let mut unmet = Vec::new();
    let auth = actual.pointer("/gateway/auth");
    let text = |pointer: &str| {
        auth.and_then(|auth| auth.pointer(pointer))
            .and_then(Value::as_str)
    };
    if text("/mode") != Some("trusted-proxy") {
        unmet.push("gateway.auth.mode must be \"trusted-proxy\", so that each person is who we say they are".to_owned());
    }
    if let InstanceAuth::TrustedProxy { user_header, .. } = &instance.auth {
        let header = text("/trustedProxy/userHeader");
        if !header.is_some_and(|header| header.eq_ignore_ascii_case(user_header)) {
            unmet.push(format!(
                "gateway.auth.trustedProxy.userHeader must be \"{user_header}\""
            ));
        }
    }
    let approve = auth.and_then(|auth| auth.pointer("/trustedProxy/deviceAutoApprove"));
    let approved = approve.and_then(|approve| approve.get("scopes"));
    if approve.and_then(|approve| approve.get("enabled")) != Some(&Value::Bool(true))
        || !SCOPES.iter().all(|scope| holds(approved, scope))
    {
        unmet.push(format!(
            "gateway.auth.trustedProxy.deviceAutoApprove must be enabled with the scopes {}",
            SCOPES.join(" and ")
        ));
    }
    if !holds(
        actual.pointer("/gateway/controlUi/allowedOrigins"),
        &instance.origin,
    ) {
        unmet.push(format!(
            "gateway.controlUi.allowedOrigins must hold \"{}\"",
            instance.origin
        ));
    }
    let proxies = actual
        .pointer("/gateway/trustedProxies")
        .and_then(Value::as_array);
    let proxies: Vec<&str> = proxies
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if proxies.is_empty() {
        unmet.push(
            "gateway.trustedProxies must hold the address that this gateway connects from"
                .to_owned(),
        );
    }
    for everybody in proxies.iter().filter(|network| network.ends_with("/0")) {
        unmet.push(format!(
            "gateway.trustedProxies must not hold \"{everybody}\": anybody could name any user"
        ));
    }
    unmet
}

/// What may be left as it is in an instance's `openclaw.json`, and is better changed, a sentence each.
pub(super) fn advice(actual: &Value) -> Vec<String> {
    let endpoints = "/gateway/http/endpoints";
    let is = |path: &str, wanted: bool| {
        let found = actual.pointer(&format!("{endpoints}/{path}"));
        found == Some(&Value::Bool(wanted))
    };
    let mut advice = Vec::new();
    for (endpoint, path) in [
        ("chatCompletions", "/v1/chat/completions"),
        ("responses", "/v1/responses"),
    ] {
        if !is(&format!("{endpoint}/enabled"), true) {
            advice.push(format!(
                "gateway.http.endpoints.{endpoint}.enabled is not true, so {path} is answered by 501"
            ));
        }
    }
    // Nothing that we send on names a URL: these are for the day that something does.
    if is("responses/enabled", true) {
        for kind in ["files", "images"] {
            if !is(&format!("responses/{kind}/allowUrl"), false) {
                advice.push(format!(
                    "gateway.http.endpoints.responses.{kind}.allowUrl is better false: nobody can make the instance fetch"
                ));
            }
        }
    }
    advice
}

fn holds(list: Option<&Value>, text: &str) -> bool {
    list.and_then(Value::as_array)
        .is_some_and(|list| list.iter().any(|item| item == text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn instance() -> Instance {
        toml::from_str(
            "name = \"one\"\nurl = \"http://127.0.0.1:1\"\nauth = { kind = \"trusted-proxy\", password = \"p\" }",
        )
        .unwrap()
    }

    fn good() -> Value {
        json!({"gateway": {
            "trustedProxies": ["127.0.0.1"],
            "auth": {"mode": "trusted-proxy", "trustedProxy": {
                "userHeader": "X-Forwarded-User",
                "deviceAutoApprove": {"enabled": true, "scopes": ["operator.read", "operator.write"]},
            }},
            "controlUi": {"allowedOrigins": ["https://proxy.internal"]},
        }})
    }

    #[test]
    fn a_good_instance_lacks_nothing() {
        assert_eq!(
            unmet_requirements(&good(), &instance()),
            Vec::<String>::new()
        );
    }

    #[test]
    fn the_http_api_is_advised_and_not_required() {
        let mut config = good();
        assert_eq!(advice(&config).len(), 2, "off, as OpenClaw has it");
        config["gateway"]["http"] = json!({"endpoints": {
            "chatCompletions": {"enabled": true}, "responses": {"enabled": true},
        }});
        assert_eq!(advice(&config).len(), 2, "it may fetch");
        for kind in ["files", "images"] {
            config["gateway"]["http"]["endpoints"]["responses"][kind] = json!({"allowUrl": false});
        }
        assert_eq!(advice(&config), Vec::<String>::new());
        assert_eq!(
            unmet_requirements(&config, &instance()),
            Vec::<String>::new()
        );
    }

    #[test]
    fn each_requirement_is_named() {
        for (pointer, wrong, named) in [
            ("/gateway/auth/mode", json!("password"), "auth.mode"),
            (
                "/gateway/auth/trustedProxy/userHeader",
                json!("x-user"),
                "userHeader",
            ),
            (
                "/gateway/auth/trustedProxy/deviceAutoApprove/enabled",
                json!(false),
                "deviceAutoApprove",
            ),
            (
                "/gateway/auth/trustedProxy/deviceAutoApprove/scopes",
                json!(["operator.read"]),
                "deviceAutoApprove",
            ),
            (
                "/gateway/controlUi/allowedOrigins",
                json!(["https://other"]),
                "allowedOrigins",
            ),
            ("/gateway/trustedProxies", json!([]), "trustedProxies"),
            ("/gateway/trustedProxies", json!(["0.0.0.0/0"]), "anybody"),
        ] {
            let mut config = good();
            *config.pointer_mut(pointer).unwrap() = wrong;
            let unmet = unmet_requirements(&config, &instance());
            assert!(
                unmet.len() == 1 && unmet[0].contains(named),
                "{pointer}: {unmet:?}"
            );
        }
        assert!(
            unmet_requirements(&json!({}), &instance()).len() >= 5,
            "an empty configuration lacks all"
        );
    }
}
