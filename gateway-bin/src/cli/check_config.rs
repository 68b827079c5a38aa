use std::process::ExitCode;

use crate::config::Config;

/// Says in a few lines what a configuration that was accepted would do.
pub(super) fn check_config(config: &Config) -> ExitCode {
    println!("configuration is good");
    println!(
        "  people        {} on {}",
        config.server.public_url, config.server.public
    );
    if let Some(egress) = config.server.egress {
        println!("  model calls   {egress}");
    }
    if let Some(admin) = config.server.admin {
        println!("  metrics       {admin}");
    }
    for issuer in &config.issuer {
        println!(
            "  sign-in       {} ({}), audience {}",
            issuer.alias, issuer.url, issuer.audience
        );
    }
    for instance in &config.instance {
        println!("  instance      {} at {}", instance.name, instance.url);
        println!(
            "                its openclaw.json needs \"gateway.controlUi.allowedOrigins\": [\"{}\"]",
            instance.origin
        );
    }
    for provider in &config.provider {
        let models: Vec<&str> = provider
            .models
            .iter()
            .map(|model| model.id.as_str())
            .collect();
        println!(
            "  provider      {} at {}: {}",
            provider.name,
            provider.base_url,
            models.join(", ")
        );
    }
    for key in without_effect(config) {
        println!("  note          `{key}` has no effect in this version");
    }
    ExitCode::SUCCESS
}

/// Keys of the fixed form that are taken, so that one file serves this version and the next, and do nothing yet.
pub(super) fn without_effect(config: &Config) -> Vec<String> {
    let mut keys = Vec::new();
    if !config.server.allowed_origins.is_empty() {
        keys.push("server.allowed_origins".to_owned());
    }
    for issuer in &config.issuer {
        if issuer.client_id.is_some() {
            keys.push("issuer.client_id".to_owned());
        }
    }
    for instance in &config.instance {
        if instance.user.is_some() {
            keys.push(format!("instance.{}.user", instance.name));
        }
    }
    for (name, plan) in &config.plan {
        if name != "default" {
            keys.push(format!("plan.{name}"));
        } else if !plan.alert_at.is_empty() {
            keys.push("plan.default.alert_at".to_owned());
        }
    }
    keys
}
