//! A gateway and a provider, and people who call models.

use std::{env, path::Path, sync::Arc, time::Duration};

use ::http::StatusCode;
use gateway_tests::{
    dice::Dice,
    error::Result,
    gateway::{Config, Gateway, person_with_key},
    http,
    kit::Kit,
    provider::{ModelCall, Provider},
    secret,
    storage::{Cut, Fault, Storage},
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::{
    books::{self, Books},
    load::{Load, Person},
};

/// What is around the calls of a test.
pub(crate) struct Place {
    pub(crate) dir: TempDir,
    pub(crate) gateway: Gateway,
    pub(crate) provider: Provider,
    pub(crate) people: Vec<Person>,
    pub(crate) dice: Arc<Dice>,
    storage: Option<Storage>,
    mark: String,
    _scratch: TempDir,
}

/// What a gateway keeps things on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Disk {
    Real,
    /// One whose power can be cut, and that can be full.
    Faulty,
}

/// How often a gateway is killed.
pub(crate) fn rounds() -> u64 {
    let rounds = env::var("KILL_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok());
    rounds.unwrap_or(3)
}

// === impl Place ===

impl Place {
    /// So many people; what the gateway keeps is on such a disk, if there is one.
    pub(crate) async fn start(people: usize, disk: Disk) -> Result<Self> {
        let (dir, scratch) = (tempfile::tempdir(), tempfile::tempdir());
        let dir = dir.expect("a temporary directory");
        let scratch = scratch.expect("a temporary directory");
        let storage = match disk {
            Disk::Real => None,
            Disk::Faulty => Some(Storage::new(dir.path(), scratch.path())?),
        };
        let kit = Kit::from_env()?;
        let provider = Provider::start([&kit.provider_key]).await?;
        let mut config = Config::new(&kit, dir.path())?.with_every_api(&kit, dir.path())?;
        for (old, new) in [
            (&*kit.provider, &*provider.url()),
            (
                "tokens_per_day = 2_000_000",
                "tokens_per_day = 2_000_000_000",
            ),
            (
                "cost_per_month = \"100.00\"",
                "cost_per_month = \"100000.00\"",
            ),
        ] {
            config.text = config.text.replace(old, new);
        }
        config.env = storage.as_ref().map(Storage::env).unwrap_or_default();
        let mut gateway = Gateway::start(config, dir.path()).await?;
        gateway.kill().await?;
        if let Some(storage) = &storage {
            storage.cut(|| false)?;
        }
        let mark = secret::mark()?;
        let mut all = Vec::new();
        for n in 0..people {
            let name = format!("{mark}-{n}");
            let key = person_with_key(dir.path(), &name)?;
            let token = kit.issuer().token(&name).await?;
            all.push(Person { name, key, token });
        }
        gateway.start_again().await?;
        Ok(Self {
            dir,
            gateway,
            provider,
            people: all,
            dice: Arc::new(Dice::from_env("KILL_SEED")),
            storage,
            mark,
            _scratch: scratch,
        })
    }

    /// Everybody calls models, until the load is stopped.
    pub(crate) fn load(&self) -> Load {
        Load::start(&self.gateway, &self.people, &self.dice)
    }

    /// Kills the gateway, and cuts the power if it can be: then what was not synced is lost, but pages that the disk had
    /// written. Answers when the gateway is there again.
    pub(crate) async fn crash(&mut self, keeps: impl FnMut() -> bool) -> Result<Cut> {
        self.gateway.kill9().await?;
        let cut = match &self.storage {
            Some(storage) => storage.cut(keeps)?,
            None => Cut::default(),
        };
        self.gateway.start_again().await?;
        Ok(cut)
    }

    /// From now on, what the disk does wrong.
    pub(crate) fn set(&self, fault: Option<Fault>) -> Result<()> {
        self.storage.as_ref().expect("a faulty disk").set(fault)
    }

    /// The provider's log.
    pub(crate) async fn calls(&self) -> Result<Vec<ModelCall>> {
        self.provider.client().calls().await
    }

    /// Compares the provider's log, the ledger and the counters, once nobody is answered any more.
    pub(crate) async fn books(&self) -> Result<Books> {
        let (mut entries, mut calls) = (Vec::new(), Vec::new());
        loop {
            let before = (entries.len(), calls.len());
            entries = books::settled(self.path(), &self.mark).await;
            calls = self.calls().await?;
            if before == (entries.len(), calls.len()) {
                break;
            }
            sleep(Duration::from_millis(100)).await;
        }
        let books = Books::compare(entries, &calls);
        for person in &self.people {
            let (tokens, nano_usd) = books.used(&person.name);
            let standing = self.standing(person).await?;
            assert_eq!(standing, (tokens, nano_usd, false), "{}", person.name);
        }
        Ok(books)
    }

    /// What the counters say that somebody has used, in tokens and in nano-USD, and whether something is held.
    async fn standing(&self, person: &Person) -> Result<(u64, u64, bool)> {
        let answer = http::get(&self.gateway.url("/api/quota"), Some(&person.token)).await?;
        let quota: Value = answer.expect_status(StatusCode::OK)?.json()?;
        let limits = quota["limits"].as_array().into_iter().flatten();
        let of = |dimension: &str| {
            let mut found = limits
                .clone()
                .filter(|limit| limit["dimension"] == dimension);
            found.next().unwrap_or(&Value::Null).clone()
        };
        let (tokens, cost) = (of("tokens"), of("cost"));
        let used = tokens["used"].as_u64().expect("tokens");
        let is_held = tokens["reserved"] != 0;
        let dollars = cost["used"].as_str().expect("dollars");
        let (whole, part) = dollars.split_once('.').unwrap_or((dollars, ""));
        let nano_usd = format!("{whole}{part:0<9}").parse();
        Ok((used, nano_usd.expect("dollars"), is_held))
    }

    /// Whether the gateway is ready, and if not, for want of what.
    pub(crate) async fn ready(&self) -> Result<(StatusCode, String)> {
        let answer = http::get(&self.gateway.url("/readyz"), None).await?;
        Ok((answer.status, answer.text()))
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }
}
