use std::fmt;
use std::sync::Arc;

use tower_quota::Reservation;
use tower_sso::Identity;
use tower_usage::{
    Begun, Full, NanoUsd, Opened, Operation, Outcome, Place, Sink, Source, UsageMeter, UsageRecord,
};

use super::message::{RpcRequest, RpcResponse};
use crate::clock;
use crate::counters::UNRESERVED;
use crate::protocol::ErrorShape;

/// Records the runs that frames start, and requests over HTTP. What a run takes in tokens and money is recorded at egress.
#[derive(Clone)]
pub struct RunMeter {
    sink: Arc<dyn Sink>,
}

/// A run that somebody asked for: its place in the ledger and what was set aside for it.
///
/// Only an answer that says that no run was started gives both back. Dropped without an answer, because the client or
/// the instance is gone, the run is recorded: it goes on without its connection.
#[derive(Debug)]
pub struct RunTap(Option<Asked>);

#[derive(Debug)]
struct Asked {
    place: Place,
    reservation: Option<Reservation>,
    record: UsageRecord,
}

// === impl RunMeter ===

impl RunMeter {
    /// A meter that records into `sink`.
    #[must_use]
    pub fn new(sink: Arc<dyn Sink>) -> Self {
        Self { sink }
    }

    /// Takes the place of a run that somebody asks for.
    pub(crate) fn ask(
        &self,
        identity: &Identity,
        run_id: Option<Arc<str>>,
        session_key: Option<Arc<str>>,
        reservation: Option<Reservation>,
    ) -> Opened<RunTap> {
        let place = match Place::take(Arc::clone(&self.sink)) {
            Ok(place) => place,
            Err(full) => return Opened::Full(full),
        };
        let mut record = UsageRecord::new(identity.user_id().clone(), Operation::Run);
        record.admitted_at = clock::now();
        record.run_id = run_id;
        record.session_key = session_key;
        // A run costs nothing by itself: its model calls do, each with a record of its own.
        record.cost = Some(NanoUsd::ZERO);
        Opened::Metered(RunTap(Some(Asked {
            place,
            reservation,
            record,
        })))
    }
}

impl fmt::Debug for RunMeter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunMeter").finish_non_exhaustive()
    }
}

impl UsageMeter<RpcRequest, RpcResponse> for RunMeter {
    type Tap = RunTap;
    type Response = RpcResponse;

    fn open(&self, req: &RpcRequest) -> Opened<RunTap> {
        if !req.frame.starts_run() {
            return Opened::Unmetered;
        }
        let session_key = req
            .workspace
            .as_ref()
            .and_then(|workspace| req.frame.session_of(workspace.slot()?))
            .map(Arc::from);
        let (run_id, reservation) = (req.frame.run_id().cloned(), req.reservation.clone());
        self.ask(&req.identity, run_id, session_key, reservation)
    }

    fn begin(&self, tap: &mut RunTap) -> Begun {
        tap.begin()
    }

    fn withdraw(&self, tap: RunTap) {
        tap.not_started();
    }

    fn observe(&self, tap: Option<RunTap>, res: RpcResponse) -> RpcResponse {
        if let Some(mut tap) = tap {
            match &res.started_run {
                Some(run) => tap.started(run.clone().into_id()),
                None => tap.not_started(),
            }
        }
        res
    }

    fn refuse(&self, req: RpcRequest, _: Full) -> RpcResponse {
        metrics::counter!("gateway_refusals_total", "plane" => "ingress", "reason" => "ledger_full").increment(1);
        req.refuse(&ErrorShape::unavailable(
            "usage cannot be recorded right now",
            2_000,
        ))
    }
}

// === impl RunTap ===

impl RunTap {
    /// Keeps the run before it is asked for.
    pub(crate) fn begin(&mut self) -> Begun {
        let Some(asked) = &mut self.0 else {
            return Begun::ready(Ok(()));
        };
        asked.record.settle_ref = Some(match &asked.reservation {
            Some(reservation) => {
                let ticket = reservation.ticket();
                asked.record.admitted_at = ticket.admitted_at();
                ticket.to_string().into()
            }
            None => UNRESERVED.into(),
        });
        // Should nobody be there to say how it ended: a run that was asked for and, as far as is known, made.
        let mut begun = asked.record.clone();
        begun.source = Source::Estimated;
        begun.outcome = Outcome::Aborted;
        asked.place.begin(&begun)
    }

    /// No run was started: gives back its place and what was set aside.
    pub(crate) fn not_started(mut self) {
        drop(self.0.take());
    }

    /// The run was started; its id, if that is known.
    pub(crate) fn started(&mut self, run_id: Option<Arc<str>>) {
        let Some(Asked {
            place,
            reservation,
            mut record,
        }) = self.0.take()
        else {
            return;
        };
        if run_id.is_some() {
            record.run_id = run_id;
        }
        if let Some(reservation) = &reservation {
            let ticket = reservation.hand_over();
            if record.settle_ref.is_none() {
                record.admitted_at = ticket.admitted_at();
                record.settle_ref = Some(ticket.to_string().into());
            }
        }
        metrics::counter!("gateway_runs_total").increment(1);
        place.record(record);
    }
}

impl Drop for RunTap {
    fn drop(&mut self) {
        self.started(None);
    }
}
