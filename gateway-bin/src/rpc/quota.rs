use tower_quota::{
    Charge, Demand, Denied, Deny, Dimension, QuotaPolicy, Refusal, StoreError, Window,
};
use tower_sso::Identity;
use tracing::warn;

use super::message::{RpcRequest, RpcResponse};
use crate::clock;
use crate::protocol::ErrorShape;

/// One call for a frame, or a request over HTTP, that starts a run. Tokens and cost are reserved at egress, model call by model call; here they
/// only must not be used up.
///
/// OpenClaw's page shows a refusal as a tooltip, but what egress says in the conversation: its runs begin also when
/// tokens or cost are used up, and end with their first model call. Where the instance calls its providers itself nobody
/// refuses that: there the page's runs are like all others.
#[derive(Clone, Copy, Debug)]
pub struct RunCharge {
    is_page: bool,
}

/// Refuses a frame in OpenClaw's own form.
#[derive(Clone, Copy, Debug)]
pub struct DenyFrame;

// === impl RunCharge ===

impl RunCharge {
    /// A charge for the runs of one socket; `is_page` is whether its client says that it is OpenClaw's page. Who says so
    /// and is not gains nothing: egress refuses all the same.
    #[must_use]
    pub const fn new(is_page: bool) -> Self {
        Self { is_page }
    }

    /// The charge of one run.
    pub(crate) fn of_run(&self, identity: &Identity) -> Charge {
        let something_left = match self.is_page {
            true => Demand::default(),
            false => Demand::something_left(),
        };
        Charge::new(identity.user_id().clone())
            .exactly(Dimension::Calls, 1)
            .demand(Dimension::Tokens, something_left)
            .demand(Dimension::Cost, something_left)
    }
}

impl QuotaPolicy<RpcRequest> for RunCharge {
    fn charge(&self, req: &RpcRequest) -> Option<Charge> {
        req.frame.starts_run().then(|| self.of_run(&req.identity))
    }
}

impl Deny<RpcRequest, RpcResponse> for DenyFrame {
    type Response = RpcResponse;

    fn pass(&self, res: RpcResponse) -> RpcResponse {
        res
    }

    fn pass_unmetered(&self, res: RpcResponse, error: StoreError) -> RpcResponse {
        warn!(
            error = &error as &dyn std::error::Error,
            "quota store failed, a frame passed uncounted"
        );
        metrics::counter!("gateway_uncounted_total", "plane" => "ingress").increment(1);
        res
    }

    fn deny(&self, req: RpcRequest, refusal: Refusal) -> RpcResponse {
        let error = match refusal {
            Refusal::Denied(denied) => {
                metrics::counter!("gateway_refusals_total", "plane" => "ingress", "reason" => "quota").increment(1);
                frame_error(&denied)
            }
            refusal => {
                warn!(?refusal, "quota store failed, a frame is refused");
                metrics::counter!("gateway_refusals_total", "plane" => "ingress", "reason" => "quota_store").increment(1);
                ErrorShape::unavailable("quotas cannot be checked right now", 2_000)
            }
        };
        req.refuse(&error)
    }
}

fn frame_error(denied: &Denied) -> ErrorShape {
    let (code, sentence) = exceeded(denied);
    let wait = denied.retry_after(clock::now());
    let mut error = ErrorShape::new(code, sentence);
    error.retry_after_ms = Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    error.details = Some(serde_json::json!({
        "quota": code,
        "used": denied.used(),
        "limit": denied.limit(),
        "resetsAt": crate::api::rfc3339(denied.resets_at()),
    }));
    error
}

/// The code of a refusal, and the sentence that a person reads; the same at a frame and at egress.
#[must_use]
pub fn exceeded(denied: &Denied) -> (&'static str, String) {
    let (used, limit) = (denied.used(), denied.limit());
    let dollars = |nanos: u64| {
        let amount = tower_usage::NanoUsd::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX));
        format!("${amount}")
    };
    let window = match denied.window() {
        Window::Minute => "Minutely",
        Window::Hour => "Hourly",
        Window::Month => "Monthly",
        _ => "Daily",
    };
    let code = match (denied.dimension(), denied.window()) {
        (Dimension::Tokens, Window::Minute) => "MINUTELY_TOKENS_EXCEEDED",
        (Dimension::Tokens, Window::Hour) => "HOURLY_TOKENS_EXCEEDED",
        (Dimension::Tokens, Window::Month) => "MONTHLY_TOKENS_EXCEEDED",
        (Dimension::Tokens, _) => "DAILY_TOKENS_EXCEEDED",
        (Dimension::Cost, Window::Minute) => "MINUTELY_COST_EXCEEDED",
        (Dimension::Cost, Window::Hour) => "HOURLY_COST_EXCEEDED",
        (Dimension::Cost, Window::Month) => "MONTHLY_COST_EXCEEDED",
        (Dimension::Cost, _) => "DAILY_COST_EXCEEDED",
        (Dimension::Calls, _) => "API_CALLS_EXCEEDED",
    };
    let sentence = match denied.dimension() {
        Dimension::Tokens => format!("{window} token limit exceeded ({used} / {limit} tokens)."),
        Dimension::Cost => {
            let (used, limit) = (dollars(used), dollars(limit));
            format!("{window} cost limit exceeded ({used} / {limit}).")
        }
        Dimension::Calls => format!("{window} call limit exceeded ({used} / {limit} calls)."),
    };
    (code, sentence)
}
