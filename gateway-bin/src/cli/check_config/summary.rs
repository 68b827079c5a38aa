use crate::config::{Config, Metering};

/// Says in a few lines what a configuration that was accepted would do.
pub(super) fn print(config: &Config) {
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
    println!("  operators     {}", config.socket().display());
    for issuer in &config.issuer {
        println!(
            "  sign-in       {} ({}), audience {}",
            issuer.alias, issuer.url, issuer.audience
        );
    }
    for instance in &config.instance {
        let metered = match instance.metering {
            Metering::Egress => "",
            Metering::Observed => {
                ", metered by what it announces: charged afterwards, limits can be overshot"
            }
        };
        let of = instance.owner().map(|user| format!(", the cell of {user}"));
        println!(
            "  instance      {} at {}{}{metered}",
            instance.name,
            instance.url,
            of.unwrap_or_default()
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
    let store = &config.store;
    let (state, counters) = match (&store.database_url, &store.redis_url) {
        (Some(_), Some(_)) => ("Postgres", "Redis"),
        (Some(_), None) => ("Postgres", "Postgres"),
        (None, Some(_)) => ("the SQLite file", "Redis"),
        (None, None) => ("the SQLite file", "memory"),
    };
    println!(
        "  store         everything in {state}, the ledger in the SQLite file, counters in {counters}"
    );
    if config.alerts.webhook_url.is_some() {
        println!("  alerts        sent to a webhook");
    }
}
