use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::value::RawValue;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower_usage::sqlite::SqliteLedger;
use tower_usage::{Prices, Sink};
use tower_workspace::vault::Vault;
use tracing::warn;

use crate::config::{Config, Instance, Metering};
use crate::instance::{Device, Dialer, Offer, Roster, RunMessage, Tolerance, Upstream, Upstreams};
use crate::observed::{self, Meter};
use crate::records::Records;
use crate::store::Store;

/// How long an instance may take to say how it is configured.
const WAIT: Duration = Duration::from_secs(3);

/// What instances are worked with.
pub(super) struct Starting {
    pub(super) store: Store,
    pub(super) ledger: Arc<SqliteLedger>,
    pub(super) records: Records,
    pub(super) sink: Arc<dyn Sink>,
    pub(super) prices: Prices,
    pub(super) device: Arc<Device>,
    pub(super) stop: CancellationToken,
}

/// The instances of a configuration, which was checked, worked with from now on, and who may join them.
pub(super) fn start(
    config: &Config,
    vault: Option<Vault>,
    with: Starting,
) -> Result<(Upstreams, Roster), String> {
    let egress = config.server.egress.map(|egress| {
        let url = config.server.egress_url.clone();
        let url = url.unwrap_or_else(|| format!("http://{egress}"));
        Offer::new(&config.provider, &url)
    });
    let routing = config.routing;
    let tolerance = Tolerance::new(routing.max_fails, routing.fail_timeout);
    let has_egress = egress.is_some();
    let (device, store) = (Arc::clone(&with.device), with.store.clone());
    let upstreams = Upstreams::new(move |instance| {
        let offer = match (instance.metering, &egress) {
            (Metering::Observed, _) => Offer::of_the_instance(),
            (Metering::Egress, Some(offer)) => offer.clone(),
            (Metering::Egress, None) => return Err("server.egress is missing".to_owned()),
        };
        with.start(instance, offer, tolerance)
    });
    upstreams.set(&config.instance)?;
    let try_on = move |instance: &Instance| {
        if instance.metering == Metering::Egress && !has_egress {
            return Err("server.egress is missing, through which it would call models".to_owned());
        }
        Dialer::new(instance, Arc::clone(&device)).map(drop)
    };
    let file = config.instance.clone();
    let roster = Roster::new(upstreams.clone(), store, vault, file, try_on);
    Ok((upstreams, roster))
}

// === impl Starting ===

impl Starting {
    fn start(
        &self,
        instance: &Instance,
        offer: Offer,
        tolerance: Tolerance,
    ) -> Result<Upstream, String> {
        let (device, removed) = (Arc::clone(&self.device), self.stop.child_token());
        match instance.metering {
            Metering::Egress => {
                let joins = Arc::clone(&self.ledger);
                let join = move |event: &str, payload: &RawValue| {
                    if event == "session.message"
                        && let Some(message) = RunMessage::read(payload)
                    {
                        let (run, session) = (message.run_id, message.session_key);
                        joins.join_run(message.response_id, run, Some(session));
                    }
                };
                Upstream::start(instance, device, offer, tolerance, join, removed)
            }
            Metering::Observed => {
                let (ear, heard) = observed::channel();
                let hear = move |event: &str, payload: &RawValue| ear.hear(event, payload);
                let stop = removed.clone();
                let upstream = Upstream::start(instance, device, offer, tolerance, hear, removed)?;
                let metered = observed::Parts {
                    instance: Arc::clone(&upstream.name),
                    owner: upstream.owner.clone(),
                    admin: upstream.admin.clone(),
                    heard,
                    store: self.store.clone(),
                    sink: Arc::clone(&self.sink),
                    ledger: Arc::clone(&self.ledger),
                    records: self.records.clone(),
                    prices: self.prices.clone(),
                };
                Meter::start(metered, stop);
                Ok(upstream)
            }
        }
    }
}

/// What must be changed in the instances' own configurations, as far as they say in time how they are configured: one that
/// is down or starting is not waited for, and gets nobody until it has said so.
pub(super) async fn unmet(upstreams: &Upstreams) -> Vec<String> {
    let upstreams = upstreams.all();
    let asked = upstreams.iter().map(|upstream| async {
        let answer = timeout(WAIT, upstream.fitness.known()).await;
        if answer.is_err() {
            warn!(
                instance = &*upstream.name,
                "instance does not answer yet; its configuration is not checked"
            );
        }
        let unmet = answer.unwrap_or_default();
        (!unmet.is_empty()).then(|| format!("{}: {}", upstream.name, unmet.join("; ")))
    });
    join_all(asked).await.into_iter().flatten().collect()
}
