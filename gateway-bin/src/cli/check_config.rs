use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Instance, Metering, UnknownModel};
use crate::instance::{Admin, Device, Dialer, Looked, look};

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
    for note in notes(config) {
        println!("  note          {note}");
    }
    let mut code = ExitCode::SUCCESS;
    for instance in &config.instance {
        match ask(instance).await {
            Some(Looked {
                unmet,
                advice,
                sandbox,
            }) if unmet.is_empty() => {
                println!("instance {} is configured as it must be", instance.name);
                if let Some(sandbox) = sandbox {
                    println!("  sandbox       {sandbox}");
                }
                for sentence in advice {
                    println!("  note          {sentence}");
                }
            }
            Some(Looked { unmet, .. }) => {
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

/// What there is in an instance's own configuration; `None` if it does not answer.
async fn ask(instance: &Instance) -> Option<Looked> {
    let (device, _) = Device::generate().ok()?;
    let dialer = Arc::new(Dialer::new(instance, Arc::new(device)).ok()?);
    let stop = CancellationToken::new();
    let _stopped_after = stop.clone().drop_guard();
    let admin = Admin::start(dialer, |_, _| {}, stop);
    timeout(ANSWER, look(&admin, instance)).await.ok()
}

/// What somebody may expect of a configuration, and does not get.
pub(super) fn notes(config: &Config) -> Vec<String> {
    let mut notes = Vec::new();
    for instance in &config.instance {
        let name = &instance.name;
        // Keys of the fixed form that are taken, so that one file serves this version and the next.
        if instance.user.is_some() {
            notes.push(format!(
                "`instance.{name}.user` has no effect in this version"
            ));
        }
        let prices = &config.prices;
        let refuses = prices.unknown == UnknownModel::Refuse && prices.fallback.is_none();
        if refuses && instance.metering == Metering::Observed {
            notes.push(format!(
                "`prices.unknown = \"refuse\"`, the default, has no effect on instance {name}, which calls its models itself: one without a \
                 [[price]] is recorded without a cost, and limits of cost do not see it"
            ));
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBSERVED: &str = r#"
        server = { public = "127.0.0.1:8000", public_url = "http://127.0.0.1:8000" }
        workspace = { root = "/srv/workspaces" }
        [[instance]]
        name = "pool-1"
        url = "http://127.0.0.1:18789"
        metering = "observed"
        auth = { kind = "trusted-proxy", password = "secret" }
    "#;

    fn of(more: &str) -> Vec<String> {
        notes(&toml::from_str(&format!("{OBSERVED}{more}")).unwrap())
    }

    #[test]
    fn refusing_models_without_a_price_is_said_to_mean_nothing_where_an_instance_calls_them_itself()
    {
        let notes = of("[prices]\nunknown = \"refuse\"\n");
        assert!(notes.len() == 1 && notes[0].contains("pool-1"), "{notes:?}");
        assert_eq!(of(""), notes, "it is the default");
        assert_eq!(of("[prices]\nunknown = \"record\"\n").len(), 0);
        assert_eq!(of("[prices]\nfallback = \"m-1\"\n").len(), 0);
    }
}
