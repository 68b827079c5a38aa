use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower_quota::{Charge, Denied, OnStoreFailure, Renewing, Shadow};
use tower_usage::postgres::PostgresLedger;
use tower_usage::sqlite::{LedgerOptions, SqliteLedger};
use tower_usage::{Claims, Prices};
use tower_workspace::fs::{Owner, Provisioner};
use tower_workspace::vault::Vault;
use tracing::{info, warn};

use super::check_config::notes;
use super::reload::{Reload, Reloadable};
use super::stopping::{Stop, Stopping};
use super::upstreams;
use crate::alerts::Alerts;
use crate::api::{self, Api, Origins, Pace};
use crate::cells::{Cells, Settings};
use crate::client_address::TrustedProxies;
use crate::config::{self, Config, ProviderKind, UnknownModel};
use crate::counters::{CounterStore, Counters, Seeding};
use crate::egress::{Egress, ForwardCall, OwnKeys, Target, VirtualKeys};
use crate::environment::Environments;
use crate::instance::Device;
use crate::operator::OperatorListener;
use crate::password::{ConnectVerifier, Passwords};
use crate::plan;
use crate::prices::price_list;
use crate::records::Records;
use crate::server::{self, Tls};
use crate::shipping::Shipping;
use crate::shutdown::Shutdown;
use crate::sign_in::SignIn;
use crate::sinks::Sinks;
use crate::snapshots::{Schedule, Snapshots};
use crate::socket::Sockets;
use crate::stack::Parts;
use crate::store::{FileLock, Store};
use crate::telemetry::trace::Exporter;
use crate::telemetry::{self, Exposition, InstanceGauges, Upkeep, Verifications};
use crate::terms::PeoplesTerms;
use crate::ui::Pages;

/// How long what a request holds is held for it if nobody says that it still runs.
const LEASE: Duration = Duration::from_secs(2 * 60);

/// How long the start waits for shared counters, which may wait for other gateways. Then it is left to be seen.
const SEEDING: Duration = Duration::from_secs(10);

/// How long the ledger may take to store what came last.
const CLOSE: Duration = Duration::from_secs(10);

/// Why the gateway does not run.
#[derive(Debug, Error)]
#[error("{what}: {cause}")]
pub(super) struct ServeError {
    what: &'static str,
    cause: String,
}

pub(super) fn failed<E: Into<Box<dyn Error + Send + Sync>>>(
    what: &'static str,
) -> impl Fn(E) -> ServeError {
    move |error| {
        let error = error.into();
        let mut cause = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            // Some say what is behind them themselves.
            let text = error.to_string();
            if !cause.contains(&text) {
                cause = format!("{cause}: {text}");
            }
            source = error.source();
        }
        ServeError { what, cause }
    }
}

/// What the gateway is told while it runs.
pub(super) struct Signals {
    /// To stop.
    pub(super) stop: Stop,
    /// To read its configuration again, where that is a file.
    pub(super) reload: Option<Reload>,
}

