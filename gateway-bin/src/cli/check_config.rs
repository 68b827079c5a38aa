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
        if issuer.client_id.is_some() {
            println!(
                "                client_id is kept for sign-in in a browser, which this version does not have"
            );
        }
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
    ExitCode::SUCCESS
}
