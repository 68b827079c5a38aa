//! Where records go: the ledger, and copies of them.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::runtime::Handle;
use tower_usage::sqlite::SqliteLedger;
use tower_usage::{Claims, JsonLines, MetricsSink, Once, Sink, Tee};
use tracing::error;

use crate::config::Config;

/// The ledger and what has copies of its records.
#[derive(Clone)]
pub struct Sinks {
    tee: Arc<Tee>,
    once: Option<Arc<Once>>,
    lines: Option<(PathBuf, Arc<JsonLines>)>,
}

// === impl Sinks ===

impl Sinks {
    /// Records go to `ledger`, are counted in metrics, and are added to a file if the configuration names one. With
    /// claims that gateways share, and a runtime that outlives whatever records, an answer that came to several of them is
    /// paid for once.
    ///
    /// # Errors
    ///
    /// The file cannot be opened, or there can be no thread that writes it.
    pub fn new(
        ledger: Arc<SqliteLedger>,
        config: &Config,
        shared: Option<(Claims, &Handle)>,
    ) -> io::Result<Self> {
        // Of an imported list nobody uses more than these few: labels stay few, too.
        let of_providers = config.provider.iter().flat_map(|provider| &provider.models);
        let models = of_providers.map(|model| &*model.id);
        let models = models.chain(config.price.iter().map(|price| &*price.model));
        let providers = config.provider.iter().map(|provider| &*provider.name);
        let metrics = MetricsSink::new(models).providers(providers);
        let mut tee = Tee::new(ledger).copy_to(Arc::new(metrics));
        let mut lines = None;
        if let Some(path) = &config.usage.json_lines {
            let writer = Arc::new(JsonLines::new(open(path)?)?);
            let copy: Arc<dyn Sink> = Arc::<JsonLines>::clone(&writer);
            tee = tee.copy_to(copy);
            lines = Some((path.clone(), writer));
        }
        let tee = Arc::new(tee);
        let once = shared.map(|(claims, runtime)| {
            let ledger: Arc<dyn Sink> = Arc::<Tee>::clone(&tee);
            Arc::new(Once::new(ledger, claims, runtime))
        });
        Ok(Self { tee, once, lines })
    }

    /// All of it as one.
    #[must_use]
    pub fn sink(&self) -> Arc<dyn Sink> {
        match &self.once {
            Some(once) => Arc::<Once>::clone(once),
            None => Arc::<Tee>::clone(&self.tee),
        }
    }

    /// Opens the file anew, after it was moved away. Blocks for that.
    pub fn reopen(&self) {
        let Some((path, lines)) = &self.lines else {
            return;
        };
        match open(path) {
            Ok(file) => lines.replace(file),
            Err(error) => error!(
                %error, path = %path.display(),
                "usage.json_lines cannot be opened anew; lines go to the file before"
            ),
        }
    }

    /// Waits until the copies are written. Blocks.
    pub fn flush(&self) {
        if let Some((_, lines)) = &self.lines {
            lines.flush();
        }
    }

    /// How many records nobody could be asked about, whether they repeat another.
    #[must_use]
    pub fn unclaimed(&self) -> u64 {
        self.once.as_ref().map_or(0, |once| once.unclaimed())
    }

    /// How many records the copies lack.
    #[must_use]
    pub fn missed(&self) -> u64 {
        let dropped = self.lines.as_ref().map_or(0, |(_, lines)| lines.dropped());
        self.tee.missed().saturating_add(dropped)
    }
}

impl std::fmt::Debug for Sinks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sinks").finish_non_exhaustive()
    }
}

/// Readable by its owner alone where it is made: it says who used what.
fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    let opened = options.open(path);
    opened.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}
