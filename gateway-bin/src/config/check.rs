//! What one key alone cannot say.

use std::collections::BTreeSet;

use http::Uri;
use tower_usage::PriceList;

use crate::client_address::Network;
use crate::clock;
use crate::prices::price_list;

use super::{Config, ConfigError, InstanceAuth, InstanceMode, ProviderKind, QuotaMode};

pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    not_yet(config)?;
    origin("server.public_url", &config.server.public_url)?;
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
    issuer(config)?;
    instances(config)?;
    let prices = price_list(&config.price)?;
    providers(config, &prices)
}

/// Keys of the fixed form whose feature this version does not have. Taking them silently would be a lie.
fn not_yet(config: &Config) -> Result<(), ConfigError> {
    let absent = |key: &str| {
        Err(ConfigError::invalid(
            key,
            "is not available in this version; remove it",
        ))
    };
    if config.server.tls.is_some() {
        return absent("server.tls");
    }
    if config.store.database_url.is_some() {
        return absent("store.database_url");
    }
    if config.store.redis_url.is_some() {
        return absent("store.redis_url");
    }
    if config.cells.is_some() {
        return absent("cells");
    }
    if config.workspace.master_key_file.is_some() {
        return absent("workspace.master_key_file");
    }
    if config.quota.mode == QuotaMode::Shadow {
        return Err(ConfigError::invalid(
            "quota.mode",
            "`shadow` is not available in this version; use `enforce`",
        ));
    }
    for (name, plan) in &config.plan {
        if plan.time_zone.as_deref().is_some_and(|zone| zone != "UTC") {
            return Err(ConfigError::invalid(
                format!("plan.{name}.time_zone"),
                "only `UTC` is available in this version",
            ));
        }
    }
    if config.issuer.len() > 1 {
        return Err(ConfigError::invalid(
            "issuer",
            "one issuer is available in this version; remove the others",
        ));
    }
    if config.provider.len() > 1 {
        return Err(ConfigError::invalid(
            "provider",
            "one provider is available in this version; remove the others",
        ));
    }
    if config.instance.len() > 1 {
        return Err(ConfigError::invalid(
            "instance",
            "one instance is available in this version; remove the others",
        ));
    }
    Ok(())
}

fn issuer(config: &Config) -> Result<(), ConfigError> {
    let Some(issuer) = config.issuer.first() else {
        return Err(ConfigError::invalid(
            "issuer",
            "is missing; name who signs your people's tokens",
        ));
    };
    if issuer.audience.is_empty() {
        return Err(ConfigError::invalid(
            "issuer.audience",
            "is empty; it is what a token must be made for",
        ));
    }
    let uri = http_url("issuer.url", &issuer.url)?;
    let secure = uri.scheme_str() == Some("https") || is_loopback(&uri);
    if !secure {
        return Err(ConfigError::invalid(
            "issuer.url",
            "must be https: keys fetched in clear can be anyone's",
        ));
    }
    Ok(())
}

fn instances(config: &Config) -> Result<(), ConfigError> {
    let Some(instance) = config.instance.first() else {
        return Err(ConfigError::invalid(
            "instance",
            "is missing; name an OpenClaw gateway",
        ));
    };
    let key = |field: &str| format!("instance.{}.{field}", instance.name);
    let uri = http_url(&key("url"), &instance.url)?;
    if uri.scheme_str() != Some("http") {
        return Err(ConfigError::invalid(
            key("url"),
            "only http is available in this version",
        ));
    }
    if instance.mode == InstanceMode::Cell {
        return Err(ConfigError::invalid(
            key("mode"),
            "`cell` is not available in this version; use `pool`",
        ));
    }
    if instance.extended_chat_params {
        return Err(ConfigError::invalid(
            key("extended_chat_params"),
            "is not available in this version; remove it",
        ));
    }
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
        InstanceAuth::Password { .. } => Err(ConfigError::invalid(
            key("auth.kind"),
            "`password` is for cells; a shared instance must run in trusted-proxy mode",
        )),
    }
}

fn providers(config: &Config, prices: &PriceList) -> Result<(), ConfigError> {
    let Some(provider) = config.provider.first() else {
        return Err(ConfigError::invalid(
            "provider",
            "is missing; egress needs a model provider",
        ));
    };
    let key = |field: &str| format!("provider.{}.{field}", provider.name);
    if config.server.egress.is_none() {
        return Err(ConfigError::invalid(
            "server.egress",
            "is missing; instances reach the provider through it",
        ));
    }
    if !provider
        .name
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    {
        return Err(ConfigError::invalid(
            key("name"),
            "may hold a-z, 0-9 and `-` only",
        ));
    }
    if provider.kind != ProviderKind::Openai {
        return Err(ConfigError::invalid(
            key("kind"),
            "only `openai` is available in this version",
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
        if prices.rate(&model.id, clock::now()).is_none() {
            return Err(ConfigError::invalid(
                key("models"),
                format!(
                    "`{}` has no [[price]] that holds today; a model without a price would be free",
                    model.id
                ),
            ));
        }
    }
    Ok(())
}

fn http_url(key: &str, url: &str) -> Result<Uri, ConfigError> {
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

fn is_loopback(uri: &Uri) -> bool {
    uri.host().is_some_and(|host| {
        host == "localhost"
            || host
                .trim_matches(['[', ']'])
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    })
}
