//! What an instance's own configuration must say, so that people get in as who they are and nobody else does.

use serde_json::Value;

use crate::config::{Instance, InstanceAuth};

const SCOPES: [&str; 2] = ["operator.read", "operator.write"];

/// What must be changed in an instance's `openclaw.json`, a sentence each; none if it is as it must be. `actual` is the
/// `config` of its `config.get`.
#[must_use]
pub(super) fn unmet_requirements(actual: &Value, instance: &Instance) -> Vec<String> {
    if let InstanceAuth::Password { .. } = &instance.auth {
        return unmet_with_password(actual);
    }
    let mut unmet = Vec::new();
    if instance.owner().is_some() && has_roles(actual) {
        unmet.push(
            "gateway.roles must not be there: nobody is given a role in a cell, so its person could do nothing"
                .to_owned(),
        );
    }
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
    unmet.extend(everybodys(&proxies));
    unmet
}

/// The same of a cell that lets in who knows its password.
fn unmet_with_password(actual: &Value) -> Vec<String> {
    let mut unmet = Vec::new();
    let text = |pointer: &str| actual.pointer(pointer).and_then(Value::as_str);
    // The two are the same secret to it.
    if !matches!(text("/gateway/auth/mode"), Some("password" | "token")) {
        unmet.push(
            "gateway.auth.mode must be \"password\": else whoever reaches the cell passes for its person"
                .to_owned(),
        );
    }
    if actual.pointer("/gateway/nodes/pairing/autoApproveLocal") == Some(&Value::Bool(false)) {
        unmet.push(
            "gateway.nodes.pairing.autoApproveLocal must not be false: it would wait for somebody to approve of our key"
                .to_owned(),
        );
    }
    let serves = matches!(text("/gateway/tailscale/mode"), Some("serve" | "funnel"));
    let takes_tailscale = actual.pointer("/gateway/auth/allowTailscale");
    if serves || takes_tailscale == Some(&Value::Bool(true)) {
        unmet.push(
            "gateway.tailscale.mode must be \"off\" and gateway.auth.allowTailscale not true: people would come past \
             us, and without the password"
                .to_owned(),
        );
    }
    let proxies = actual
        .pointer("/gateway/trustedProxies")
        .and_then(Value::as_array);
    let proxies = proxies.into_iter().flatten().filter_map(Value::as_str);
    unmet.extend(everybodys(&proxies.collect::<Vec<_>>()));
    unmet
}

fn everybodys(proxies: &[&str]) -> impl Iterator<Item = String> {
    let everybodys = proxies.iter().filter(|network| network.ends_with("/0"));
    everybodys.map(|everybody| {
        format!("gateway.trustedProxies must not hold \"{everybody}\": anybody could name any user")
    })
}

/// Whether it allows people what their roles say.
fn has_roles(actual: &Value) -> bool {
    let roles = actual.pointer("/gateway/roles");
    let definitions = roles.and_then(|roles| roles.get("definitions")?.as_object());
    definitions.is_some_and(|definitions| !definitions.is_empty())
        || roles.is_some_and(|roles| roles.get("default").is_some_and(Value::is_string))
}

/// What may be left as it is in an instance's `openclaw.json`, and is better changed, a sentence each.
pub(super) fn advice(actual: &Value, instance: &Instance) -> Vec<String> {
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
    if instance.owner().is_some() {
        advice.extend(advice_to_cell(actual, instance));
    }
    advice
}

