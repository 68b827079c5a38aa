use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};
use tower_workspace::DirectoryName;
use tracing::info;

use super::cell::{Cell, InUse, Status, Visit};
use super::directory::CellsDir;
use super::members::Mark;
use super::ports::Ports;
use super::probe::Probe;
use super::settings::open_to_others;
use super::{CellError, CellsError, Settings, sole};
use crate::config::Instance;
use crate::store::Store;

/// How many start at the same time: each takes all that a processor has.
const STARTS: usize = 2;

/// How many may wait for a start.
const WAITING: usize = 20;

/// When somebody is to ask again whose cell starts, or stands before others.
const SOON: Duration = Duration::from_secs(2);

/// When somebody is to ask again for whom there is no place.
const LATER: Duration = Duration::from_secs(30);

/// How long a cell must be unused that makes room for another: who connects again is not to find it gone.
const SPARE: Duration = Duration::from_secs(60);

/// How long the end of a cell may take that is removed.
const REMOVAL: Duration = Duration::from_secs(60);

/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(100);

/// How long a start may take. Alone it takes 15 s; more than 180 were seen on two processors that had sixteen other things to
/// do, and whoever is ended there begins anew and is later still.
const READY: Duration = Duration::from_secs(300);

/// How often one that runs is asked whether it answers.
const ASK: Duration = Duration::from_secs(10);

/// How long running turns may take that it is stopped in: OpenClaw itself waits for 315 s and ends after 330.
const DRAIN: Duration = Duration::from_secs(340);

/// Everybody's cells; clones share them.
///
/// Their processes outlive this: the next gateway with the same directory goes on with them.
#[derive(Clone)]
pub struct Cells {
    shared: Arc<Shared>,
}

/// Who is told of the cells that can be used. It must not wait.
pub trait Roster: Send + Sync {
    /// There is one more, or it is the one that there was.
    ///
    /// # Errors
    ///
    /// Why it cannot be used.
    fn join(&self, cell: &Instance) -> Result<(), String>;

    /// There is no such cell any more.
    fn leave(&self, name: &str);
}

/// What is told of a cell.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ListedCell {
    /// The instance's name.
    pub name: Arc<str>,
    /// Whose it is.
    pub user_id: Arc<str>,
    /// What it does: `off`, `starting`, `running` or `stopping`.
    pub status: &'static str,
    /// Its process, where it can be used.
    pub pid: Option<i32>,
    /// As which user of the system it runs, where that is not ours.
    pub os_user: Option<u32>,
    /// How many use it.
    pub uses: usize,
    /// For how long nobody has done anything in it.
    pub unused_for: Duration,
    /// What went wrong last, if something did.
    pub failure: Option<Arc<str>>,
}

pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) dir: CellsDir,
    pub(super) store: Store,
    pub(super) roster: Box<dyn Roster>,
    pub(super) limits: Limits,
    pub(super) ports: Ports,
    pub(super) probe: Probe,
    /// As many as may run.
    pub(super) places: Semaphore,
    /// As many as may start.
    pub(super) starts: Semaphore,
    cells: Mutex<HashMap<Arc<str>, Arc<Cell>>>,
}

/// How long something of a cell may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) ready: Duration,
    /// How long after an answer it is asked again, and how long it may take to answer then.
    pub(super) ask: Duration,
    pub(super) drain: Duration,
}

// === impl Cells ===

impl Cells {
    /// Takes over the cells that run, ends what is left of others, and starts one for whoever comes.
    ///
    /// # Errors
    ///
    /// See [`CellsError`].
    pub async fn start(
        settings: Settings,
        store: Store,
        roster: impl Roster + 'static,
    ) -> Result<Self, CellsError> {
        let limits = Limits {
            ready: READY,
            ask: ASK,
            drain: DRAIN,
        };
        Self::start_with(settings, store, roster, limits).await
    }

