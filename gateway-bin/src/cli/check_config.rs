use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Instance, Metering};
use crate::instance::{Admin, Device, Dialer, unmet};

/// How long an instance may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Says in a few lines what a configuration that was accepted would do.
pub(super) async fn check_config(config: &Config) -> ExitCode {
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
        println!(
            "  instance      {} at {}{metered}",
            instance.name, instance.url
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
    for key in without_effect(config) {
        println!("  note          `{key}` has no effect in this version");
    }
    let mut code = ExitCode::SUCCESS;
    for instance in &config.instance {
        match ask(instance).await {
            Some(unmet) if unmet.is_empty() => {
                println!("instance {} is configured as it must be", instance.name);
            }
            Some(unmet) => {
                println!(
                    "instance {} must be changed, in its openclaw.json:",
                    instance.name
                );
                for sentence in unmet {
                    println!("  {sentence}");
                }
                code = ExitCode::FAILURE;
            }
            None => println!(
                "instance {} does not answer, so its own configuration was not checked",
                instance.name
            ),
        }
    }
    code
}

/// What must be changed in an instance's own configuration; `None` if it does not answer.
async fn ask(instance: &Instance) -> Option<Vec<String>> {
    let (device, _) = Device::generate().ok()?;
    let dialer = Arc::new(Dialer::new(instance, Arc::new(device)).ok()?);
    let stop = CancellationToken::new();
    let _stopped_after = stop.clone().drop_guard();
    let admin = Admin::start(dialer, |_, _| {}, stop);
    timeout(ANSWER, unmet(&admin, instance)).await.ok()
}

/// Keys of the fixed form that are taken, so that one file serves this version and the next, and do nothing yet.
pub(super) fn without_effect(config: &Config) -> Vec<String> {
    let mut keys = Vec::new();
    for instance in &config.instance {
        if instance.user.is_some() {
            keys.push(format!("instance.{}.user", instance.name));
        }
    }
    keys
}
