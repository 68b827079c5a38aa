//! What becomes of a cell from its start to its end.

use std::sync::Arc;

use rustix::process::Signal;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};
use tracing::{error, info, warn};

use super::cell::Cell;
use super::error::Failure;
use super::registry::Shared;
use super::start::Process;

/// So often in a row it may not answer until it is taken for one that never will: under load, OpenClaw is late.
const SILENT: u32 = 6;

// === impl Shared ===

impl Shared {
    /// Runs a cell for as long as somebody wants it; `process` is there already where another gateway has started it.
    pub(super) async fn live(self: Arc<Self>, cell: Arc<Cell>, mut process: Option<Process>) {
        loop {
            // Until it has ended it takes up what one takes up that runs.
            let Some(_place) = cell.unless_barred(self.places.acquire()).await else {
                cell.stopped();
                return;
            };
            let begun = Instant::now();
            let lived = self.live_once(&cell, process.take()).await;
            let Err((failure, since)) = lived else {
                info!(cell = &*cell.name, "cell was stopped");
                match cell.stopped() {
                    true => continue,
                    false => return,
                }
            };
            let why = failure.to_string();
            let (again, failures) = cell.failed(&why, since.map(|since| since.elapsed()));
            let after = begun.elapsed().as_secs();
            match failures {
                Some(failures) => error!(
                    cell = &*cell.name,
                    failures, "cell fails again and again: {why}"
                ),
                None => warn!(cell = &*cell.name, after, "cell failed: {why}"),
            }
            let result = if since.is_some() {
                "died"
            } else {
                "not_started"
            };
            metrics::counter!("gateway_cell_failures_total", "result" => result).increment(1);
            match again {
                // Barred, it is not started.
                Some(pause) => drop(cell.unless_barred(sleep(pause)).await),
                None => return,
            }
        }
    }

    /// Starts it, lets it run, and ends it. Failed: why, and since when it ran.
    async fn live_once(
        &self,
        cell: &Arc<Cell>,
        process: Option<Process>,
    ) -> Result<(), (Failure, Option<Instant>)> {
        let (mut process, turn) = match process {
            Some(process) => (process, None),
            None => {
                let Some(turn) = cell.unless_barred(self.starts.acquire()).await else {
                    return Ok(());
                };
                let process = self.start(cell).await.map_err(|why| (why, None))?;
                (process, turn.ok())
            }
        };
        let ready = cell.unless_barred(self.ready(cell, &mut process)).await;
        match ready {
            Some(Ok(())) => {}
            Some(Err(why)) => {
                self.end(cell, process).await;
                return Err((why, None));
            }
            None => {
                self.end(cell, process).await;
                return Ok(());
            }
        }
        drop(turn);
        let running = process.running(cell);
        let (instance, since) = (running.instance.clone(), running.since);
        if let Err(problem) = self.roster.join(&instance) {
            self.end(cell, process).await;
            return Err((Failure::Unusable(problem), None));
        }
        cell.set_running(running);
        info!(cell = &*cell.name, pid = process.id.pid, "cell is ready");
        let port = process.port.number();
        let failure = tokio::select! {
            ended = process.ended(&cell.dir) => Some(ended.without_words()),
            () = self.falls_silent(port) => Some(Failure::Hangs),
            () = cell.to_stop(self.settings.idle_after) => None,
        };
        if failure.is_none() {
            self.stop(cell, &mut process).await;
        }
        self.end(cell, process).await;
        self.roster.leave(&cell.name);
        match failure {
            Some(failure) => Err((failure, Some(since))),
            None => Ok(()),
        }
    }

    /// Tells it to stop, and waits until it has let its running turns finish.
    async fn stop(&self, cell: &Cell, process: &mut Process) {
        info!(cell = &*cell.name, pid = process.id.pid, "cell stops");
        if let Err(error) = process.id.signal(Signal::TERM) {
            warn!(cell = &*cell.name, %error, "cell cannot be told to stop");
            return;
        }
        let drained = timeout(self.limits.drain, process.ended(&cell.dir));
        tokio::select! {
            drained = drained => if drained.is_err() {
                warn!(cell = &*cell.name, "cell does not stop and is ended");
            },
            () = cell.barred() => {}
        }
    }

    /// Ends whatever is left of it.
    async fn end(&self, cell: &Cell, process: Process) {
        if let Err(error) = process.mark(&cell.dir).end().await {
            error!(cell = &*cell.name, %error, "processes of a cell are left");
        }
        let (dir, name) = (cell.dir.clone(), Arc::clone(&cell.name));
        let kept = spawn_blocking(move || {
            if let Err(error) = process.record.put_ended(&dir) {
                warn!(cell = &*name, %error, "the record of a cell cannot be changed");
            }
            drop(process.port);
        });
        let _ = kept.await;
    }

    /// Waits until what listens there says nothing any more.
    async fn falls_silent(&self, port: u16) {
        let ask = self.limits.ask;
        let mut silent = 0;
        while silent < SILENT {
            sleep(ask).await;
            silent = match timeout(ask, self.probe.is_ready(port)).await {
                Ok(Some(_)) => 0,
                Ok(None) | Err(_) => silent + 1,
            };
        }
    }
}
