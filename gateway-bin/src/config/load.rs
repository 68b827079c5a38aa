use std::fs;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::{Config, Instance, InstanceAuth, InstanceMode, ProviderKind, Secret, Tls, check};

/// Reads, completes and checks the configuration in `path`. `env` looks up environment variables, which win over
/// the file.
///
/// # Errors
///
/// See [`ConfigError`]; each names the file and the key.
pub fn load(path: &Path, env: impl Fn(&str) -> Option<String>) -> Result<Config, ConfigError> {
    let mut config = read(path)?;
    apply_environment(&mut config, env)?;
    read_secrets(&mut config)?;
    check::check(&config)?;
    Ok(config)
}

/// Reads the configuration in `path` as it is written: whether it can be used is not checked, and no other file is
/// read.
///
/// # Errors
///
/// [`ConfigError::Read`] and [`ConfigError::Parse`].
pub fn read(path: &Path) -> Result<Config, ConfigError> {
    let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    toml::from_str(&text).map_err(|error| {
        let (line, key) = place_of(&text, error.span());
        let message = format!("{key}{}", error.message());
        ConfigError::Parse {
            path: path.to_owned(),
            line,
            message,
        }
    })
}

/// Why a configuration is refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML, or holds an unknown key or a value of the wrong type; the message names line and key.
    #[error("{}: line {line}: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// A value cannot be used.
    #[error("`{key}`: {problem}")]
    Invalid {
        /// The key, with the tables it stands in.
        key: String,
        /// What is wrong, and what to do.
        problem: String,
    },
}

impl ConfigError {
    pub(crate) fn invalid(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid {
            key: key.into(),
            problem: problem.into(),
        }
    }
}

/// Where something stands: the line, counted from 1, and the key before it if it is a value. The value itself is not
/// shown: it may be a secret.
fn place_of(text: &str, span: Option<std::ops::Range<usize>>) -> (usize, String) {
    let before = span
        .and_then(|span| text.get(..span.start))
        .unwrap_or_default();
    let line = before.matches('\n').count().saturating_add(1);
    let of_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let key = before
        .trim_end()
        .strip_suffix('=')
        .map(str::trim_end)
        .map_or("", |before| {
            before.rsplit(|c| !of_key(c)).next().unwrap_or_default()
        });
    (
        line,
        if key.is_empty() {
            String::new()
        } else {
            format!("`{key}`: ")
        },
    )
}

/// The variables of the first version of this gateway.
fn apply_environment(
    config: &mut Config,
    env: impl Fn(&str) -> Option<String>,
) -> Result<(), ConfigError> {
    match (env("SSL_CERT_PATH"), env("SSL_KEY_PATH")) {
        (Some(cert), Some(key)) => config.server.tls = Some(Tls::new(cert.into(), key.into())),
        (None, None) => {}
        (Some(_), None) => {
            return Err(ConfigError::invalid(
                "SSL_CERT_PATH",
                "needs SSL_KEY_PATH beside it",
            ));
        }
        (None, Some(_)) => {
            return Err(ConfigError::invalid(
                "SSL_KEY_PATH",
                "needs SSL_CERT_PATH beside it",
            ));
        }
    }
    if let Some(enabled) = env("SANDBOX_ENABLED") {
        config.workspace.require_sandbox = match &*enabled.to_ascii_lowercase() {
            "true" | "1" => true,
            "false" | "0" => false,
            _ => {
                return Err(ConfigError::invalid(
                    "SANDBOX_ENABLED",
                    "must be true or false",
                ));
            }
        };
    }
    if let Some(key) = env("ANTHROPIC_API_KEY") {
        anthropic_key(config, key)?;
    }
    // By the names that OpenTelemetry has given them.
    if let Some(endpoint) = env("OTEL_EXPORTER_OTLP_ENDPOINT") {
        config.telemetry.otlp = Some(endpoint);
    }
    if let Some(name) = env("OTEL_SERVICE_NAME") {
        config.telemetry.service_name = name;
    }
    if let Some(url) = env("DATABASE_URL") {
        config.store.database_url = Some(Secret::new(url));
    }
    if let Some(url) = env("REDIS_URL") {
        config.store.redis_url = Some(Secret::new(url));
    }
    if let Some(root) = env("USER_WORKSPACES_ROOT") {
        config.workspace.root = root.into();
    }
    if let Some(issuer) = config.issuer.first_mut() {
        if let Some(domain) = env("OAUTH_DOMAIN") {
            // As Auth0 names itself: a bare domain stands for https and a slash at the end.
            issuer.url = if domain.contains("://") {
                domain
            } else {
                format!("https://{domain}/")
            };
        }
        if let Some(audience) = env("OAUTH_AUDIENCE") {
            issuer.audience = audience;
        }
        issuer.client_id = env("OAUTH_CLIENT_ID").or(issuer.client_id.take());
        if let Some(secret) = env("OAUTH_CLIENT_SECRET") {
            issuer.client_secret = Some(Secret::new(secret));
            issuer.client_secret_file = None;
        }
    }
    if let Some(list) = env("GATEWAY_INSTANCES") {
        let password_file = env("GATEWAY_PASSWORD_FILE")
            .map(PathBuf::from)
            .ok_or_else(|| {
                ConfigError::invalid("GATEWAY_INSTANCES", "needs GATEWAY_PASSWORD_FILE beside it")
            })?;
        config.instance = list
            .split(',')
            .map(str::trim)
            .filter(|url| !url.is_empty())
            .enumerate()
            .map(|(n, url)| Instance {
                name: format!("gateway-{}", n.saturating_add(1)),
                url: url.to_owned(),
                mode: InstanceMode::Pool,
                user: None,
                capacity: super::default_capacity(),
                workspace_root: None,
                auth: InstanceAuth::TrustedProxy {
                    user_header: super::default_user_header(),
                    headers: std::collections::BTreeMap::new(),
                    password: None,
                    password_file: Some(password_file.clone()),
                },
                origin: super::default_origin(),
                extended_chat_params: false,
                sandbox_user: None,
                metering: super::Metering::default(),
            })
            .collect();
    }
    Ok(())
}