    pub(super) async fn start_with(
        settings: Settings,
        store: Store,
        roster: impl Roster + 'static,
        limits: Limits,
    ) -> Result<Self, CellsError> {
        settings.check()?;
        let dir = CellsDir::open(&settings.dir).map_err(|source| CellsError::Dir {
            path: settings.dir.clone(),
            source,
        })?;
        if settings.os_users.is_some() {
            open_to_others("cells.dir", &dir.path().join("any"), false)?;
        }
        sole::hold(&store, dir.path()).await?;
        let places = usize::try_from(settings.max).unwrap_or(usize::MAX);
        let shared = Shared {
            settings,
            dir,
            store,
            roster: Box::new(roster),
            limits,
            ports: Ports::default(),
            probe: Probe::new(),
            places: Semaphore::new(places.min(Semaphore::MAX_PERMITS)),
            starts: Semaphore::new(STARTS),
            cells: Mutex::default(),
        };
        let shared = Arc::new(shared);
        let adopted = shared.adopt().await.map_err(CellsError::Processes)?;
        for (cell, process) in adopted {
            tokio::spawn(Arc::clone(&shared).live(cell, Some(process)));
        }
        Ok(Self { shared })
    }

    /// Somebody's cell, if it runs. If not, it is started, and the error says when to ask again.
    ///
    /// # Errors
    ///
    /// See [`CellError`].
    pub fn wake(&self, user_id: &Arc<str>) -> Result<Instance, CellError> {
        let mut cells = self.shared.cells();
        let cell = self.shared.cell(&mut cells, user_id)?;
        match cell.visit() {
            Visit::Running(running) => Ok(running.instance.clone()),
            Visit::Coming => {
                // It may be one of more than there are places for.
                make_room(&cells, self.shared.places(), self.shared.spare());
                Err(CellError::Starting { retry_after: SOON })
            }
            Visit::Failing { failures, pause } => Err(CellError::Failing {
                failures,
                retry_after: pause,
            }),
            Visit::Off => {
                let waiting = cells.values().map(|cell| cell.seen().status);
                let waiting = waiting.filter(|status| matches!(status, Status::Starting));
                if waiting.count() >= STARTS + WAITING {
                    return Err(CellError::Busy { retry_after: LATER });
                }
                let places = self.shared.places().saturating_sub(1);
                if !make_room(&cells, places, self.shared.spare()) {
                    return Err(CellError::Full { retry_after: LATER });
                }
                cell.set_starting();
                tokio::spawn(Arc::clone(&self.shared).live(cell, None));
                Err(CellError::Starting { retry_after: SOON })
            }
        }
    }

    /// Somebody uses their cell as long as the answer is held; `None`: it does not run.
    #[must_use]
    pub fn enter(&self, user_id: &Arc<str>) -> Option<InUse> {
        self.shared.find(user_id)?.enter()
    }

    /// Somebody's cell does something for them now.
    pub fn touch(&self, user_id: &Arc<str>) {
        if let Some(cell) = self.shared.find(user_id) {
            cell.touch();
        }
    }

    /// Ends somebody's cell, and removes everything that it has. Their operating-system user stays theirs.
    ///
    /// # Errors
    ///
    /// What of it cannot be ended or removed; the next call goes on from there.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave some of it, and the cell barred; calling it again goes on from there.
    pub async fn remove(&self, user_id: &Arc<str>) -> io::Result<()> {
        let cell = {
            let mut cells = self.shared.cells();
            let cell = self.shared.cell(&mut cells, user_id);
            cell.map_err(io::Error::other)?
        };
        let deadline = Instant::now() + REMOVAL;
        while !cell.set_barred(true) {
            if Instant::now() > deadline {
                return Err(io::Error::other("the cell does not end"));
            }
            sleep(LOOK).await;
        }
        let os_user = self.shared.find_os_user(&cell).await;
        let mark = Mark {
            state: cell.dir.state(),
            os_user: os_user.map_err(io::Error::other)?,
            leader: None,
        };
        mark.end().await?;
        let dir = cell.dir.clone();
        let removed = spawn_blocking(move || match fs::remove_dir_all(dir.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        });
        removed
            .await
            .unwrap_or_else(|stopped| Err(io::Error::other(stopped)))?;
        info!(cell = &*cell.name, "cell was removed");
        cell.set_barred(false);
        self.shared.cells().remove(user_id);
        Ok(())
    }

