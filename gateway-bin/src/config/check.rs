//! What one key alone cannot say.

use std::collections::BTreeSet;

use http::Uri;
use tower_usage::{PriceList, TokenCounts};

use crate::cells::{PREFIX, is_spawned};
use crate::client_address::Network;
use crate::clock;
use crate::instance::SLOT;
use crate::operator::MAX_PATH;
use crate::plan;
use crate::prices::price_list;

use super::{
    Cells, Config, ConfigError, Instance, InstanceAuth, Issuer, IssuerKind, Metering, Provider,
    Server, UnknownModel, Workspace, cell,
};

pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    if let Err(error) = plan::plans(&config.plan) {
        return Err(ConfigError::invalid("plan", error.to_string()));
    }
    origin("server.public_url", &config.server.public_url)?;
    tls(&config.server)?;
    for allowed in &config.server.allowed_origins {
        origin("server.allowed_origins", allowed)?;
    }
    if let Some(url) = &config.server.egress_url {
        http_url("server.egress_url", url)?;
    }
    for network in &config.server.trusted_proxies {
        if let Err(error) = network.parse::<Network>() {
            return Err(ConfigError::invalid(
                "server.trusted_proxies",
                format!("`{network}` {error}"),
            ));
        }
    }
    socket(config)?;
    issuers(config)?;
    sessions(config)?;
    instances(config)?;
    config.cells.as_ref().map_or(Ok(()), Cells::check)?;
    config.alerts.webhook()?;
    if let Some(url) = &config.telemetry.otlp {
        http_url("telemetry.otlp", url)?;
    }
    if !(0.0..=1.0).contains(&config.telemetry.sample) {
        return Err(ConfigError::invalid(
            "telemetry.sample",
            "is a share, from 0 to 1",
        ));
    }
    config.workspace.master_keys()?;
    config.workspace.read_templates()?;
    snapshots(&config.workspace)?;
    let prices = price_list(&config.price, &config.prices)?;
    providers(config, &prices)
}

fn tls(server: &Server) -> Result<(), ConfigError> {
    if server.tls.is_some() && !server.public_url.starts_with("https://") {
        return Err(ConfigError::invalid(
            "server.public_url",
            "must begin with https:// where there is `server.tls`",
        ));
    }
    Ok(())
}

fn snapshots(workspace: &Workspace) -> Result<(), ConfigError> {
    match workspace.snapshot_every {
        Some(every) if every > workspace.snapshot_keep => Err(ConfigError::invalid(
            "workspace.snapshot_keep",
            "is shorter than `workspace.snapshot_every`; there would be times without a snapshot",
        )),
        _ => Ok(()),
    }
}

fn socket(config: &Config) -> Result<(), ConfigError> {
    let socket = config.socket();
    if (1..=MAX_PATH).contains(&socket.as_os_str().len()) {
        return Ok(());
    }
    Err(ConfigError::invalid(
        "server.socket",
        format!(
            "`{}` must have 1 to {MAX_PATH} bytes, as every Unix socket; name a shorter path",
            socket.display()
        ),
    ))
}

fn issuers(config: &Config) -> Result<(), ConfigError> {
    if config.issuer.is_empty() {
        return Err(ConfigError::invalid(
            "issuer",
            "is missing; name who signs your people's tokens",
        ));
    }
    let (mut aliases, mut urls) = (BTreeSet::new(), BTreeSet::new());
    for issuer in &config.issuer {
        let key = |field: &str| format!("issuer.{}.{field}", issuer.alias);
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if issuer.alias.is_empty() || !issuer.alias.chars().all(plain) {
            return Err(ConfigError::invalid(
                "issuer.alias",
                format!(
                    "`{}` must be letters, digits, `-`, `_` and `.`",
                    issuer.alias
                ),
            ));
        }
        if !aliases.insert(&*issuer.alias) || (!issuer.url.is_empty() && !urls.insert(&*issuer.url))
        {
            return Err(ConfigError::invalid(
                key("url"),
                "stands twice; each issuer needs an alias and a URL of its own",
            ));
        }
        issuer_alone(issuer, &key)?;
    }
    let primary_links = config
        .issuer
        .first()
        .is_some_and(|issuer| issuer.link_verified_email);
    if primary_links {
        return Err(ConfigError::invalid(
            "issuer.link_verified_email",
            "is for the issuers after the first; people are linked to users of the first",
        ));
    }
    Ok(())
}

