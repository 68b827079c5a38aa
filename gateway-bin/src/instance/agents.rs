//! People's agents on an instance.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::admin::{Admin, AdminError};
use super::agent_spec::AgentSpec;
use super::cell;
use super::dial::Dialer;
use super::gate::Gate;
use super::roles::{self, Census, SlotsInUse};
use super::standing::{Look, Standing, patch_for};
use crate::config::Secret;

/// How long a patch that lost against another change is tried again.
const PATIENCE: Duration = Duration::from_secs(60);

/// First and longest pause before a patch that lost is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

/// Pause before roles that could not be defined are tried again.
const DEFINE_AGAIN: Duration = Duration::from_secs(5);

/// How long a new agent may take to appear after the patch.
const APPEAR: Duration = Duration::from_secs(60);

/// Pause before it is looked for again; listing agents takes the instance longer the more there are.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// How long the first of a crowd waits for the others.
const CROWD: Duration = Duration::from_millis(150);

/// How long a census holds.
const CENSUS: Duration = Duration::from_secs(3);

/// How long it is tried to end an agent; under load the instance takes half a minute for each of the two steps.
const END: Duration = Duration::from_secs(180);

/// Agents that may wait to be made.
const QUEUE: usize = 1024;

/// Most agents of one patch; a bound on its size, not on how many may wait.
const BATCH: usize = 100;

/// Makes agents on one instance: one at a time writes its configuration, because changes are compare-and-swap there
/// and limited to 30 a minute; whoever waits meanwhile goes into the next patch together.
#[derive(Clone, Debug)]
pub struct Agents {
    queue: mpsc::Sender<Wanted>,
    admin: Admin,
    stage: watch::Receiver<Stage>,
    census: Latest,
    /// `None`: in a cell there are none.
    slots: Option<u32>,
    look: LatestLook,
}

/// The latest census: who comes with many others need not ask anew.
type Latest = Arc<Mutex<Option<(Instant, Arc<Census>)>>>;

/// The latest look at everybody's agents, and after how many changes it was taken.
type LatestLook = Arc<Mutex<Option<(u64, Arc<Look>)>>>;

/// How far an instance is prepared for people.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// Nobody has reached it yet.
    Unknown,
    /// Its roles are being defined, for which it closes all connections.
    Defining,
    /// People may come.
    Prepared,
}

/// An agent that somebody waits for.
#[derive(Debug)]
struct Wanted {
    spec: AgentSpec,
    /// `None`: it keeps the one that it has.
    virtual_key: Option<Secret>,
    made: oneshot::Sender<Result<(), AdminError>>,
}

// === impl Agents ===

impl Agents {
    /// Starts the writer, which goes through `gate` and defines the roles of so many slots first.
    #[must_use]
    pub fn start(admin: Admin, dialer: Arc<Dialer>, gate: Gate, slots: u32) -> Self {
        Self::start_for(admin, gate, Some((dialer, slots)))
    }

    /// Starts the writer of a cell, which goes through `gate`: nobody needs a role there.
    #[must_use]
    pub fn start_in_cell(admin: Admin, gate: Gate) -> Self {
        Self::start_for(admin, gate, None)
    }

