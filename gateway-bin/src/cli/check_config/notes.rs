use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Instance, InstanceAuth, Metering, UnknownModel, is_loopback};
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
        let prices = &config.prices;
        let refuses = prices.unknown == UnknownModel::Refuse && prices.fallback.is_none();
        if refuses && instance.metering == Metering::Observed {
            notes.push(format!(
                "`prices.unknown = \"refuse\"`, the default, has no effect on instance {name}, which calls its models itself: one without a \
                 [[price]] is recorded without a cost, and limits of cost do not see it"
            ));
        }
    }
    notes.extend(forgeable(config));
    notes
}

/// What the agent of a cell could do beside it, if it may run programs: whoever is on the host may name any user to an
/// instance that takes this gateway's word at a loopback address.
fn forgeable(config: &Config) -> Option<String> {
    let on_this_host = |instance: &&Instance| {
        let url: Option<http::Uri> = instance.url.parse().ok();
        url.is_some_and(|url| is_loopback(&url))
    };
    let proxied = |instance: &&Instance| matches!(instance.auth, InstanceAuth::TrustedProxy { .. });
    let mut here = config.instance.iter().filter(on_this_host);
    let cell = match here.find(|instance| instance.owner().is_some()) {
        Some(cell) => &*cell.name,
        None => config.cells.as_ref().map(|_| "of [cells]")?,
    };
    let mut here = config.instance.iter().filter(on_this_host);
    let other = here.find(|instance| proxied(instance))?;
    Some(format!(
        "cell {} is on this host, where {} believes whoever says who they are: unless the cell is in a network namespace of \
         its own, or its agent runs no programs, its person can pass for others there",
        cell, other.name
    ))
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
    fn a_cell_beside_an_instance_that_believes_everybody_is_told_of() {
        let cell = |url: &str| {
            format!(
                "[[instance]]\nname = \"cell\"\nurl = \"{url}\"\nmode = \"cell\"\nuser = \"alice\"\n\
                 metering = \"observed\"\nauth = {{ kind = \"password\", password = \"p\" }}\n\
                 [prices]\nunknown = \"record\"\n"
            )
        };
        let notes = of(&cell("http://127.0.0.1:2"));
        assert!(notes.len() == 1 && notes[0].contains("pool-1"), "{notes:?}");
        assert_eq!(of(&cell("http://100.64.0.7:2")).len(), 0, "on another host");
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