fn issuer_alone(issuer: &Issuer, key: &dyn Fn(&str) -> String) -> Result<(), ConfigError> {
    if issuer.client_secret.is_some() && issuer.client_id.is_none() {
        return Err(ConfigError::invalid(
            key("client_id"),
            "is missing; whose secret is `client_secret`?",
        ));
    }
    if issuer.client_id.is_some() && issuer.client_secret.is_none() {
        return Err(ConfigError::invalid(
            key("client_secret_file"),
            "is missing; people sign in through a client that has a secret",
        ));
    }
    if issuer.introspection && issuer.token_type.is_some() {
        return Err(ConfigError::invalid(
            key("token_type"),
            "has no effect with `introspection`, where the issuer is asked; remove one of them",
        ));
    }
    if issuer.introspection && (issuer.client_id.is_none() || issuer.client_secret.is_none()) {
        return Err(ConfigError::invalid(
            key("introspection"),
            "needs `client_id` and `client_secret`: strangers are not told about tokens",
        ));
    }
    if issuer.kind == IssuerKind::Github && issuer.url.is_empty() {
        return Ok(());
    }
    if issuer.audience.is_empty() && issuer.kind != IssuerKind::Github {
        return Err(ConfigError::invalid(
            key("audience"),
            "is empty; it is what a token must be made for",
        ));
    }
    let uri = http_url(&key("url"), &issuer.url)?;
    let secure = uri.scheme_str() == Some("https") || is_loopback(&uri);
    if !secure {
        return Err(ConfigError::invalid(
            key("url"),
            "must be https: keys fetched in clear can be anyone's",
        ));
    }
    Ok(())
}

fn sessions(config: &Config) -> Result<(), ConfigError> {
    let session = &config.session;
    if session.idle > session.lifetime {
        return Err(ConfigError::invalid(
            "session.idle",
            "is longer than `session.lifetime`",
        ));
    }
    let databases: &[&str] = &["postgres://", "postgresql://"];
    let caches: &[&str] = &[
        "redis://",
        "rediss://",
        "redis-cluster://",
        "rediss-cluster://",
        "redis-sentinel://",
    ];
    for (key, url, known, form) in [
        (
            "session.store_url",
            &session.store_url,
            [databases, caches],
            "redis://, rediss:// or postgres://",
        ),
        (
            "store.redis_url",
            &config.store.redis_url,
            [caches, &[]],
            "redis:// or rediss://",
        ),
        (
            "store.database_url",
            &config.store.database_url,
            [databases, &[]],
            "postgres://",
        ),
    ] {
        let Some(url) = url else {
            continue;
        };
        let mut known = known.into_iter().flatten();
        // The URL may hold a password: it is not shown.
        if !known.any(|scheme| url.expose().starts_with(scheme)) {
            return Err(ConfigError::invalid(key, format!("must begin with {form}")));
        }
    }
    if let Some((key, _)) = config.session_store()
        && session.key.is_none()
    {
        return Err(ConfigError::invalid(
            "session.key_file",
            format!(
                "is missing; gateways that share sessions, by `{key}`, need the same keys (`openssl rand -hex 32` makes one)"
            ),
        ));
    }
    session.keys().map(drop)
}

