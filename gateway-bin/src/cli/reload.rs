use std::sync::Arc;

use tokio::signal::unix::Signal;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tower_usage::Prices;
use tower_workspace::vault::Vault;
use tracing::{error, info, warn};

use crate::config::{Config, ConfigError};
use crate::instance::Roster;
use crate::prices::price_list;
use crate::sinks::Sinks;
use crate::telemetry::log::set_filter;

/// Says when the configuration is to be read again, and reads it.
pub(super) struct Reload {
    /// SIGHUP.
    pub(super) signal: Signal,
    /// Reads it.
    pub(super) read: Arc<dyn Fn() -> Result<Config, ConfigError> + Send + Sync>,
}

/// What can be exchanged while the gateway runs: prices, master keys, instances and what is logged. Everything else takes effect at the
/// next start.
pub(super) struct Reloadable {
    prices: Prices,
    vault: Option<Vault>,
    sinks: Sinks,
    roster: Roster,
}

// === impl Reloadable ===

impl Reloadable {
    pub(super) const fn new(
        prices: Prices,
        vault: Option<Vault>,
        sinks: Sinks,
        roster: Roster,
    ) -> Self {
        Self {
            prices,
            vault,
            sinks,
            roster,
        }
    }

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
            let outcome = match read {
                Ok(Ok(config)) => self.take_over(&config),
                Ok(Err(error)) => Err(error),
                // The runtime ends.
                Err(_) => return,
            };
            let result = match outcome {
                Ok(()) => {
                    info!(
                        "prices, master keys, instances and the log filter were read again; everything else takes effect at the next start"
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

    fn take_over(&self, config: &Config) -> Result<(), ConfigError> {
        // All of it is looked at before any of it changes.
        let prices = price_list(&config.price, &config.prices)?;
        let master_keys = config.workspace.master_keys()?;
        let instances = self.roster.set_file(&config.instance);
        instances.map_err(|problem| ConfigError::invalid("instance", problem))?;
        match (&self.vault, master_keys) {
            (Some(vault), Some(keys)) => vault.replace(keys),
            (None, None) => {}
            _ => warn!("`workspace.master_key_file` comes or goes at the next start"),
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
