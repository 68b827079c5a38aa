use tower_quota::{
    Charge, Demand, Denied, Deny, Dimension, QuotaPolicy, Refusal, StoreError, Window,
};
use tracing::warn;

use super::message::{RpcRequest, RpcResponse};
use crate::clock;
use crate::protocol::ErrorShape;

/// One call for a frame that starts a run. Tokens and cost are reserved at egress, model call by model call; here they
/// only must not be used up.
#[derive(Clone, Copy, Debug)]
pub struct RunCharge;

/// Refuses a frame in OpenClaw's own form.
#[derive(Clone, Copy, Debug)]
pub struct DenyFrame;

impl QuotaPolicy<RpcRequest> for RunCharge {
    fn charge(&self, req: &RpcRequest) -> Option<Charge> {
        let something_left = Demand { min: 1, want: 0 };
        req.frame.starts_run.then(|| {
            Charge::new(req.identity.user_id().clone())
                .exactly(Dimension::Calls, 1)
                .demand(Dimension::Tokens, something_left)
                .demand(Dimension::Cost, something_left)
        })
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
    match (denied.dimension(), denied.window()) {
        (Dimension::Tokens, Window::Month) => (
            "MONTHLY_TOKENS_EXCEEDED",
            format!("Monthly token limit exceeded ({used} / {limit} tokens)."),
        ),
        (Dimension::Tokens, _) => (
            "DAILY_TOKENS_EXCEEDED",
            format!("Daily token limit exceeded ({used} / {limit} tokens)."),
        ),
        (Dimension::Cost, Window::Month) => (
            "MONTHLY_COST_EXCEEDED",
            format!(
                "Monthly cost limit exceeded ({} / {}).",
                dollars(used),
                dollars(limit)
            ),
        ),
        (Dimension::Cost, _) => (
            "DAILY_COST_EXCEEDED",
            format!(
                "Daily cost limit exceeded ({} / {}).",
                dollars(used),
                dollars(limit)
            ),
        ),
        (Dimension::Calls, Window::Month) => (
            "API_CALLS_EXCEEDED",
            format!("Monthly call limit exceeded ({used} / {limit} calls)."),
        ),
        (Dimension::Calls, _) => (
            "API_CALLS_EXCEEDED",
            format!("Daily call limit exceeded ({used} / {limit} calls)."),
        ),
    }
}