fn instances(config: &Config) -> Result<(), ConfigError> {
    if config.instance.is_empty() && config.cells.is_none() {
        return Err(ConfigError::invalid(
            "instance",
            "is missing; name an OpenClaw gateway, or let [cells] start one for everybody",
        ));
    }
    let (mut names, mut urls, mut users) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for one in &config.instance {
        if one
            .sandbox_user
            .as_ref()
            .is_some_and(|user| !users.insert(user))
        {
            return Err(ConfigError::invalid(
                format!("instance.{}.sandbox_user", one.name),
                "stands twice; slots of one instance would be those of the other on the sandbox host",
            ));
        }
        if !names.insert(&*one.name) {
            return Err(bad_name(one));
        }
        if !urls.insert(one.url.trim_end_matches('/')) {
            return Err(ConfigError::invalid(
                format!("instance.{}.url", one.name),
                "stands twice; people of one instance would meet those of the other there",
            ));
        }
        instance(one)?;
    }
    cell::owners(&config.instance)
}

fn bad_name(instance: &Instance) -> ConfigError {
    ConfigError::invalid(
        format!("instance.{}.name", instance.name),
        "must be 1 to 64 characters that no other instance has: people's places are kept by it",
    )
}

/// What an instance alone cannot be.
pub(crate) fn instance(instance: &Instance) -> Result<(), ConfigError> {
    if instance.name.is_empty() || instance.name.len() > 64 {
        return Err(bad_name(instance));
    }
    if is_spawned(&instance.name) {
        return Err(ConfigError::invalid(
            format!("instance.{}.name", instance.name),
            format!("begins with `{PREFIX}`, as those of [cells] do; choose another"),
        ));
    }
    let key = |field: &str| format!("instance.{}.{field}", instance.name);
    let uri = http_url(&key("url"), &instance.url)?;
    if uri.scheme_str() != Some("http") {
        return Err(ConfigError::invalid(
            key("url"),
            "only http is available in this version",
        ));
    }
    if let Some(user) = &instance.sandbox_user {
        sandbox_user(key("sandbox_user"), user)?;
    }
    cell::owners(std::slice::from_ref(instance))?;
    cell::of_pools(instance)?;
    origin(&key("origin"), &instance.origin)?;
    match &instance.auth {
        InstanceAuth::TrustedProxy { password: None, .. } => Err(ConfigError::invalid(
            key("auth.password"),
            "is missing; agents are made through the instance's administration channel",
        )),
        InstanceAuth::TrustedProxy { user_header, .. } => {
            http::HeaderName::from_bytes(user_header.as_bytes())
                .map(drop)
                .map_err(|_| {
                    ConfigError::invalid(key("auth.user_header"), "is not the name of a header")
                })
        }
        InstanceAuth::Password { password, .. } => {
            cell::password(instance, is_loopback(&uri), password.as_ref())
        }
    }
}

/// Every slot has a user of its own, by a name that every system takes and no shell reads otherwise.
fn sandbox_user(key: String, user: &str) -> Result<(), ConfigError> {
    let plain = |text: &str| {
        let mut bytes = text.bytes();
        bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
    };
    let fits = user.split_once(SLOT).is_some_and(|(before, after)| {
        // `slot-001` is eight bytes long, and the longest name of a user is 32 (useradd(8)).
        let begins = before.is_empty() || before.starts_with(|c: char| c.is_ascii_lowercase());
        begins && plain(before) && plain(after) && before.len() + after.len() <= 20
    });
    match fits {
        true => Ok(()),
        false => Err(ConfigError::invalid(
            key,
            format!(
                "`{user}` must be {SLOT} once, with up to 20 of a-z, 0-9, `-` and `_` around it, like \"sbx-{SLOT}\""
            ),
        )),
    }
}