    fn start_for(admin: Admin, gate: Gate, people: Option<(Arc<Dialer>, u32)>) -> Self {
        let (queue, mut waiting) = mpsc::channel(QUEUE);
        let (reached, stage) = watch::channel(Stage::Unknown);
        let slots = people.as_ref().map(|(_, slots)| *slots);
        let writer = Writer {
            admin: admin.clone(),
            gate,
            people,
        };
        let census = Latest::default();
        let outdated = Arc::clone(&census);
        tokio::spawn(async move {
            let mut batch = Vec::new();
            // Before anybody comes, if it can be: those who are connected are disconnected by it.
            writer.admin.connected().await;
            let _ = reached.send(Stage::Defining);
            while let Err(error) = writer.define_roles().await {
                warn!(%error, "roles cannot be defined yet, nobody is let in");
                sleep(DEFINE_AGAIN).await;
            }
            let _ = reached.send(Stage::Prepared);
            while waiting.recv_many(&mut batch, BATCH).await > 0 {
                // Whoever comes in a crowd is not far behind.
                sleep(CROWD).await;
                while batch.len() < BATCH
                    && let Ok(wanted) = waiting.try_recv()
                {
                    batch.push(wanted);
                }
                let result = writer.make(&batch).await;
                // One that the instance will never take must not keep the others from theirs.
                let singly = batch.len() > 1 && matches!(&result, Err(AdminError::Invalid { .. }));
                for wanted in batch.drain(..) {
                    let result = match singly {
                        true => writer.make(std::slice::from_ref(&wanted)).await,
                        false => result.clone(),
                    };
                    outdated.lock().await.take();
                    let _ = wanted.made.send(result);
                }
            }
        });
        Self {
            queue,
            admin,
            stage,
            census,
            slots,
            look: LatestLook::default(),
        }
    }

    /// Whether people may come.
    #[must_use]
    pub fn is_prepared(&self) -> bool {
        *self.stage.borrow() == Stage::Prepared
    }

    /// Waits until people may come.
    ///
    /// # Errors
    ///
    /// [`AdminError::Down`] at once if the instance was not reached yet.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does nothing.
    pub async fn prepared(&self) -> Result<(), AdminError> {
        let mut stage = self.stage.clone();
        if *stage.borrow() == Stage::Unknown {
            return Err(AdminError::Down);
        }
        let prepared = stage.wait_for(|stage| *stage == Stage::Prepared).await;
        prepared.map(drop).map_err(|_| AdminError::Down)
    }

    /// How an agent stands, and who it is for, after everything that the instance has announced.
    ///
    /// # Errors
    ///
    /// See [`AdminError`].
    pub async fn standing(&self, spec: &AgentSpec) -> Result<Standing, AdminError> {
        let Some(slots) = self.slots else {
            let census = self.census().await?;
            return Ok(match spec.is_among(census.listed()) {
                true => Standing::Whole,
                false => Standing::Gone,
            });
        };
        // One asks for all who come meanwhile.
        let mut latest = self.look.lock().await;
        let changes = self.admin.changes();
        let look = match &*latest {
            Some((after, look)) if *after == changes => Arc::clone(look),
            _ => {
                let look = Arc::new(Look::take(&self.admin, slots).await?);
                *latest = Some((changes, Arc::clone(&look)));
                look
            }
        };
        drop(latest);
        let standing = look.standing(spec);
        if standing == Standing::Gone {
            // It may be somebody else's since the census was taken.
            self.census.lock().await.take();
        }
        Ok(standing)
    }

    /// Whether somebody else than the person whom the instance knows as `user` has the slot of that name.
    ///
    /// # Errors
    ///
    /// See [`AdminError`].
    pub(super) async fn is_of_other(&self, user: &str, slot: &str) -> Result<bool, AdminError> {
        let profiles = self.admin.call("users.list", json!({})).await?;
        Ok(roles::is_of_other(&profiles, user, slot))
    }

    /// The slots in use, as it matters for the person whom the instance knows as `user`.
    ///
    /// # Errors
    ///
    /// See [`AdminError`].
    pub async fn slots_in_use(&self, user: &str) -> Result<SlotsInUse, AdminError> {
        Ok(self.census().await?.slots_in_use(user))
    }

    /// A census of the last few seconds in which no agent was made.
    async fn census(&self) -> Result<Arc<Census>, AdminError> {
        let mut latest = self.census.lock().await;
        if let Some((at, census)) = &*latest
            && at.elapsed() < CENSUS
        {
            return Ok(Arc::clone(census));
        }
        let census = Arc::new(Census::take(&self.admin).await?);
        *latest = Some((Instant::now(), Arc::clone(&census)));
        Ok(census)
    }

