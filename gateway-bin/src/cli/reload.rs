use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};
use tokio::signal::unix::Signal;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tower_usage::Prices;
use tower_workspace::vault::Vault;
use tracing::{error, info, warn};

use crate::api::shown_prices;
use crate::audit::{Act, Actor};
use crate::config::{Config, ConfigError};
use crate::instance::Roster;
use crate::prices::price_list;
use crate::server::Tls;
use crate::sinks::Sinks;
use crate::store::{ActorKind, Outcome, Store, StoreError};
use crate::telemetry::log::{self, set_filter};

/// Says when the configuration is to be read again, and reads it.
pub(super) struct Reload {
    /// SIGHUP.
    pub(super) signal: Signal,
    /// Reads it.
    pub(super) read: Arc<dyn Fn() -> Result<Config, ConfigError> + Send + Sync>,
}

/// What can be exchanged while the gateway runs: prices, master keys, instances, the certificate and what is logged. Everything
/// else takes effect at the next start.
pub(super) struct Reloadable {
    pub(super) prices: Prices,
    pub(super) vault: Option<Vault>,
    pub(super) sinks: Sinks,
    pub(super) roster: Roster,
    pub(super) tls: Option<Tls>,
    pub(super) store: Store,
}

// === impl Reloadable ===

impl Reloadable {
    /// Takes over a configuration each time, until `stop`. One that is wrong changes nothing.
    pub(super) async fn follow(self, reload: Reload, stop: CancellationToken) {
        let Reload { mut signal, read } = reload;
        loop {
            tokio::select! {
                told = signal.recv() => if told.is_none() { return },
                () = stop.cancelled() => return,
            }
            let read = Arc::clone(&read);
            // It reads files.
            let read = spawn_blocking(move || read()).await;
            let sinks = self.sinks.clone();
            let _ = spawn_blocking(move || sinks.reopen()).await;
            // The runtime ends.
            let Ok(read) = read else { return };
            let outcome = match self.act(read).await {
                Ok(outcome) => outcome,
                Err(error) => {
                    error!(
                        error = &error as &dyn std::error::Error,
                        "the configuration was not read again, since the store does not note it; nothing has changed"
                    );
                    metrics::counter!("gateway_config_reloads_total", "result" => "refused")
                        .increment(1);
                    continue;
                }
            };
            let result = match outcome {
                Ok(()) => {
                    info!(
                        "prices, master keys, instances, the certificate and the log filter were read again; everything else takes effect at the next start"
                    );
                    "ok"
                }
                Err(error) => {
                    error!(%error, "the configuration was not read again, nothing has changed");
                    "refused"
                }
            };
            metrics::counter!("gateway_config_reloads_total", "result" => result).increment(1);
        }
    }

    /// Takes a configuration over, as the administrative act that it is; fails if that cannot be noted before.
    async fn act(
        &self,
        read: Result<Config, ConfigError>,
    ) -> Result<Result<(), ConfigError>, StoreError> {
        let actor = Actor {
            kind: ActorKind::Signal,
            id: "SIGHUP".to_owned(),
            address: None,
        };
        let act = Act::new(actor, "configuration.reload");
        act.was(self.described());
        act.begin(&self.store).await?;
        let outcome = read.and_then(|config| self.take_over(&config));
        act.is_now(self.described());
        let ended = match &outcome {
            Ok(()) => act.end(&self.store, Outcome::Done, None).await,
            Err(_) => {
                let code = Some("invalid_configuration");
                act.end(&self.store, Outcome::Refused, code).await
            }
        };
        if let Err(error) = ended {
            error!(
                error = &error as &dyn std::error::Error,
                "how a reload ended is not noted"
            );
        }
        Ok(outcome)
    }

    /// What of a configuration is in force that can be exchanged, without secrets.
    fn described(&self) -> Value {
        let prices = json!(shown_prices(&self.prices.load())).to_string();
        let digest = digest(&SHA256, prices.as_bytes());
        let digest = digest.as_ref().iter().map(|byte| format!("{byte:02x}"));
        let keys = self.vault.as_ref().map(Vault::master_key_ids);
        let keys = keys.unwrap_or_default().into_iter();
        let instances: BTreeMap<_, _> = self.roster.in_file().into_iter().collect();
        let certificate = self.tls.as_ref().map(Tls::certificate);
        json!({
            "instances": instances,
            "certificate": certificate.map(|certificate| certificate.sha256().to_owned()),
            "prices": { "models": self.prices.load().models().count(), "sha256": digest.collect::<String>() },
            "masterKeys": keys.map(|id| id.to_string()).collect::<Vec<_>>(),
            "logFilter": log::filter().map(|filter| filter.as_str().to_owned()),
        })
    }

    fn take_over(&self, config: &Config) -> Result<(), ConfigError> {
        // All of it is looked at before any of it changes.
        let prices = price_list(&config.price, &config.prices)?;
        let master_keys = config.workspace.master_keys()?;
        let certificate = config.server.tls.as_ref();
        let certificate = certificate.and_then(|tls| tls.certificate.clone());
        let instances = self.roster.set_file(&config.instance);
        instances.map_err(|problem| ConfigError::invalid("instance", problem))?;
        match (&self.vault, master_keys) {
            (Some(vault), Some(keys)) => vault.replace(keys),
            (None, None) => {}
            _ => warn!("`workspace.master_key_file` comes or goes at the next start"),
        }
        match (&self.tls, certificate) {
            (Some(tls), Some(certificate)) => tls.replace(certificate),
            (None, None) => {}
            _ => warn!("`server.tls` comes or goes at the next start"),
        }
        self.prices.store(prices);
        if let Some(filter) = config.log.filter()
            && let Err(error) = set_filter(&filter)
        {
            warn!(%error, "the log is as it was");
        }
        Ok(())
    }
}