fn providers(config: &Config, prices: &PriceList) -> Result<(), ConfigError> {
    let observed = |instance: &Instance| instance.metering == Metering::Observed;
    let needs_none = config.instance.iter().all(observed)
        && config.cells.is_none()
        && config.server.egress.is_none();
    if needs_none && config.provider.is_empty() {
        return Ok(());
    }
    if config.provider.is_empty() {
        return Err(ConfigError::invalid(
            "provider",
            "is missing; egress needs a model provider",
        ));
    }
    if config.server.egress.is_none() {
        return Err(ConfigError::invalid(
            "server.egress",
            "is missing; instances reach the provider through it",
        ));
    }
    let mut names = BTreeSet::new();
    for one in &config.provider {
        if !names.insert(&*one.name) {
            return Err(ConfigError::invalid(
                format!("provider.{}.name", one.name),
                "stands twice; calls are told apart by it",
            ));
        }
        provider(one, prices, config.prices.unknown)?;
    }
    let mut models = config.provider.iter().flat_map(|one| &one.models);
    if !models.any(|model| model.max_output_tokens > 0) {
        return Err(ConfigError::invalid(
            "provider",
            "has no model that writes anything; agents need one",
        ));
    }
    Ok(())
}

fn provider(
    provider: &Provider,
    prices: &PriceList,
    unknown: UnknownModel,
) -> Result<(), ConfigError> {
    let key = |field: &str| format!("provider.{}.{field}", provider.name);
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if provider.name.is_empty() || !provider.name.bytes().all(plain) {
        return Err(ConfigError::invalid(
            key("name"),
            "may hold a-z, 0-9 and `-` only",
        ));
    }
    let uri = http_url(&key("base_url"), &provider.base_url)?;
    if uri.scheme_str() != Some("https") && !is_loopback(&uri) {
        return Err(ConfigError::invalid(
            key("base_url"),
            "must be https: the provider's key would go over the network in clear",
        ));
    }
    if provider.api_key.is_none() {
        return Err(ConfigError::invalid(
            key("api_key_file"),
            "is missing; egress adds this key to model calls",
        ));
    }
    if provider.models.is_empty() {
        return Err(ConfigError::invalid(
            key("models"),
            "is empty; name at least one model",
        ));
    }
    let mut seen = BTreeSet::new();
    for model in &provider.models {
        if !seen.insert(&model.id) {
            return Err(ConfigError::invalid(
                key("models"),
                format!("names `{}` twice", model.id),
            ));
        }
        let priced = prices.price(&model.id, &TokenCounts::default(), clock::now());
        if priced.is_none() && unknown == UnknownModel::Refuse {
            return Err(ConfigError::invalid(
                key("models"),
                format!(
                    "`{}` has no [[price]] that holds today; name one, or set `prices.unknown = \"record\"`, and limits \
                     on money will not see it",
                    model.id
                ),
            ));
        }
    }
    Ok(())
}

fn http_url(key: &str, url: &str) -> Result<Uri, ConfigError> {
    // Not shown: it may be a password, and whoever shows such a URL later would show it too.
    if url.contains('@') {
        return Err(ConfigError::invalid(
            key,
            "holds an `@`; a user or password has no place in this URL",
        ));
    }
    let uri: Uri = url
        .parse()
        .map_err(|_| ConfigError::invalid(key, format!("`{url}` is not a URL")))?;
    match (uri.scheme_str(), uri.authority()) {
        (Some("http" | "https"), Some(_)) if uri.query().is_none() => Ok(uri),
        _ => Err(ConfigError::invalid(
            key,
            format!("`{url}` is not an http or https URL without a query"),
        )),
    }
}

/// An origin is a scheme, a host and a port, and nothing behind them (RFC 6454 §6.2).
fn origin(key: &str, url: &str) -> Result<(), ConfigError> {
    let uri = http_url(key, url)?;
    if uri.path() != "/" || url.ends_with('/') {
        return Err(ConfigError::invalid(
            key,
            format!("`{url}` is not an origin; write scheme, host and port only"),
        ));
    }
    Ok(())
}

pub(crate) fn is_loopback(uri: &Uri) -> bool {
    uri.host().is_some_and(|host| {
        host == "localhost"
            || host
                .trim_matches(['[', ']'])
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    })
}
