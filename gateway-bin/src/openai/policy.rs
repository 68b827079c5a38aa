//! The layers' policies for runs that are asked for over HTTP.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use http::{Request, Response, StatusCode};
use http_body_util::{Either, Full as FullBody};
use tower_quota::{Charge, Deny, DenyHttp, QuotaPolicy, Refusal as QuotaRefusal, StoreError};
use tower_sso::{Identity, Reject, Rejection};
use tower_usage::{Begun, Full, Opened, UsageMeter};
use tower_workspace::{Bind, ResolveError, Workspace};
use tracing::warn;

use super::body::RunBody;
use super::call::RunCall;
use super::refusal::Refusal;
use crate::rpc::{RunCharge, RunMeter, RunTap, exceeded};

/// By which OpenAI's SDKs are told whether to try again.
pub(super) const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Longest wait that an SDK keeps to by itself; before a longer one it tries again at once.
const MAX_WAIT: u64 = 60;

/// In the extensions of an answer: no run was started, and nothing is to be counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct NotStarted;

/// Puts the workspace of whoever asks into their run.
#[derive(Clone, Copy, Debug)]
pub struct BindRun;

/// Refuses a run by quota: 429 with when to come again, and the fields of `RateLimit`.
#[derive(Clone, Copy, Debug)]
pub struct DenyRun;

/// Refuses who is not signed in.
#[derive(Clone, Copy, Debug)]
pub struct RejectRun;

fn identity_of(req: &Request<RunCall>) -> Option<&Arc<Identity>> {
    req.extensions().get()
}

fn refused(reason: &'static str) {
    metrics::counter!("gateway_refusals_total", "plane" => "ingress", "reason" => reason)
        .increment(1);
}

// === impl BindRun ===

impl<R> Bind<Request<RunCall>, Response<R>> for BindRun {
    type Response = Response<tower_workspace::ResponseBody<R>>;

    fn user_id(&self, req: &Request<RunCall>) -> Option<Arc<str>> {
        identity_of(req).map(|identity| Arc::clone(identity.user_id()))
    }

    fn bind(&self, workspace: Arc<Workspace>, req: &mut Request<RunCall>) {
        req.extensions_mut().insert(workspace);
    }

    fn pass(&self, res: Response<R>) -> Self::Response {
        res.map(tower_workspace::ResponseBody::new)
    }

    fn reject(&self, _: Request<RunCall>, error: ResolveError) -> Self::Response {
        let refusal = match &error {
            ResolveError::Starting { .. } | ResolveError::Unavailable { .. } => {
                let wait = error.retry_after().map_or(2, |wait| wait.as_secs().max(1));
                Refusal::unavailable("Your workspace is not available right now.", wait)
            }
            _ => Refusal::new(
                StatusCode::FORBIDDEN,
                "workspace_missing",
                "You have no workspace here yet.",
            ),
        };
        refusal.into_response(tower_workspace::ResponseBody::full)
    }
}

// === impl RunCharge ===

impl QuotaPolicy<Request<RunCall>> for RunCharge {
    fn charge(&self, req: &Request<RunCall>) -> Option<Charge> {
        identity_of(req).map(|identity| self.of_run(identity))
    }
}

// === impl DenyRun ===

impl<R> Deny<Request<RunCall>, Response<R>> for DenyRun {
    type Response = Response<tower_quota::ResponseBody<R>>;

    fn pass(&self, res: Response<R>) -> Self::Response {
        res.map(tower_quota::ResponseBody::new)
    }

    fn pass_unmetered(&self, res: Response<R>, error: StoreError) -> Self::Response {
        warn!(
            error = &error as &dyn std::error::Error,
            "quota store failed, a run passed uncounted"
        );
        metrics::counter!("gateway_uncounted_total", "plane" => "ingress").increment(1);
        res.map(tower_quota::ResponseBody::new)
    }

    fn deny(&self, req: Request<RunCall>, refusal: QuotaRefusal) -> Self::Response {
        let QuotaRefusal::Denied(denied) = refusal else {
            warn!(?refusal, "quota store failed, a run is refused");
            refused("quota_store");
            let refusal = Refusal::unavailable("Quotas cannot be checked right now.", 2);
            return refusal.into_response(tower_quota::ResponseBody::full);
        };
        refused("quota");
        let (code, sentence) = exceeded(&denied);
        let resets = crate::api::rfc3339(denied.resets_at());
        let sentence = format!("{sentence} The limit resets at {resets}.");
        let status = StatusCode::TOO_MANY_REQUESTS;
        let ours = Refusal::new(status, code.to_ascii_lowercase(), sentence);
        let wait = denied.retry_after(crate::clock::now()).as_secs();
        // The fields of the standards, and our words in the form that the client knows.
        let mut response: Self::Response = DenyHttp::new().deny(req, QuotaRefusal::Denied(denied));
        *response.body_mut() = tower_quota::ResponseBody::full(ours.text().into());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if wait > MAX_WAIT {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        response
    }
}

// === impl RunMeter ===

impl<R> UsageMeter<Request<RunCall>, Response<R>> for RunMeter {
    type Tap = RunTap;
    type Response = Response<RunBody<R>>;

    fn open(&self, req: &Request<RunCall>) -> Opened<RunTap> {
        let Some(identity) = identity_of(req) else {
            return Opened::Unmetered;
        };
        let workspace: Option<&Arc<Workspace>> = req.extensions().get();
        let session_key = workspace.and_then(|workspace| req.body().session_of(workspace.slot()?));
        let session_key = session_key.map(Arc::from);
        let reservation = req.extensions().get().cloned();
        self.ask(identity, None, session_key, reservation)
    }

    fn begin(&self, tap: &mut RunTap) -> Begun {
        tap.begin()
    }

    fn withdraw(&self, tap: RunTap) {
        tap.not_started();
    }

    fn observe(&self, tap: Option<RunTap>, res: Response<R>) -> Self::Response {
        let is_started = res.extensions().get::<NotStarted>().is_none();
        let tap = match tap {
            Some(tap) if !is_started => {
                tap.not_started();
                None
            }
            tap => tap,
        };
        res.map(|body| RunBody::new(body, tap))
    }

    fn refuse(&self, _: Request<RunCall>, _: Full) -> Self::Response {
        refused("ledger_full");
        let refusal = Refusal::unavailable("Usage cannot be recorded right now.", 2);
        refusal.into_response(RunBody::full)
    }
}

// === impl RejectRun ===

impl<B, R> Reject<Request<B>, Response<R>> for RejectRun {
    type Response = Response<Either<R, FullBody<Bytes>>>;

    fn pass(&self, response: Response<R>) -> Self::Response {
        response.map(Either::Left)
    }

    fn reject(&self, _: Request<B>, rejection: Rejection) -> Self::Response {
        refused("unauthorized");
        let refusal = match rejection {
            Rejection::Unavailable => {
                Refusal::unavailable("Sign-in cannot be checked right now.", 2)
            }
            Rejection::MissingToken => unauthorized(
                "Sign in first: with an access token or a personal access token as `Authorization: Bearer …`.",
            ),
            _ => unauthorized("This token is not good here."),
        };
        let is_unauthorized = refusal.status == StatusCode::UNAUTHORIZED;
        let mut response = refusal.into_response(|text| Either::Right(FullBody::new(text)));
        if is_unauthorized {
            // RFC 9110 §15.5.2 wants one in each 401.
            let challenge = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

pub(super) fn unauthorized(message: &'static str) -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message)
}
