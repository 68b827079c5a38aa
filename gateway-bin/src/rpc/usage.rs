use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use tower_quota::Reservation;
use tower_usage::{Full, NanoUsd, Opened, Operation, Place, Sink, UsageMeter, UsageRecord};

use super::message::{RpcRequest, RpcResponse};
use crate::clock;
use crate::environment::agent_id;
use crate::protocol::ErrorShape;

/// Records the runs that frames start. What a run takes in tokens and money is recorded at egress.
#[derive(Clone)]
pub struct RunMeter {
    sink: Arc<dyn Sink>,
}

/// A run that may start: its place in the ledger and what was set aside for it. Dropped without a run, both are given
/// back.
#[derive(Debug)]
pub struct RunTap {
    place: Place,
    reservation: Option<Reservation>,
    subject: Arc<str>,
    session_key: Option<Arc<str>>,
    admitted_at: SystemTime,
}

// === impl RunMeter ===

impl RunMeter {
    /// A meter that records into `sink`.
    #[must_use]
    pub fn new(sink: Arc<dyn Sink>) -> Self {
        Self { sink }
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
        if !req.frame.method.starts_run {
            return Opened::Unmetered;
        }
        let place = match Place::take(Arc::clone(&self.sink)) {
            Ok(place) => place,
            Err(full) => return Opened::Full(full),
        };
        let session_key = req
            .workspace
            .as_ref()
            .and_then(|workspace| req.frame.session_of(&agent_id(workspace)))
            .map(Arc::from);
        Opened::Metered(RunTap {
            place,
            reservation: req.reservation.clone(),
            subject: req.identity.user_id().clone(),
            session_key,
            admitted_at: clock::now(),
        })
    }

    fn observe(&self, tap: Option<RunTap>, res: RpcResponse) -> RpcResponse {
        if let (Some(tap), Some(run_id)) = (tap, &res.started_run) {
            tap.record(Arc::clone(run_id));
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
    fn record(self, run_id: Arc<str>) {
        let mut record = UsageRecord::new(self.subject, Operation::Run);
        record.admitted_at = self.admitted_at;
        record.run_id = Some(run_id);
        record.session_key = self.session_key;
        // A run costs nothing by itself: its model calls do, each with a record of its own.
        record.cost = Some(NanoUsd::ZERO);
        if let Some(reservation) = &self.reservation {
            let ticket = reservation.hand_over();
            record.admitted_at = ticket.admitted_at();
            record.settle_ref = Some(ticket.to_string().into());
        }
        metrics::counter!("gateway_runs_total").increment(1);
        self.place.record(record);
    }
}