/// Gives the provider that speaks Anthropic's protocol its key. What models it has, and what they cost, no variable says.
fn anthropic_key(config: &mut Config, key: String) -> Result<(), ConfigError> {
    let providers = config.provider.iter_mut();
    let mut providers = providers.filter(|provider| provider.kind == ProviderKind::Anthropic);
    match (providers.next(), providers.next()) {
        (Some(provider), None) => {
            provider.api_key = Some(Secret::new(key));
            provider.api_key_file = None;
            Ok(())
        }
        (None, _) => Err(ConfigError::invalid(
            "ANTHROPIC_API_KEY",
            "has no [[provider]] of kind \"anthropic\" that it is for; add one with its models, or unset it",
        )),
        (Some(_), Some(_)) => Err(ConfigError::invalid(
            "ANTHROPIC_API_KEY",
            "could be for several [[provider]] of kind \"anthropic\"; unset it, and give each its `api_key_file`",
        )),
    }
}

/// Puts the contents of every `*_file` beside it.
fn read_secrets(config: &mut Config) -> Result<(), ConfigError> {
    for (n, issuer) in config.issuer.iter_mut().enumerate() {
        read_secret(
            &mut issuer.client_secret,
            issuer.client_secret_file.as_deref(),
            || format!("issuer[{n}].client_secret"),
            Secret::read,
        )?;
    }
    let store = &mut config.store;
    read_secret(
        &mut store.database_url,
        store.database_url_file.as_deref(),
        || "store.database_url".to_owned(),
        Secret::read,
    )?;
    read_secret(
        &mut store.redis_url,
        store.redis_url_file.as_deref(),
        || "store.redis_url".to_owned(),
        Secret::read,
    )?;
    let session = &mut config.session;
    read_secret(
        &mut session.store_url,
        session.store_url_file.as_deref(),
        || "session.store_url".to_owned(),
        Secret::read,
    )?;
    read_secret(
        &mut session.key,
        session.key_file.as_deref(),
        || "session.key".to_owned(),
        Secret::read_lines,
    )?;
    let workspace = &mut config.workspace;
    read_secret(
        &mut workspace.master_key,
        workspace.master_key_file.as_deref(),
        || "workspace.master_key".to_owned(),
        Secret::read_lines,
    )?;
    let alerts = &mut config.alerts;
    read_secret(
        &mut alerts.webhook_url,
        alerts.webhook_url_file.as_deref(),
        || "alerts.webhook_url".to_owned(),
        Secret::read,
    )?;
    read_secret(
        &mut alerts.webhook_secret,
        alerts.webhook_secret_file.as_deref(),
        || "alerts.webhook_secret".to_owned(),
        Secret::read_lines,
    )?;
    if let Some(tls) = &mut config.server.tls {
        tls.read()?;
    }
    for provider in &mut config.provider {
        read_secret(
            &mut provider.api_key,
            provider.api_key_file.as_deref(),
            || format!("provider.{}.api_key", provider.name),
            Secret::read,
        )?;
    }
    for instance in &mut config.instance {
        let (InstanceAuth::TrustedProxy {
            password,
            password_file,
            ..
        }
        | InstanceAuth::Password {
            password,
            password_file,
        }) = &mut instance.auth;
        read_secret(
            password,
            password_file.as_deref(),
            || format!("instance.{}.auth.password", instance.name),
            Secret::read,
        )?;
    }
    Ok(())
}