    /// The operating-system user that somebody's cell runs as now, where that is not ours.
    #[must_use]
    pub fn os_user(&self, user_id: &Arc<str>) -> Option<u32> {
        match self.shared.find(user_id)?.seen().status {
            Status::Running(running) => running.os_user,
            _ => None,
        }
    }

    /// The directory of all cells.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.shared.dir.path()
    }

    /// Takes how many cells do what.
    pub fn measure(&self) {
        let listed = self.list();
        for status in ["starting", "running", "stopping"] {
            let count = listed.iter().filter(|cell| cell.status == status).count();
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            metrics::gauge!("gateway_cells", "status" => status).set(f64::from(count));
        }
    }

    /// The cells that somebody has come to since the start, by name.
    #[must_use]
    pub fn list(&self) -> Vec<ListedCell> {
        let cells = self.shared.cells();
        let mut listed: Vec<_> = cells.values().map(|cell| listed(cell)).collect();
        drop(cells);
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        listed
    }
}

impl fmt::Debug for Cells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cells")
            .field("settings", &self.shared.settings)
            .finish_non_exhaustive()
    }
}

fn listed(cell: &Cell) -> ListedCell {
    let seen = cell.seen();
    let running = match &seen.status {
        Status::Running(running) => Some(running),
        _ => None,
    };
    ListedCell {
        name: Arc::clone(&cell.name),
        user_id: Arc::clone(&cell.user_id),
        status: match seen.status {
            Status::Off => "off",
            Status::Starting => "starting",
            Status::Running(_) => "running",
            Status::Stopping => "stopping",
        },
        pid: running.map(|running| running.process.pid),
        os_user: running.and_then(|running| running.os_user),
        uses: seen.uses,
        unused_for: seen.unused_for,
        failure: seen.failure,
    }
}

/// Stops what is unused until no more than `places` are taken; whether that can be done.
fn make_room(cells: &HashMap<Arc<str>, Arc<Cell>>, places: usize, spare: Duration) -> bool {
    loop {
        let seen: Vec<_> = cells.values().map(|cell| (cell, cell.seen())).collect();
        if seen.iter().filter(|(_, seen)| seen.has_place()).count() <= places {
            return true;
        }
        let unused = seen.iter().filter(|(_, seen)| {
            matches!(seen.status, Status::Running(_)) && seen.uses == 0 && seen.unused_for >= spare
        });
        let Some((cell, _)) = unused.max_by_key(|(_, seen)| seen.unused_for) else {
            return false;
        };
        // Somebody may come to it right now: then it is looked at anew.
        if cell.stop_unused(spare) {
            info!(cell = &*cell.name, "an unused cell makes room for another");
        }
    }
}

// === impl Shared ===

impl Shared {
    pub(super) fn cells(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Cell>>> {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody's cell, which need not have been there.
    pub(super) fn cell(
        &self,
        cells: &mut HashMap<Arc<str>, Arc<Cell>>,
        user_id: &Arc<str>,
    ) -> Result<Arc<Cell>, CellError> {
        if let Some(cell) = cells.get(user_id) {
            return Ok(Arc::clone(cell));
        }
        let name = DirectoryName::for_user(user_id)?;
        let instance = instance_name(&name);
        let cell = Arc::new(Cell::new(Arc::clone(user_id), instance, self.dir.of(&name)));
        cells.insert(Arc::clone(user_id), Arc::clone(&cell));
        Ok(cell)
    }

    fn find(&self, user_id: &Arc<str>) -> Option<Arc<Cell>> {
        self.cells().get(user_id).cloned()
    }

    fn places(&self) -> usize {
        usize::try_from(self.settings.max).unwrap_or(usize::MAX)
    }

    fn spare(&self) -> Duration {
        SPARE.min(self.settings.idle_after)
    }
}

/// What the name of every cell's instance begins with, and that of no other: a name of a directory has no dot in it.
pub(crate) const PREFIX: &str = "cell.";

/// Whether an instance of that name is a cell that the gateway has started.
#[must_use]
pub fn is_spawned(name: &str) -> bool {
    name.starts_with(PREFIX)
}

fn instance_name(name: &DirectoryName) -> Arc<str> {
    format!("{PREFIX}{}", name.as_str()).into()
}