/// Runs the gateway until it is told to stop, and answers the books, which are settled on `settling` and still to be [`close`]d.
pub(super) async fn serve(
    config: Config,
    settling: &Handle,
    signals: Signals,
) -> Result<Books, ServeError> {
    let recorder = telemetry::recorder().map_err(failed("metrics"))?;
    let exposition = Exposition::new(recorder.handle());
    metrics::set_global_recorder(recorder).map_err(|error| failed("metrics")(error.to_string()))?;
    telemetry::describe();
    let spans = exporter(&config)?.map(|exporter| {
        let stop = CancellationToken::new();
        let sent = settling.spawn(exporter.run(stop.clone()));
        (stop, sent)
    });
    let shutdown = Shutdown::new();
    let stop = shutdown.end();

    let path = config
        .store
        .path
        .clone()
        .unwrap_or_else(|| "gateway.db".into());
    let (store, _lock) = match &config.store.database_url {
        // The ledger is in the file all the same, and this gateway's alone.
        Some(url) => {
            let lock = FileLock::take(&path).map_err(failed("store.path"))?;
            let store = Store::connect(url.expose()).await;
            (store.map_err(failed("store.database_url"))?, Some(lock))
        }
        None => (Store::open(&path).map_err(failed("store"))?, None),
    };
    let ledger = SqliteLedger::open(&path, LedgerOptions::new()).map_err(failed("ledger"))?;
    let prices = Prices::from(price_list(&config.price, &config.prices).map_err(failed("prices"))?);

    let (records, shipping) = match &config.store.database_url {
        Some(url) => {
            let database = PostgresLedger::new(url.expose());
            let database = database.map_err(failed("store.database_url"))?;
            let shipping = Shipping::start(
                Arc::clone(&ledger),
                database.clone(),
                settling,
                stop.clone(),
            );
            let shipping = shipping.await.map_err(failed("ledger"))?;
            (Records::Database(Box::new(database)), Some(shipping))
        }
        None => (Records::File(Arc::clone(&ledger)), None),
    };
    let claims = match (&records, &config.store.redis_url) {
        (Records::Database(database), _) => Some(Claims::postgres((**database).clone())),
        (Records::File(_), Some(url)) => {
            let url = url.clone();
            let claims = settling.spawn(async move { Claims::redis(url.expose()).await });
            let claims = claims.await.map_err(failed("store.redis_url"))?;
            Some(claims.map_err(failed("store.redis_url"))?)
        }
        (Records::File(_), None) => None,
    };
    let shared = claims.map(|claims| (claims, settling));
    let sinks = Sinks::new(Arc::clone(&ledger), &config, shared);
    let sinks = sinks.map_err(failed("usage.json_lines"))?;

    let plans = plan::plans(&config.plan).map_err(failed("plan"))?;
    // Where its connections outlive the calls that are cut off at the end, and are settled after that.
    let counters = settling.spawn({
        let (store, plans) = (config.store.clone(), plans.clone());
        async move { CounterStore::connect(&store, plans, LEASE).await }
    });
    let counters = counters.await.map_err(failed("the quota store"))?;
    let counters = counters.map_err(failed("the quota store"))?;
    let quota = Renewing::start(Arc::new(counters.clone()), LEASE / 3);
    let terms = PeoplesTerms::new(store.clone(), Arc::new(quota.clone()), counters.is_shared());
    terms.restore().await.map_err(failed("quota"))?;
    let seeding = Seeding::new(quota.clone(), Arc::clone(&ledger), store.clone());
    let seeding = seeding.map_err(failed("ledger"))?;
    match seeding.start(SEEDING).await {
        Err(error) if !counters.is_shared() => return Err(failed("ledger")(error)),
        Err(error) => warn!(
            error = &error as &dyn std::error::Error,
            "quotas cannot be checked yet"
        ),
        Ok(()) => {}
    }
    tokio::spawn(seeding.clone().follow(stop.clone()));
    let webhook = config.alerts.webhook().map_err(failed("alerts"))?;
    let alerts = Alerts::new(store.clone(), &config.plan);
    let alerts = alerts
        .deliver(webhook, stop.clone())
        .map_err(failed("alerts"))?;
    {
        let _settler_runs_there = settling.enter();
        let settler = Arc::new(Counters::new(quota.clone(), alerts));
        ledger.start_settling(settler).map_err(failed("ledger"))?;
    }

    telemetry::context::set_user_key(&secret(&store, "log-users").await?);
    let pages = Pages::new(&config.server.public_url);
    let vault = config.workspace.master_keys();
    let vault = vault.map_err(failed("workspace"))?.map(Vault::new);
    let upstreams = upstreams::start(
        &config,
        vault.clone(),
        upstreams::Starting {
            store: store.clone(),
            ledger: Arc::clone(&ledger),
            records: records.clone(),
            sink: sinks.sink(),
            prices: prices.clone(),
            device: Arc::new(device(&store).await?),
            stop: stop.clone(),
        },
    );
    let (upstreams, roster) = upstreams.map_err(failed("instance"))?;
    let unmet = upstreams::unmet(&upstreams).await;
    if !unmet.is_empty() {
        return Err(failed("the instance's openclaw.json")(unmet.join("; ")));
    }
    roster.hear().await.map_err(failed("store"))?;
    tokio::spawn(
        stop.clone()
            .run_until_cancelled_owned(roster.clone().follow()),
    );
    let certificate = config.server.tls.as_ref();
    let certificate = certificate.and_then(|tls| tls.certificate.clone());
    let tls = certificate.map(|certificate| Tls::new(certificate, &config.server.public_url));
    let tls = tls.transpose().map_err(failed("server.tls"))?;
    let reloadable = Reloadable {
        prices: prices.clone(),
        vault: vault.clone(),
        sinks: sinks.clone(),
        roster: roster.clone(),
        tls: tls.clone(),
        store: store.clone(),
    };
    let own_keys = OwnKeys::load(store.clone(), vault).await;
    let own_keys = own_keys.map_err(failed("store"))?;
    let keys = VirtualKeys::load(store.clone())
        .await
        .map_err(failed("store"))?;
    let provisioner = provisioner(&config)?;
    tokio::task::spawn_blocking({
        let provisioner = provisioner.clone();
        move || {
            if let Err(error) = provisioner.finish_removals() {
                let error = &error as &(dyn Error + 'static);
                warn!(error, "directories of people who were deleted are left");
            }
        }
    });
    let cells = match Settings::new(&config).map_err(failed("configuration"))? {
        Some(settings) => {
            let cells = Cells::start(settings, store.clone(), upstreams.clone());
            Some(cells.await.map_err(failed("cells"))?)
        }
        None => None,
    };
    let environments = Environments::with_cells(
        store.clone(),
        provisioner,
        keys.clone(),
        upstreams.clone(),
        config.routing.affinity,
        cells.clone(),
    );
    let environments = match config.workspace.require_sandbox {
        true => environments.in_sandbox(),
        false => environments,
    };
    let drained = environments.clone().follow_drained();
    tokio::spawn(stop.clone().run_until_cancelled_owned(drained));
    let sign_in = SignIn::start(&config, &path, &store);
    let sign_in = sign_in.await.map_err(failed("sign-in"))?;
    // Gateways that share sessions share these too: whichever issued a password, all of them take it.
    let shared = config.session.keys().map_err(failed("session.key"))?;
    let passwords = match shared.is_empty() {
        true => Passwords::new([secret(&store, "passwords").await?]),
        false => Passwords::new(shared),
    };
    let parts = Parts {
        tokens: sign_in.tokens(),
        virtual_keys: Arc::new(Verifications::new("egress", keys)),
        is_disabled: {
            let sign_in = sign_in.clone();
            Arc::new(move |user_id| sign_in.is_disabled(user_id))
        },
        workspaces: Arc::new(environments.clone()),
        quota: match config.quota.mode {
            config::QuotaMode::Enforce => Arc::new(quota.clone()),
            config::QuotaMode::Shadow => Arc::new(Shadow::new(Arc::new(quota.clone()), unrefused)),
        },
        on_store_failure: match config.quota.on_store_failure {
            config::OnStoreFailure::Open => OnStoreFailure::Open,
            config::OnStoreFailure::Closed => OnStoreFailure::Closed,
        },
        ledger: sinks.sink(),
        prices: prices.clone(),
        run_prepared: {
            let environments = environments.clone();
            Arc::new(move |user_id| environments.run_prepared(user_id))
        },
    };
    let connect = ConnectVerifier::new(passwords.clone(), sign_in.clone());
    let sockets = Sockets::new(
        environments.clone(),
        sign_in.clone(),
        Arc::new(connect),
        parts.clone(),
        shutdown.clone(),
    );
    let origins = std::iter::once(&config.server.public_url).chain(&config.server.allowed_origins);
    let origins = Origins::new(origins.map(String::as_str));
    let origins = origins.map_err(failed("server.allowed_origins"))?;
    let targets = config.provider.iter().map(|provider| {
        let key = |problem| format!("{}: {problem}", provider.name);
        Target::new(provider).map(Arc::new).map_err(key)
    });
    let targets: Result<Arc<[_]>, String> = targets.collect();
    let targets = targets.map_err(failed("provider"))?;
    let snapshots = Snapshots::new(
        store.clone(),
        environments.clone(),
        own_keys.clone(),
        sign_in.clone(),
        Arc::new(quota.clone()),
    );
    let schedule = Schedule {
        every: config.workspace.snapshot_every,
        keep: config.workspace.snapshot_keep,
    };
    let taking = snapshots.clone().follow(schedule);
    tokio::spawn(stop.clone().run_until_cancelled_owned(taking));
    let api = Api {
        snapshots,
        roster,
        store,
        environments,
        sign_in,
        origins,
        pages,
        pace: Pace::new(),
        passwords,
        quota: Arc::new(quota),
        counters,
        seeding,
        plans,
        terms,
        records,
        shipping: shipping.clone(),
        prices: prices.clone(),
        ledger: ledger.clone(),
        public_url: config.server.public_url.as_str().into(),
        proxies: TrustedProxies::new(
            config
                .server
                .trusted_proxies
                .iter()
                .filter_map(|text| text.parse().ok()),
        ),
        sockets: sockets.clone(),
        own_keys: own_keys.clone(),
        targets: Arc::clone(&targets),
    };

    let routes = api::public(api.clone(), &parts).map_err(failed("server.allowed_origins"))?;
    let mut forward = ForwardCall::new(own_keys).map_err(failed("provider"))?;
    if config.prices.unknown == UnknownModel::Refuse {
        forward = forward.refusing_unpriced(prices.clone());
    }
    let model_calls = Egress::new(
        targets,
        parts.model_calls(ProviderKind::Openai, forward.clone()),
        parts.model_calls(ProviderKind::Anthropic, forward),
    );
    let public = server::bind(config.server.public)
        .await
        .map_err(failed("server.public"))?;
    let egress = match config.server.egress {
        Some(egress) => Some(
            server::bind(egress)
                .await
                .map_err(failed("server.egress"))?,
        ),
        None => None,
    };
    let operator = OperatorListener::bind(&config.socket())
        .await
        .map_err(failed("server.socket"))?;
    let instances = InstanceGauges::new(upstreams.clone());
    let exposition = exposition.with({
        let instances = instances.clone();
        move |text| instances.render(text)
    });
    let mut listeners = tokio::task::JoinSet::new();
    listeners.spawn(operator.serve(api::operator(api.clone()), stop.clone()));
    if let Some(address) = config.server.admin {
        let listener = server::bind(address)
            .await
            .map_err(failed("server.admin"))?;
        listeners.spawn(server::serve(
            listener,
            None,
            api::admin(api.clone(), exposition.clone()),
            shutdown.clone(),
        ));
    }
    listeners.spawn(server::serve(public, tls, routes, shutdown.clone()));
    if let Some(egress) = egress {
        let serving = server::serve(egress, None, model_calls, shutdown.clone());
        listeners.spawn(serving);
    }
    if let Some(reload) = signals.reload {
        tokio::spawn(reloadable.follow(reload, stop.clone()));
    }
    let upkeep = Upkeep {
        exposition,
        instances,
        ledger: Arc::clone(&ledger),
        sinks: sinks.clone(),
        cells,
        sockets: sockets.clone(),
        sign_in: api.sign_in.clone(),
        store: api.store.clone(),
    };
    tokio::spawn(upkeep.follow(stop.clone()));
    for note in notes(&config) {
        warn!(note, "the configuration does not do all that it says");
    }
    info!(public = %config.server.public, "gateway runs");

    signals.stop.told.cancelled().await;
    let stopping = Stopping {
        shutdown,
        sockets: sockets.tasks,
        upstreams,
        listeners,
        at_once: signals.stop.at_once,
    };
    stopping.within(config.server.shutdown_timeout).await;
    // Those that are cut off are written in the background, as far as the process lives.
    let _ = timeout(CLOSE, tokio::task::spawn_blocking(move || sinks.flush())).await;
    Ok(Books {
        ledger,
        shipping,
        spans,
    })
}

/// What is still to be closed when the server has ended.
pub(super) struct Books {
    ledger: Arc<SqliteLedger>,
    shipping: Option<Shipping>,
    spans: Option<(CancellationToken, JoinHandle<()>)>,
}

/// Waits until everything that was recorded is stored, settled and shipped. To be called when the tasks of the server are
/// gone: those that were cut off record what they took by being dropped.
pub(super) async fn close(books: Books) {
    let Books {
        ledger,
        shipping,
        spans,
    } = books;
    if let Some((stop, sent)) = spans {
        stop.cancel();
        let _ = timeout(CLOSE, sent).await;
    }
    if let Some(shipping) = shipping {
        // What is not stored in time is not shipped either.
        if let Ok(Ok(())) = timeout(CLOSE, ledger.flush()).await {
            shipping.flush().await;
        }
    }
    match timeout(CLOSE, ledger.close()).await {
        Ok(Ok(())) => info!("ledger closed"),
        Ok(Err(error)) => warn!(%error, "ledger was not closed well"),
        Err(_) => {
            warn!("ledger did not close in time; what it stored is settled at the next start");
        }
    }
}

/// What sends spans, where somebody wants them.
fn exporter(config: &Config) -> Result<Option<Exporter>, ServeError> {
    let config::Telemetry {
        otlp,
        sample,
        service_name,
        ..
    } = &config.telemetry;
    let installed = otlp
        .as_deref()
        .map(|endpoint| Exporter::install(endpoint, *sample, service_name.clone()));
    installed.transpose().map_err(failed("telemetry.otlp"))
}

/// Tells whom a limit would have refused.
fn unrefused(_: &Charge, denied: &Denied) {
    metrics::counter!("gateway_shadow_refusals_total", "limit" => denied.limit_name()).increment(1);
    info!(%denied, "a limit would have refused");
}

async fn device(store: &Store) -> Result<Device, ServeError> {
    let (_, fresh) = Device::generate().map_err(failed("device key"))?;
    let kept = store.key("device", || fresh).await;
    let kept = kept.map_err(failed("store"))?;
    Device::from_pkcs8(&kept).map_err(failed("device key"))
}

/// 32 random bytes, made once.
async fn secret(store: &Store, name: &str) -> Result<Vec<u8>, ServeError> {
    let mut fresh = vec![0; 32];
    aws_lc_rs::rand::fill(&mut fresh).map_err(failed("randomness"))?;
    let kept = store.key(name, || fresh).await;
    kept.map_err(failed("store"))
}

fn provisioner(config: &Config) -> Result<Provisioner, ServeError> {
    let templates = config.workspace.read_templates();
    let templates = templates.map_err(failed("configuration"))?;
    let mut provisioner = Provisioner::new(&config.workspace.root).templates(templates);
    if let Some(owner) = &config.workspace.owner {
        provisioner = provisioner.owner(Owner::of_user(owner).map_err(failed("workspace.owner"))?);
    }
    Ok(provisioner)
}