    /// Makes an agent, or makes it anew, and returns when it can be used.
    ///
    /// # Errors
    ///
    /// See [`AdminError`]; the agent may have been made all the same.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the agent from being made.
    pub async fn make(&self, spec: AgentSpec, virtual_key: Secret) -> Result<(), AdminError> {
        self.want(spec, Some(virtual_key)).await
    }

    /// Puts an agent right that somebody has changed, and who it is for, and returns when it can be used. It keeps its key.
    ///
    /// # Errors
    ///
    /// See [`AdminError`]; it may have been done all the same.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop it from being done.
    pub async fn repair(&self, spec: AgentSpec) -> Result<(), AdminError> {
        self.want(spec, None).await
    }

    async fn want(&self, spec: AgentSpec, virtual_key: Option<Secret>) -> Result<(), AdminError> {
        let (made, answer) = oneshot::channel();
        let wanted = Wanted {
            spec,
            virtual_key,
            made,
        };
        self.queue.try_send(wanted).map_err(|_| AdminError::Down)?;
        answer.await.unwrap_or(Err(AdminError::Down))
    }
}

impl Agents {
    /// Ends the agent of the person whom the instance knows as `user`, with its conversations and what it had of providers.
    /// The files of its workspace are left alone.
    ///
    /// # Errors
    ///
    /// See [`AdminError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave some of it; calling it again goes on from there.
    pub(super) async fn end(&self, user: &str, agent: &str, gate: &Gate) -> Result<(), AdminError> {
        let (begin, mut pause) = (Instant::now(), RETRY.0);
        loop {
            let changing = gate.change().await;
            let ended = match self.slots {
                None => cell::end(&self.admin, user).await,
                Some(_) => end(&self.admin, agent).await,
            };
            drop(changing);
            self.census.lock().await.take();
            // An instance under load may do it, and be late to say so.
            match ended {
                Err(error @ (AdminError::Refused { .. } | AdminError::Down))
                    if begin.elapsed() < END =>
                {
                    info!(%error, "an agent was not ended, trying again");
                    sleep(pause).await;
                    pause = RETRY.1.min(pause * 2);
                }
                ended => return ended,
            }
        }
    }
}

async fn end(admin: &Admin, agent: &str) -> Result<(), AdminError> {
    let list = admin.call("agents.list", json!({})).await?;
    if listed(&list).any(|id| id == agent) {
        let params = json!({ "agentId": agent, "deleteFiles": false });
        admin.call("agents.delete", params).await?;
    }
    let current = admin.call("config.get", json!({})).await?;
    let own = format!("{agent}-");
    let providers = current
        .pointer("/config/models/providers")
        .and_then(Value::as_object);
    let providers = providers.into_iter().flat_map(Map::keys);
    let names: Vec<&String> = providers.filter(|name| name.starts_with(&own)).collect();
    if names.is_empty() {
        return Ok(());
    }
    // Lists are removed only where it is said that they are.
    let lists: Vec<_> = names
        .iter()
        .map(|name| format!("models.providers.{name}.models"))
        .collect();
    let removed: Map<String, Value> = names
        .into_iter()
        .map(|name| (name.clone(), Value::Null))
        .collect();
    let params = json!({
        "raw": json!({ "models": { "providers": removed } }).to_string(),
        "baseHash": current.get("hash").and_then(Value::as_str).unwrap_or_default(),
        "replacePaths": lists,
    });
    admin.call("config.patch", params).await.map(drop)
}

/// Makes agents, and people their owners.
struct Writer {
    admin: Admin,
    gate: Gate,
    /// Gives so many slots; `None`: in a cell there are none.
    people: Option<(Arc<Dialer>, u32)>,
}

// === impl Writer ===

impl Writer {
    async fn define_roles(&self) -> Result<(), AdminError> {
        match &self.people {
            Some((_, slots)) => roles::define(&self.admin, &self.gate, *slots).await,
            None => Ok(()),
        }
    }