fn read_secret(
    secret: &mut Option<Secret>,
    file: Option<&Path>,
    key: impl Fn() -> String,
    read: impl Fn(&Path) -> Result<Secret, String>,
) -> Result<(), ConfigError> {
    let Some(file) = file else { return Ok(()) };
    if secret.is_some() {
        return Err(ConfigError::invalid(
            key(),
            "stands beside its file; keep one of the two",
        ));
    }
    let read = read(file).map_err(|problem| {
        ConfigError::invalid(
            format!("{}_file", key()),
            format!("{}: {problem}", file.display()),
        )
    })?;
    *secret = Some(read);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_line_and_key_and_never_the_value() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.toml");
        for (text, said) in [
            (
                "[server]\n\napi_keyy = \"sk-canary\"\n",
                "line 3: unknown field `api_keyy`",
            ),
            ("[server]\npublic = \"sk-canary\"\n", "line 2: `public`: "),
            ("[workspace]\nroot = 7 # sk-canary\n", "line 2: `root`: "),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = load(&path, |_| None).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
            assert!(!error.contains("canary"), "{error}");
        }
    }

    #[test]
    fn d5_49_a_price_that_is_none_is_refused_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.toml");
        for (price, why) in [
            ("-3.00", "negative"),
            ("NaN", "not a decimal"),
            ("inf", "not a decimal"),
            ("99999999999999999999", "out of range"),
            ("0.0000000001", "more than nine"),
        ] {
            let text = format!(
                "[[price]]\nmodel = \"m\"\ninput = \"1.00\"\noutput = \"2.00\"\ncache_read = \"{price}\"\n"
            );
            std::fs::write(&path, text).unwrap();
            let error = load(&path, |_| None).unwrap_err().to_string();
            let said = format!("gateway.toml: line 5: `cache_read`: `{price}`: ");
            assert!(error.contains(&said) && error.contains(why), "{error}");
        }
        std::fs::write(&path, "[[price]]\nmodel = \"m\"\nfrom = \"soon\"\n").unwrap();
        let error = load(&path, |_| None).unwrap_err().to_string();
        assert!(
            error.contains("line 3: `from`: `soon` is not a day"),
            "{error}"
        );
    }

    const WHOLE: &str = r#"
[server]
public = "127.0.0.1:1"
public_url = "https://openclaw.example.com"
egress = "127.0.0.1:2"

[[issuer]]
alias = "corp"
url = "https://login.example.com"
audience = "openclaw"
client_id = "gateway"
client_secret = "canary"

[store]
path = "gateway.db"

[workspace]
root = "/data/users"

[[instance]]
name = "pool-1"
url = "http://127.0.0.1:3"
mode = "pool"
auth = { kind = "trusted-proxy", user_header = "x-forwarded-user", password = "canary" }

[[provider]]
name = "openai"
kind = "openai"
base_url = "https://api.openai.com/v1"
api_key = "canary"
models = [{ id = "m" }]

[[price]]
model = "m"
input = "3.00"
output = "15.00"
from = "2025-01-01"

