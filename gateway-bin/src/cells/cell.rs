//! One person's cell, as everybody who asks for it sees it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::backoff::Backoff;
use super::directory::CellDir;
use super::process::ProcessId;
use crate::config::Instance;

/// A cell, whether it runs or not.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) user_id: Arc<str>,
    /// Of the instance that it is.
    pub(super) name: Arc<str>,
    pub(super) dir: CellDir,
    state: Mutex<State>,
    /// Something is otherwise than it was.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    status: Status,
    /// How many use it.
    uses: usize,
    /// When somebody last did.
    used: Instant,
    /// Whether somebody came while it stopped.
    is_wanted: bool,
    /// It is being removed: nobody gets it, and it is not asked whether it has something to finish.
    is_barred: bool,
    backoff: Backoff,
    /// What went wrong last.
    failure: Option<Arc<str>>,
}

/// What a cell does.
#[derive(Clone, Debug)]
pub(super) enum Status {
    Off,
    Starting,
    Running(Arc<Running>),
    Stopping,
}

/// A cell that can be used.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) instance: Instance,
    pub(super) process: ProcessId,
    pub(super) os_user: Option<u32>,
    pub(super) since: Instant,
}

/// What somebody finds who comes.
pub(super) enum Visit {
    Running(Arc<Running>),
    /// It is being started, or will be.
    Coming,
    /// It failed and is left alone for a while.
    Failing {
        failures: Option<u32>,
        pause: Duration,
    },
    Off,
}

/// That a cell is used: it is not stopped for want of use as long as this is held.
#[derive(Debug)]
pub struct InUse {
    cell: Arc<Cell>,
}

/// What is known of a cell at a time.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) status: Status,
    pub(super) uses: usize,
    pub(super) unused_for: Duration,
    pub(super) is_wanted: bool,
    pub(super) failure: Option<Arc<str>>,
}

// === impl Cell ===

impl Cell {
    pub(super) fn new(user_id: Arc<str>, name: Arc<str>, dir: CellDir) -> Self {
        Self {
            user_id,
            name,
            dir,
            state: Mutex::new(State {
                status: Status::Off,
                uses: 0,
                used: Instant::now(),
                is_wanted: false,
                is_barred: false,
                backoff: Backoff::default(),
                failure: None,
            }),
            changed: Notify::new(),
        }
    }

    /// Somebody comes.
    pub(super) fn visit(&self) -> Visit {
        let mut state = self.state();
        state.used = Instant::now();
        if state.is_barred {
            return Visit::Coming;
        }
        match &state.status {
            Status::Running(running) => Visit::Running(Arc::clone(running)),
            Status::Starting => Visit::Coming,
            Status::Stopping => {
                state.is_wanted = true;
                Visit::Coming
            }
            Status::Off => match state.backoff.pause() {
                Some(pause) => Visit::Failing {
                    failures: state.backoff.in_a_loop(),
                    pause,
                },
                None => Visit::Off,
            },
        }
    }

    /// Somebody uses it from now on, if it runs.
    pub(super) fn enter(self: &Arc<Self>) -> Option<InUse> {
        let mut state = self.state();
        matches!(state.status, Status::Running(_)).then(|| {
            state.uses += 1;
            state.used = Instant::now();
            InUse {
                cell: Arc::clone(self),
            }
        })
    }

    /// It does something for its user now.
    pub(super) fn touch(&self) {
        self.state().used = Instant::now();
    }

    pub(super) fn seen(&self) -> Seen {
        let state = self.state();
        Seen {
            status: state.status.clone(),
            uses: state.uses,
            unused_for: state.used.elapsed(),
            is_wanted: state.is_wanted,
            failure: state.failure.clone(),
        }
    }

    pub(super) fn set_starting(&self) {
        let mut state = self.state();
        state.status = Status::Starting;
        state.is_wanted = false;
    }

    pub(super) fn set_running(&self, running: Running) {
        let mut state = self.state();
        state.status = Status::Running(Arc::new(running));
        // Whoever it was started for asks again now.
        state.used = Instant::now();
    }

    /// It stops if it runs, nobody uses it, and nobody has for so long; whether it does.
    pub(super) fn stop_unused(&self, idle: Duration) -> bool {
        let mut state = self.state();
        let is_unused = state.uses == 0 && state.used.elapsed() >= idle;
        let stops = is_unused && matches!(state.status, Status::Running(_));
        if stops {
            state.status = Status::Stopping;
            self.changed.notify_one();
        }
        stops
    }

    /// Waits until it is to stop, because nobody has used it for so long or there is no room for it.
    pub(super) async fn to_stop(&self, idle: Duration) {
        loop {
            if self.stop_unused(idle) || matches!(self.state().status, Status::Stopping) {
                return;
            }
            let left = {
                let state = self.state();
                // Whoever stops using it says so.
                (state.uses == 0).then(|| idle.saturating_sub(state.used.elapsed()))
            };
            tokio::select! {
                () = sleep(left.unwrap_or(idle)) => {}
                () = self.changed.notified() => {}
            }
        }
    }

    /// Nobody gets it from now on, or does again. It stops if it runs; whether there is nothing of it.
    pub(super) fn set_barred(&self, is_barred: bool) -> bool {
        let mut state = self.state();
        state.is_barred = is_barred;
        state.is_wanted = false;
        if is_barred && matches!(state.status, Status::Running(_)) {
            state.status = Status::Stopping;
        }
        self.changed.notify_one();
        matches!(state.status, Status::Off)
    }

    /// Does something of a cell that does not run, unless that is removed meanwhile.
    pub(super) async fn unless_barred<F: Future>(&self, something: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            () = self.barred() => None,
            done = something => Some(done),
        }
    }

    /// Waits until it is not to finish what it does.
    pub(super) async fn barred(&self) {
        while !self.state().is_barred {
            self.changed.notified().await;
        }
    }

    /// It has been stopped; whether it is to be started again.
    pub(super) fn stopped(&self) -> bool {
        let mut state = self.state();
        state.backoff.ended_well();
        state.failure = None;
        let again = std::mem::take(&mut state.is_wanted);
        state.status = if again { Status::Starting } else { Status::Off };
        again
    }

    /// It has failed, after it ran for so long: when it is to be started again, if somebody wants it. How often it has
    /// failed, if that is often.
    pub(super) fn failed(
        &self,
        why: &str,
        ran: Option<Duration>,
    ) -> (Option<Duration>, Option<u32>) {
        let mut state = self.state();
        let pause = state.backoff.failed(ran.unwrap_or_default());
        state.failure = Some(why.into());
        // One that cannot be started waits for somebody to come.
        let is_wanted = state.uses > 0 || state.is_wanted;
        let again = ran.is_some() && is_wanted && !state.is_barred;
        state.is_wanted = false;
        state.status = if again { Status::Starting } else { Status::Off };
        (again.then_some(pause), state.backoff.in_a_loop())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl InUse ===

impl Drop for InUse {
    fn drop(&mut self) {
        let mut state = self.cell.state();
        state.uses = state.uses.saturating_sub(1);
        state.used = Instant::now();
        self.cell.changed.notify_one();
    }
}

// === impl Seen ===

impl Seen {
    /// Whether it takes one of the places that there are, now or when it has stopped.
    pub(super) fn has_place(&self) -> bool {
        match self.status {
            Status::Off => false,
            Status::Stopping => self.is_wanted,
            Status::Starting | Status::Running(_) => true,
        }
    }
}