    async fn make(&self, batch: &[Wanted]) -> Result<(), AdminError> {
        self.define_roles().await?;
        write(&self.admin, &self.gate, batch).await?;
        let Some((dialer, _)) = &self.people else {
            return Ok(());
        };
        let owners = batch
            .iter()
            .map(|Wanted { spec, .. }| (&*spec.user, &*spec.agent));
        let owners: Vec<_> = owners.collect();
        roles::give(&self.admin, dialer, &owners).await
    }
}

/// Writes all of `batch` by one patch and waits until the instance lists them.
async fn write(admin: &Admin, gate: &Gate, batch: &[Wanted]) -> Result<(), AdminError> {
    let (begin, mut pause) = (Instant::now(), RETRY.0);
    loop {
        // Anew for each attempt: nobody's run waits while this one does.
        let changing = gate.change().await;
        let current = admin.call("config.get", json!({})).await?;
        let mut wanted = batch.iter().map(|wanted| {
            let virtual_key = wanted.virtual_key.as_ref().map(Secret::expose);
            (&wanted.spec, virtual_key)
        });
        // Of two for the one agent of a cell the later holds, as in a pool.
        let of_cell = wanted.clone().rfind(|(spec, _)| spec.in_cell);
        let params = match of_cell {
            Some((spec, virtual_key)) => Some(cell::patch_for(&current, spec, virtual_key)),
            None => patch_for(&current, &mut wanted),
        };
        let Some(params) = params else {
            break;
        };
        let patched = admin.call("config.patch", params).await;
        drop(changing);
        match patched {
            Ok(_) => break,
            // Somebody else was faster, or the limit of patches in a minute is reached; refused ones count too.
            Err(AdminError::Refused {
                message,
                retry_after,
                ..
            }) if begin.elapsed() < PATIENCE => {
                info!(%message, "configuration of the instance was not changed, trying again");
                sleep(retry_after.unwrap_or(pause)).await;
                pause = RETRY.1.min(pause * 2);
            }
            Err(error) => return Err(error),
        }
    }
    let deadline = Instant::now() + APPEAR;
    loop {
        let list = admin.call("agents.list", json!({})).await?;
        if batch
            .iter()
            .all(|wanted| wanted.spec.is_among(roles::list(&list, "agents")))
        {
            info!(agents = batch.len(), "agents made");
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(AdminError::Refused {
                method: "config.patch",
                message: "the agents did not appear".to_owned(),
                retry_after: None,
            });
        }
        sleep(LOOK_AGAIN).await;
    }
}

fn listed(list: &Value) -> impl Iterator<Item = &str> {
    let agents = list
        .get("agents")
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    agents.iter().filter_map(|agent| agent.get("id")?.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::Offer;

    #[tokio::test(start_paused = true)]
    async fn runs_begin_while_a_change_that_was_refused_waits() {
        let admin = Admin::answered_by(|method, _| match method {
            "config.get" => Ok(json!({ "config": {}, "hash": "h" })),
            _ => Err(AdminError::Refused {
                method: "config.patch",
                message: "not now".to_owned(),
                retry_after: Some(Duration::from_secs(10)),
            }),
        });
        let gate = Gate::default();
        let offer = Offer::of_the_instance();
        let spec = AgentSpec::new("slot-001".into(), "alice".into(), "/w".to_owned(), &offer);
        let (made, _answer) = oneshot::channel();
        let batch = [Wanted {
            spec,
            virtual_key: None,
            made,
        }];
        let entering = async {
            sleep(Duration::from_secs(1)).await;
            let entered = gate.try_enter(&"bob".into());
            gate.leave(&"bob".into());
            entered
        };
        let (written, entered) = tokio::join!(write(&admin, &gate, &batch), entering);
        assert!(entered, "bob's run waits for alice's agent");
        assert!(matches!(written, Err(AdminError::Refused { .. })));
    }
}
