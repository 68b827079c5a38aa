//! `gateway check-config`: whether a configuration would work, tried without changing anything.

mod cells;
mod files;
mod http;
mod instances;
mod issuers;
mod listeners;
mod notes;
mod outside;
mod redis;
mod report;
mod running;
mod stores;
mod summary;
mod workspace;

use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, join_all};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use self::http::Fetcher;
pub(super) use self::notes::notes;
use self::report::Check;
use self::running::Running;
use super::ConfigFile;
use crate::config::Config;

/// How long one look may take, whatever it is at; most have shorter bounds of their own.
const LONGEST: Duration = Duration::from_secs(15);

/// How long a server may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Checks a configuration.
#[derive(Debug, clap::Args)]
pub(super) struct CheckConfig {
    #[command(flatten)]
    file: ConfigFile,
    /// Check the file alone, and ask nobody.
    #[arg(long)]
    offline: bool,
    /// Print what was found as JSON.
    #[arg(long)]
    json: bool,
}

// === impl CheckConfig ===

impl CheckConfig {
    /// Checks, prints, and answers 0 if all is well, 1 if something would not work, 2 if the file itself is wrong.
    pub(super) async fn run(self) -> ExitCode {
        let config = match self.file.load() {
            Ok(config) => Arc::new(config),
            Err(error) => {
                let file = self.file.config.display().to_string();
                return report::print_invalid(&file, &error.to_string(), self.json);
            }
        };
        if !self.json {
            summary::print(&config);
        }
        let notes = notes(&config).into_iter();
        let mut checks: Vec<Check> = notes
            .map(|note| Check::note("configuration", note))
            .collect();
        checks.extend(outside::prices(&config));
        checks.extend(listeners::sane(&config));
        if !self.offline {
            checks.extend(try_all(&config, &self.file).await);
        }
        report::print(&checks, self.json)
    }
}

/// Looks at everything at the same time, and answers in the order of the file.
async fn try_all(config: &Arc<Config>, file: &ConfigFile) -> Vec<Check> {
    let running = Running::find(&config.socket()).await.map(Arc::new);
    let fetcher = match Fetcher::new() {
        Ok(fetcher) => fetcher,
        Err(error) => {
            let says = format!(
                "this host has no certificates that it trusts: {error}; install ca-certificates"
            );
            return vec![Check::wrong("certificates", says)];
        }
    };
    let mut looks: Vec<BoxFuture<'_, Vec<Check>>> = Vec::new();
    {
        let (config, running) = (Arc::clone(config), running.clone());
        looks.push(blocking("server", move || {
            listeners::free(&config, running.as_deref())
        }));
    }
    for issuer in &config.issuer {
        let about = format!("issuer {}", issuer.alias);
        looks.push(bounded(about, issuers::check(issuer, &fetcher)));
    }
    {
        let (config, running) = (Arc::clone(config), running.clone());
        looks.push(blocking("store.path", move || {
            stores::file(&config, running.as_deref())
        }));
    }
    for (key, url) in stores::urls(config) {
        looks.push(bounded(key.to_owned(), stores::check(key, url)));
    }
    {
        let (config, path) = (Arc::clone(config), file.config.clone());
        looks.push(blocking("workspace.root", move || {
            let mut checks = workspace::check(&config.workspace);
            checks.extend(files::check(&config, &path));
            checks
        }));
    }
    for instance in &config.instance {
        let about = format!("instance {}", instance.name);
        looks.push(bounded(about, instances::check(instance, &fetcher)));
    }
    {
        let config = Arc::clone(config);
        looks.push(blocking("cells", move || cells::check(&config)));
    }
    looks.push(bounded("cells.command".to_owned(), cells::runs(config)));
    for provider in &config.provider {
        let about = format!("provider {}", provider.name);
        looks.push(bounded(about, outside::provider(provider, &fetcher)));
    }
    looks.push(bounded(
        "alerts.webhook_url".to_owned(),
        outside::webhook(config),
    ));
    looks.push(bounded(
        "telemetry.otlp".to_owned(),
        outside::collector(config),
    ));
    join_all(looks).await.into_iter().flatten().collect()
}

fn bounded<'a>(
    about: String,
    look: impl Future<Output = Vec<Check>> + Send + 'a,
) -> BoxFuture<'a, Vec<Check>> {
    async move {
        match timeout(LONGEST, look).await {
            Ok(checks) => checks,
            Err(_) => vec![late(about)],
        }
    }
    .boxed()
}

/// The same for what asks the system: a file system may hang as well.
fn blocking(
    about: &'static str,
    look: impl FnOnce() -> Vec<Check> + Send + 'static,
) -> BoxFuture<'static, Vec<Check>> {
    bounded(about.to_owned(), async move {
        match spawn_blocking(look).await {
            Ok(checks) => checks,
            Err(error) => vec![Check::wrong(about, format!("cannot be looked at: {error}"))],
        }
    })
}

fn late(about: String) -> Check {
    let says = format!("gives no answer within {} seconds", LONGEST.as_secs());
    Check::wrong(about, says)
}