fn advice_to_cell(actual: &Value, instance: &Instance) -> Vec<String> {
    let mut advice = Vec::new();
    let approved = actual.pointer("/gateway/auth/trustedProxy/deviceAutoApprove/scopes");
    let is_proxied = matches!(&instance.auth, InstanceAuth::TrustedProxy { .. });
    for scope in ["operator.approvals", "operator.questions"] {
        if is_proxied && approved.is_some() && !holds(approved, scope) {
            advice.push(format!(
                "gateway.auth.trustedProxy.deviceAutoApprove.scopes had better hold {scope}: else nobody can answer what \
                 the agent asks for"
            ));
        }
    }
    let bind = actual.pointer("/gateway/bind").and_then(Value::as_str);
    if !is_proxied && bind.is_some_and(|bind| bind != "loopback") {
        advice.push(
            "gateway.bind is better \"loopback\": who finds out the password could come past us"
                .to_owned(),
        );
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
        assert_eq!(
            advice(&config, &instance()).len(),
            2,
            "off, as OpenClaw has it"
        );
        config["gateway"]["http"] = json!({"endpoints": {
            "chatCompletions": {"enabled": true}, "responses": {"enabled": true},
        }});
        assert_eq!(advice(&config, &instance()).len(), 2, "it may fetch");
        for kind in ["files", "images"] {
            config["gateway"]["http"]["endpoints"]["responses"][kind] = json!({"allowUrl": false});
        }
        assert_eq!(advice(&config, &instance()), Vec::<String>::new());
        assert_eq!(
            unmet_requirements(&config, &instance()),
            Vec::<String>::new()
        );
    }

    fn cell(auth: &str) -> Instance {
        let text = format!(
            "name = \"one\"\nurl = \"http://127.0.0.1:1\"\nmode = \"cell\"\nuser = \"alice\"\n\
             auth = {{ kind = \"{auth}\", password = \"p\" }}"
        );
        toml::from_str(&text).unwrap()
    }

    #[test]
    fn a_cell_lets_in_who_knows_the_password_and_nobody_else() {
        let cell = cell("password");
        let good = json!({"gateway": {"auth": {"mode": "password"}, "bind": "loopback"}});
        assert_eq!(unmet_requirements(&good, &cell), Vec::<String>::new());
        let cells =
            |config: &Value| advice(config, &cell).len() - advice(config, &instance()).len();
        assert_eq!(cells(&good), 0);
        let lan = json!({"gateway": {"auth": {"mode": "token"}, "bind": "lan"}});
        assert_eq!((unmet_requirements(&lan, &cell).len(), cells(&lan)), (0, 1));
        for (pointer, wrong, named) in [
            ("mode", json!("none"), "auth.mode"),
            ("mode", json!("trusted-proxy"), "auth.mode"),
            ("mode", Value::Null, "auth.mode"),
            ("allowTailscale", json!(true), "allowTailscale"),
        ] {
            let mut config = good.clone();
            config["gateway"]["auth"][pointer] = wrong;
            let unmet = unmet_requirements(&config, &cell);
            assert!(unmet.len() == 1 && unmet[0].contains(named), "{unmet:?}");
        }
        for (key, wrong) in [
            ("tailscale", json!({"mode": "funnel"})),
            ("trustedProxies", json!(["::/0"])),
            ("nodes", json!({"pairing": {"autoApproveLocal": false}})),
        ] {
            let mut config = good.clone();
            config["gateway"][key] = wrong;
            assert_eq!(unmet_requirements(&config, &cell).len(), 1, "{key}");
        }
    }

    #[test]
    fn a_cell_that_is_told_its_person_has_no_roles() {
        let cell = cell("trusted-proxy");
        let mut config = good();
        assert_eq!(unmet_requirements(&config, &cell), Vec::<String>::new());
        let advice = advice(&config, &cell);
        let asked = advice.iter().filter(|sentence| sentence.contains("scopes"));
        assert_eq!(asked.count(), 2, "{advice:?}");
        for roles in [
            json!({"default": "nobody"}),
            json!({"definitions": {"a": {}}}),
        ] {
            config["gateway"]["roles"] = roles;
            let unmet = unmet_requirements(&config, &cell);
            assert!(
                unmet.len() == 1 && unmet[0].contains("gateway.roles"),
                "{unmet:?}"
            );
            assert_eq!(
                unmet_requirements(&config, &instance()),
                Vec::<String>::new()
            );
        }
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
