//! `gateway.toml`, the secrets that it names, and the template of an instance's configuration.

use std::{fs, path::Path, time::Duration};

use gateway::config::{InstanceAuth, load};
use gateway_tests::{error::Result, openclaw::PROXY_ORIGIN, process::Process};
use serde_json::Value;
use tokio::process::Command;

use crate::{deploy, shipped};

/// Has the secrets made, with what an operator puts beside them.
pub(crate) async fn make_secrets(dir: &Path) -> Result<()> {
    let make = async || {
        let mut command = Command::new(deploy("make-secrets"));
        command.arg(dir.join("secrets"));
        Process::spawn("make-secrets", command, dir.join("make.log"))?
            .succeed(Duration::from_secs(60))
            .await
    };
    make().await?;
    let said = fs::read_to_string(dir.join("make.log")).expect("a log");
    assert!(
        said.contains("still to be put")
            && said.contains("oidc_client_secret provider_key tls_certificate tls_key"),
        "{said}"
    );
    let before = fs::read_to_string(dir.join("secrets/master_keys")).expect("keys");
    for own in [
        "oidc_client_secret",
        "provider_key",
        "tls_certificate",
        "tls_key",
    ] {
        fs::write(dir.join("secrets").join(own), "own\n").expect("a secret");
    }
    make().await?;
    let after = fs::read_to_string(dir.join("secrets/master_keys")).expect("keys");
    assert_eq!(after, before, "what is there stays");
    Ok(())
}

#[tokio::test]
async fn the_gateways_configuration_loads_with_the_secrets_that_are_made() -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    make_secrets(dir.path()).await?;
    let path = dir.path().join("gateway.toml");
    let secrets = format!("{}/", dir.path().join("secrets").display());
    let text = shipped("gateway/gateway.toml");
    fs::write(&path, text.replace("/run/secrets/", &secrets)).expect("a configuration");
    let config = load(&path, |_| None).unwrap_or_else(|error| panic!("{error}"));

    let mut passwords = Vec::new();
    for instance in &config.instance {
        assert_eq!(
            instance.url,
            format!("http://{}:18789", instance.name),
            "a service is called so"
        );
        assert_eq!(instance.origin, PROXY_ORIGIN);
        let InstanceAuth::TrustedProxy {
            password: Some(password),
            ..
        } = &instance.auth
        else {
            panic!("{} has no password", instance.name);
        };
        passwords.push(password.expose().to_owned());
    }
    passwords.sort();
    passwords.dedup();
    assert_eq!(
        passwords.len(),
        3,
        "each instance has a password of its own"
    );
    assert!(
        passwords.iter().all(|password| password.len() == 64),
        "and nobody guesses one"
    );
    assert_eq!(config.session.keys().expect("keys").len(), 1);

    // One typing error, and it is named.
    let wrong = text
        .replace("/run/secrets/", &secrets)
        .replacen("egress_url", "egres_url", 1);
    fs::write(&path, wrong).expect("a configuration");
    let error = load(&path, |_| None)
        .expect_err("an unknown key")
        .to_string();
    assert!(error.contains("egres_url"), "{error}");
    Ok(())
}

/// What the page "from zero to the first chat" has people put into the file, for each provider.
#[tokio::test]
async fn each_provider_of_the_readme_is_one_with_the_rest_of_the_file() -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    make_secrets(dir.path()).await?;
    let secrets = format!("{}/", dir.path().join("secrets").display());
    let (file, readme) = (shipped("gateway/gateway.toml"), shipped("README.md"));
    let (before, rest) = file.split_once("\n[[issuer]]").expect("an issuer");
    let (_, after) = rest.split_once("\n[roles]").expect("roles");
    let mut kinds = Vec::new();
    for snippet in readme.split("```toml\n").skip(1) {
        let (snippet, _) = snippet.split_once("```").expect("an end");
        let text = format!("{before}\n{snippet}\n[roles]{after}");
        let path = dir.path().join("gateway.toml");
        fs::write(&path, text.replace("/run/secrets/", &secrets)).expect("a configuration");
        let config = load(&path, |_| None).unwrap_or_else(|error| panic!("{snippet}: {error}"));
        assert_eq!(config.issuer.len(), 1, "{snippet}");
        kinds.push(format!("{:?}", config.issuer[0].kind).to_lowercase());
        let name = config.server.public_url.clone();
        for path in [
            "/auth/callback",
            "/auth/signed-out",
            "/auth/backchannel-logout",
        ] {
            assert!(readme.contains(&format!("`{name}{path}`")), "{path}");
        }
    }
    assert_eq!(kinds, ["auth0", "github", "keycloak"]);
    Ok(())
}

/// `check-config` says the same of a running one: see `chat`.
#[test]
fn the_template_has_what_an_instance_must_have_and_no_password() {
    let template: Value = serde_json::from_str(&shipped("openclaw/openclaw.json")).expect("JSON");
    let gateway = &template["gateway"];
    assert_eq!(gateway["auth"].get("password"), None);
    assert_eq!(gateway["bind"], "loopback");
    assert_eq!(gateway["trustedProxies"], serde_json::json!(["127.0.0.1"]));
    assert_eq!(gateway["terminal"]["enabled"], false);
    for off in ["plugins", "browser", "telemetry"] {
        assert_eq!(template[off]["enabled"], false, "{off}");
    }
    let version = |text: &str, before: &str| {
        let rest = text.split(before).nth(1).unwrap_or_default();
        rest.chars()
            .take_while(|c| c.is_ascii_digit() || *c == '.')
            .collect::<String>()
    };
    let tested =
        fs::read_to_string(deploy("../tests/node/package.json")).expect("the tested version");
    let tested = version(&tested, "\"openclaw\": \"");
    assert!(!tested.is_empty());
    for (file, before) in [
        ("openclaw/Dockerfile", "ARG OPENCLAW_VERSION="),
        (".env.example", "\nOPENCLAW_VERSION="),
        ("compose.yaml", "OPENCLAW_VERSION:-"),
    ] {
        assert_eq!(version(&shipped(file), before), tested, "{file}");
    }
}
