//! The instances of the configuration file, and those that administrators have added.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use thiserror::Error;
use tokio::time::{MissedTickBehavior, interval};
use tower_workspace::vault::{Sealed, Vault, VaultError};
use tracing::warn;

use super::Upstreams;
use crate::config::{ConfigError, Instance, InstanceAuth, InstanceMode, check_instance};
use crate::store::{AddedInstanceRow, Note, Store, StoreError};

/// How often it is heard what another gateway was told.
const HEAR: Duration = Duration::from_secs(1);

/// In the name of a user, for the vault; no user id has such a character in it that anybody could type.
const OWNER: &str = "\0instances";

/// Who is among the instances; clones share them.
#[derive(Clone)]
pub struct Roster(Arc<Inner>);

struct Inner {
    upstreams: Upstreams,
    store: Store,
    vault: Option<Vault>,
    /// Says what of an instance cannot be used here.
    try_on: Box<TryOn>,
    sources: Mutex<Sources>,
}

type TryOn = dyn Fn(&Instance) -> Result<(), String> + Send + Sync;

#[derive(Default)]
struct Sources {
    file: Vec<Instance>,
    added: Vec<Instance>,
    /// What `added` was made of.
    rows: Vec<AddedInstanceRow>,
}

/// Why an instance is not added or removed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RosterError {
    /// What was said of it cannot be used.
    #[error(transparent)]
    Invalid(#[from] ConfigError),
    /// There is one of that name, or at that URL.
    #[error("{0}")]
    Taken(String),
    /// It stands in the configuration file.
    #[error("this instance stands in the configuration file; remove it there, and send SIGHUP")]
    InFile,
    /// Somebody has a place there.
    #[error(
        "{0} people have a place there; unassign them first, or force it: they are told to wait then"
    )]
    InUse(u32),
    /// There is none of that name.
    #[error("there is no instance of that name")]
    Unknown,
    /// There is no master key to seal it under.
    #[error("no master key is configured to seal the instance's password under")]
    NoMasterKey,
    /// It cannot be sealed or opened.
    #[error("the instance cannot be sealed or opened")]
    Vault(#[from] VaultError),
    /// The store does not answer.
    #[error("the store does not answer")]
    Store(#[from] StoreError),
}

// === impl Roster ===

impl Roster {
    /// The instances that `upstreams` has been given are those of the file, `file`. `try_on` says what of another cannot be
    /// used here; secrets are sealed under the master keys of `vault`.
    pub fn new(
        upstreams: Upstreams,
        store: Store,
        vault: Option<Vault>,
        file: Vec<Instance>,
        try_on: impl Fn(&Instance) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        let sources = Sources {
            file,
            ..Sources::default()
        };
        Self(Arc::new(Inner {
            upstreams,
            store,
            vault,
            try_on: Box::new(try_on),
            sources: Mutex::new(sources),
        }))
    }

    /// Makes these the instances of the file. One that was added under the same name, or at the same URL, is not used as long
    /// as it is there.
    ///
    /// # Errors
    ///
    /// The instance that cannot be used, and why; nothing has changed then.
    pub fn set_file(&self, file: &[Instance]) -> Result<(), String> {
        let mut sources = self.sources();
        let all = together(file, &sources.added);
        self.0.upstreams.set(&all)?;
        sources.file = file.to_vec();
        // There may be other master keys, too.
        sources.rows.clear();
        Ok(())
    }

    /// The names and addresses of the instances of the file.
    #[must_use]
    pub fn in_file(&self) -> BTreeMap<String, String> {
        let sources = self.sources();
        let file = sources.file.iter();
        file.map(|one| (one.name.clone(), one.url.to_string()))
            .collect()
    }

    /// Whether an instance was added, and is not of the file.
    #[must_use]
    pub fn is_added(&self, name: &str) -> bool {
        let sources = self.sources();
        let is = |instances: &[Instance]| instances.iter().any(|one| one.name == name);
        is(&sources.added) && !is(&sources.file)
    }

    /// Adds an instance, of which `said` is what was said in JSON, which is an administrative act; other gateways that share the store take it over within a
    /// second or so.
    ///
    /// # Errors
    ///
    /// See [`RosterError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave it added or not.
    pub async fn add(
        &self,
        instance: &Instance,
        said: &[u8],
        mut note: Note,
    ) -> Result<(), RosterError> {
        let vault = self.0.vault.as_ref().ok_or(RosterError::NoMasterKey)?;
        self.check(instance)?;
        self.hear().await?;
        {
            let sources = self.sources();
            let mut all = sources.file.iter().chain(&sources.added);
            if let Some(other) = all.find(|other| clash(other, instance)) {
                return Err(RosterError::Taken(match other.name == instance.name {
                    true => format!("there is an instance `{}` already", other.name),
                    false => format!(
                        "the instance `{}` has this URL, user or sandbox_user: people of one would meet those of the other there",
                        other.name
                    ),
                }));
            }
        }
        let sealed = vault.seal(OWNER, &instance.name, said)?.to_bytes();
        note.after = Some(described(instance));
        let added = self.0.store.add_instance(&instance.name, &sealed, note);
        if !added.await? {
            let taken = format!("there is an instance `{}` already", instance.name);
            return Err(RosterError::Taken(taken));
        }
        Ok(self.hear().await?)
    }

    /// Removes an instance that was added, which is an administrative act, and closes what is open to it; `force`: even if people have a place there.
    ///
    /// # Errors
    ///
    /// See [`RosterError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave it removed or not.
    pub async fn remove(&self, name: &str, force: bool, mut note: Note) -> Result<(), RosterError> {
        if self.sources().file.iter().any(|one| one.name == name) {
            return Err(RosterError::InFile);
        }
        note.before = {
            let sources = self.sources();
            let mut added = sources.added.iter();
            added.find(|one| one.name == name).map(described)
        };
        if !self.0.store.remove_instance(name, force, note).await? {
            let rows = self.0.store.added_instances().await?;
            if !rows.iter().any(|row| *row.name == *name) {
                return Err(RosterError::Unknown);
            }
            let assigned = self.0.store.assigned().await?;
            return Err(RosterError::InUse(assigned.get(name).copied().unwrap_or(0)));
        }
        // One that comes under this name later is another.
        self.0.store.set_drained(name, false).await?;
        Ok(self.hear().await?)
    }

    /// Seals anew, under the first master key, what is sealed under another; how many instances that were, and how many
    /// cannot be opened.
    ///
    /// # Errors
    ///
    /// See [`RosterError`]; some may be sealed anew then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave some of it done.
    pub async fn reseal(&self) -> Result<(usize, usize), RosterError> {
        let vault = self.0.vault.as_ref().ok_or(RosterError::NoMasterKey)?;
        let (mut resealed, mut lost) = (0, 0);
        for row in self.0.store.added_instances().await? {
            let anew = Sealed::from_bytes(&row.sealed).and_then(|sealed| {
                let needs = vault.needs_reseal(&sealed);
                needs
                    .then(|| vault.reseal(OWNER, &row.name, &sealed))
                    .transpose()
            });
            match anew {
                Ok(None) => {}
                Ok(Some(anew)) => {
                    let done = self.0.store.reseal_instance(&row, &anew.to_bytes()).await?;
                    resealed += usize::from(done);
                }
                Err(error) => {
                    let error = &error as &(dyn std::error::Error + 'static);
                    warn!(
                        error,
                        instance = &*row.name,
                        "an instance cannot be sealed anew"
                    );
                    lost += 1;
                }
            }
        }
        Ok((resealed, lost))
    }

    /// Takes over what was added and removed, here or at another gateway.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave it done or not.
    pub async fn hear(&self) -> Result<(), StoreError> {
        let rows = self.0.store.added_instances().await?;
        let mut sources = self.sources();
        if sources.rows == rows {
            return Ok(());
        }
        let added = rows.iter().filter_map(|row| match self.read(row) {
            Ok(instance) => Some(instance),
            Err(problem) => {
                warn!(
                    instance = &*row.name,
                    problem, "an instance that was added cannot be used here"
                );
                None
            }
        });
        let added: Vec<_> = added.collect();
        let all = together(&sources.file, &added);
        // It is said once.
        sources.rows = rows;
        match self.0.upstreams.set(&all) {
            Ok(()) => sources.added = added,
            Err(problem) => warn!(problem, "instances that were added cannot be used here"),
        }
        Ok(())
    }

    /// Takes over, for as long as it runs, what other gateways are told.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends it.
    pub async fn follow(self) {
        let mut ticks = interval(HEAR);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_deaf = false;
        loop {
            ticks.tick().await;
            match self.hear().await {
                Ok(()) => is_deaf = false,
                // What is known stays known.
                Err(error) if !is_deaf => {
                    let error = &error as &(dyn std::error::Error + 'static);
                    warn!(error, "the store does not say which instances were added");
                    is_deaf = true;
                }
                Err(_) => {}
            }
        }
    }

    fn read(&self, row: &AddedInstanceRow) -> Result<Instance, String> {
        let vault = self.0.vault.as_ref().ok_or("there is no master key")?;
        let sealed = Sealed::from_bytes(&row.sealed).map_err(|error| error.to_string())?;
        let said = vault.open(OWNER, &row.name, &sealed);
        let said = said.map_err(|error| error.to_string())?;
        let instance: Instance = serde_json::from_slice(said.expose())
            .map_err(|_| "what was said of it is nothing that this version knows".to_owned())?;
        self.check(&instance).map_err(|error| error.to_string())?;
        Ok(instance)
    }

    fn check(&self, instance: &Instance) -> Result<(), ConfigError> {
        let (InstanceAuth::TrustedProxy { password_file, .. }
        | InstanceAuth::Password { password_file, .. }) = &instance.auth;
        let invalid = |key: &str, problem: String| {
            ConfigError::invalid(format!("instance.{}{key}", instance.name), problem)
        };
        if password_file.is_some() {
            let problem = "is for the configuration file; the password itself is sealed";
            return Err(invalid(".auth.password_file", problem.to_owned()));
        }
        check_instance(instance)?;
        (self.0.try_on)(instance).map_err(|problem| invalid("", problem))
    }

    fn sources(&self) -> std::sync::MutexGuard<'_, Sources> {
        self.0
            .sources
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Roster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Roster").field(&self.0.upstreams).finish()
    }
}

/// What is noted of an instance: all but how the gateway signs in there.
fn described(instance: &Instance) -> Value {
    let mode = match instance.mode {
        InstanceMode::Pool => "pool",
        InstanceMode::Cell => "cell",
    };
    json!({
        "url": instance.url, "mode": mode, "user": instance.user, "capacity": instance.capacity,
        "sandboxUser": instance.sandbox_user,
    })
}

/// Whether two cannot be there at once.
fn clash(one: &Instance, other: &Instance) -> bool {
    let url = |instance: &Instance| instance.url.trim_end_matches('/').to_owned();
    let is_of_one_sandbox_user =
        one.sandbox_user.is_some() && one.sandbox_user == other.sandbox_user;
    let is_of_one_user = one.user.is_some() && one.user == other.user;
    one.name == other.name || url(one) == url(other) || is_of_one_sandbox_user || is_of_one_user
}

/// Those of the file, and of those that were added the ones for which there is room beside them.
fn together(file: &[Instance], added: &[Instance]) -> Vec<Instance> {
    let mut all = file.to_vec();
    for one in added {
        match all.iter().any(|other| clash(other, one)) {
            false => all.push(one.clone()),
            true => warn!(
                instance = one.name,
                "an instance that was added is not used: another has its name or its URL"
            ),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tower_workspace::vault::MasterKeys;

    use super::*;
    use crate::store::testing::note;

    #[tokio::test]
    async fn what_is_said_of_an_instance_is_sealed_for_its_name_and_sealed_anew() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("gateway.db")).unwrap();
        let keys = |keys: &[&str]| {
            let lines: Vec<_> = keys.iter().map(|key| key.repeat(32)).collect();
            MasterKeys::parse(lines.join("\n")).unwrap()
        };
        let vault = Vault::new(keys(&["aa"]));
        let upstreams = Upstreams::new(|_| Err("not in this test".to_owned()));
        let sealing = Some(vault.clone());
        let roster = Roster::new(upstreams, store.clone(), sealing, Vec::new(), |_| Ok(()));
        let auth = json!({"kind": "trusted-proxy", "password": "canary"});
        let said = json!({"name": "x", "url": "http://127.0.0.1:1", "auth": auth}).to_string();
        let instance: Instance = serde_json::from_str(&said).unwrap();
        let add = async |id| roster.add(&instance, said.as_bytes(), note(id)).await;
        add("1").await.unwrap();
        let again = add("2").await;
        assert!(matches!(again, Err(RosterError::Taken(_))));

        let row = async || store.added_instances().await.unwrap().remove(0);
        let sealed = row().await;
        assert!(!sealed.sealed.windows(6).any(|bytes| bytes == b"canary"));
        assert_eq!(roster.read(&sealed).unwrap(), instance);
        let renamed = AddedInstanceRow {
            name: "y".into(),
            ..sealed
        };
        assert!(roster.read(&renamed).is_err());

        assert_eq!(roster.reseal().await.unwrap(), (0, 0));
        vault.replace(keys(&["bb", "aa"]));
        assert_eq!(roster.reseal().await.unwrap(), (1, 0));
        vault.replace(keys(&["bb"]));
        assert_eq!(roster.read(&row().await).unwrap(), instance);
        vault.replace(keys(&["aa"]));
        assert_eq!(roster.reseal().await.unwrap(), (0, 1));
        assert!(roster.read(&row().await).is_err());
    }
}