[plan.default]
tokens_per_day = 1
"#;

    #[test]
    fn the_socket_is_beside_the_store_unless_it_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.toml");
        let named = "egress = \"127.0.0.1:2\"\nsocket = \"/run/gateway/admin\"";
        for (line, instead, socket) in [
            ("path = \"gateway.db\"", "", "gateway.sock"),
            (
                "path = \"gateway.db\"",
                "path = \"/data/own.db\"",
                "/data/own.sock",
            ),
            ("egress = \"127.0.0.1:2\"", named, "/run/gateway/admin"),
        ] {
            // Who only looks for the socket need not be able to read secrets.
            let text = WHOLE.replacen(line, instead, 1);
            let text = text.replacen("api_key = \"canary\"", "api_key_file = \"/none\"", 1);
            std::fs::write(&path, text).unwrap();
            assert_eq!(read(&path).unwrap().socket(), Path::new(socket));
        }
    }

    #[test]
    fn a_template_that_does_not_do_is_refused_by_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let (path, folder) = (dir.path().join("gateway.toml"), dir.path().join("files"));
        let root = "root = \"/data/users\"";
        let named = format!("{root}\ntemplates = \"{}\"", folder.display());
        std::fs::write(&path, WHOLE.replacen(root, &named, 1)).unwrap();
        let load = || load(&path, |_| None).map_err(|error| error.to_string());
        let missing = load().err().unwrap();
        assert!(missing.contains("workspace.templates"), "{missing}");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("SOUL.md"), "for {{nobody}}").unwrap();
        let wrong = load().err().unwrap();
        assert!(wrong.contains("SOUL.md: unknown placeholder"), "{wrong}");
        std::fs::write(folder.join("SOUL.md"), "for {{name}}").unwrap();
        assert!(load().is_ok());
    }

    #[test]
    fn what_cannot_work_together_is_refused_by_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.toml");
        let refusal = |text: &str| {
            std::fs::write(&path, text).unwrap();
            load(&path, |_| None).err().map(|error| error.to_string())
        };
        assert_eq!(refusal(WHOLE), None);
        let client = "client_secret = \"canary\"";
        for (line, instead, key) in [
            (client, "", "issuer.corp.client_secret_file"),
            (
                client,
                "client_secret = \"canary\"\nintrospection = true\ntoken_type = \"at+jwt\"",
                "issuer.corp.token_type",
            ),
            (
                "client_id = \"gateway\"\nclient_secret = \"canary\"",
                "introspection = true",
                "issuer.corp.introspection",
            ),
            (
                "audience = \"openclaw\"",
                "audience = \"\"",
                "issuer.corp.audience",
            ),
            (
                "egress = \"127.0.0.1:2\"",
                &format!(
                    "egress = \"127.0.0.1:2\"\nsocket = \"/{}\"",
                    "x".repeat(107)
                ),
                "server.socket",
            ),
            (
                "path = \"gateway.db\"",
                &format!("path = \"/{}\"", "x".repeat(102)),
                "server.socket",
            ),
            (
                "root = \"/data/users\"",
                "root = \"/data/users\"\nsnapshot_every = \"0s\"",
                "snapshot_every",
            ),
            (
                "root = \"/data/users\"",
                "root = \"/data/users\"\nsnapshot_every = \"31d\"",
                "workspace.snapshot_keep",
            ),
        ] {
            let said = refusal(&WHOLE.replacen(line, instead, 1)).unwrap_or_default();
            assert!(said.contains(key), "{instead}: {said}");
            assert!(!said.contains("canary"), "{said}");
        }
    }

    #[test]
    fn variables_of_the_first_version_win_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.toml");
        let with = |text: &str, variables: &[(&str, &str)]| {
            std::fs::write(&path, text).unwrap();
            load(&path, |name| {
                let mut variables = variables.iter();
                let found = variables.find(|(variable, _)| *variable == name);
                found.map(|(_, value)| (*value).to_owned())
            })
            .map_err(|error| error.to_string())
        };
        let anthropic = WHOLE.replacen("kind = \"openai\"", "kind = \"anthropic\"", 1);
        let config = with(&anthropic, &[("ANTHROPIC_API_KEY", "sk-1")]).unwrap();
        let key = config.provider[0].api_key.as_ref().map(Secret::expose);
        assert_eq!(key, Some("sk-1"));
        let required = WHOLE.replacen("[workspace]", "[workspace]\nrequire_sandbox = true", 1);
        for (text, value, requires) in [
            (WHOLE, "true", true),
            (WHOLE, "1", true),
            (&required, "False", false),
            (&required, "0", false),
        ] {
            let config = with(text, &[("SANDBOX_ENABLED", value)]).unwrap();
            assert_eq!(config.workspace.require_sandbox, requires, "{value}");
        }
        let twice = "[[provider]]\nname = \"b\"\nkind = \"anthropic\"\nbase_url = \"https://b.example\"\n\
                     api_key = \"canary\"\nmodels = [{ id = \"m\" }]\n";
        let twice = format!("{anthropic}{twice}");
        for (text, variables, said) in [
            (
                WHOLE,
                &[("ANTHROPIC_API_KEY", "canary")][..],
                "`ANTHROPIC_API_KEY`: has no",
            ),
            (
                &twice,
                &[("ANTHROPIC_API_KEY", "canary")],
                "`ANTHROPIC_API_KEY`: could be for several",
            ),
            (
                WHOLE,
                &[("SANDBOX_ENABLED", "canary")],
                "`SANDBOX_ENABLED`: must be true or false",
            ),
            (
                WHOLE,
                &[("SSL_CERT_PATH", "/a")],
                "`SSL_CERT_PATH`: needs SSL_KEY_PATH",
            ),
            (
                WHOLE,
                &[("SSL_KEY_PATH", "/a")],
                "`SSL_KEY_PATH`: needs SSL_CERT_PATH",
            ),
            (
                WHOLE,
                &[
                    ("SSL_CERT_PATH", "/none.pem"),
                    ("SSL_KEY_PATH", "/none.key"),
                ],
                "`server.tls.cert`: /none.pem: No such file",
            ),
        ] {
            let refused = with(text, variables).err().unwrap();
            assert!(refused.contains(said), "{refused}");
            assert!(!refused.contains("canary"), "{refused}");
        }
    }

    #[test]
    fn a_url_with_a_password_is_refused_and_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.toml");
        for (url, key) in [
            ("https://openclaw.example.com", "server.public_url"),
            ("https://login.example.com", "issuer.corp.url"),
            ("http://127.0.0.1:3", "instance.pool-1.url"),
            ("https://api.openai.com/v1", "provider.openai.base_url"),
        ] {
            for user in ["ops:canary@", "ops:can/ary@", "canary@"] {
                let named = url.replacen("://", &format!("://{user}"), 1);
                std::fs::write(&path, WHOLE.replacen(url, &named, 1)).unwrap();
                let refused = load(&path, |_| None).err().unwrap().to_string();
                assert!(
                    refused.contains(&format!("`{key}`: holds an `@`")),
                    "{refused}"
                );
                assert!(!refused.contains("ary"), "{refused}");
            }
        }
    }

    #[test]
    fn an_instance_that_calls_its_providers_itself_needs_no_egress() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.toml");
        let refusal = |text: &str| {
            std::fs::write(&path, text).unwrap();
            load(&path, |_| None).err().map(|error| error.to_string())
        };
        let (before, rest) = WHOLE.split_once("[[provider]]").unwrap();
        let (_, after) = rest.split_once("[[price]]").unwrap();
        let without_provider = format!("{before}[[price]]{after}");
        let egress = "egress = \"127.0.0.1:2\"\n";
        let without_both = without_provider.replacen(egress, "", 1);
        let observed = |text: &str| text.replacen("mode =", "metering = \"observed\"\nmode =", 1);
        assert_eq!(refusal(&observed(&without_both)), None);
        assert_eq!(refusal(&observed(WHOLE)), None);
        for (text, key) in [
            (without_both.clone(), "provider"),
            (observed(&without_provider), "provider"),
            (observed(&WHOLE.replacen(egress, "", 1)), "server.egress"),
        ] {
            let said = refusal(&text).unwrap_or_default();
            assert!(said.contains(&format!("`{key}`")), "{said}");
        }
    }

    #[test]
    fn a_webhook_has_a_url_and_secrets_and_neither_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.toml");
        let refusal = |alerts: &str| {
            std::fs::write(&path, format!("{WHOLE}\n[alerts]\n{alerts}")).unwrap();
            let config = load(&path, |_| None);
            config.map(|config| format!("{:?}", config.alerts))
        };
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let secrets = dir.path().join("secrets");
        std::fs::write(&secrets, format!("{secret}\n{secret}\n")).unwrap();
        for url in [
            "https://hooks.example.com/canary?token=canary",
            "http://127.0.0.1:1/canary",
            "http://[::1]:1",
        ] {
            for signed in [
                format!("webhook_secret = \"{secret}\""),
                format!("webhook_secret_file = \"{}\"", secrets.display()),
            ] {
                let shown = refusal(&format!("webhook_url = \"{url}\"\n{signed}\n")).unwrap();
                assert!(!shown.contains("canary") && !shown.contains(secret));
            }
        }
        for (url, secret, said) in [
            (
                "https://canary",
                "",
                "`alerts.webhook_secret_file`: is missing",
            ),
            ("", secret, "`alerts.webhook_url`: is missing"),
            ("canary", secret, "is not an http or https URL"),
            ("ftp://canary/", secret, "is not an http or https URL"),
            ("https://canary /", secret, "is not a URL"),
            ("http://canary.example.com/", secret, "must be https"),
            ("https://canary:canary@example.com/", secret, "names a user"),
            ("https://canary", "canary", "`echo whsec_$(openssl rand"),
            ("https://canary", "whsec_canary", "is not base64"),
        ] {
            let line = |key: &str, value: &str| match value {
                "" => String::new(),
                value => format!("{key} = \"{value}\"\n"),
            };
            let alerts = line("webhook_url", url) + &line("webhook_secret", secret);
            let error = refusal(&alerts).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
            assert!(!error.contains("canary"), "{error}");
        }
        let unknown = refusal("webhook = \"canary\"\n").unwrap_err().to_string();
        assert!(unknown.contains("unknown field `webhook`"), "{unknown}");
    }
}
