use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Request, Response, StatusCode};
use tower_quota::{Denied, Deny, Refusal, ResponseBody, StoreError};
use tracing::warn;

use super::refusal::error;
use crate::clock;
use crate::config::ProviderKind;
use crate::rpc::exceeded;

/// By which the SDKs of OpenAI and Anthropic are told whether to try again.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Refuses a model call in the words that OpenClaw understands as they are meant: 429 with `Retry-After`, a code that
/// is not `insufficient_quota`, and a sentence that the person then reads. Any other answer disables the provider,
/// reads as a full context or is tried again (observed of OpenClaw 2026.9.6).
///
/// By Anthropic's API OpenClaw shows nothing of a refusal that has `Retry-After`, since it puts that behind the JSON that it
/// then cannot read any more. There the sentence alone says when: without "try again in" it would be tried again, or shown
/// as "API rate limit reached".
#[derive(Clone, Copy, Debug)]
pub struct DenyModelCall(pub ProviderKind);

/// Seconds after which a call that waits for others is worth another try.
const HELD_FOR: u64 = 5;

impl<B, R> Deny<Request<B>, Response<R>> for DenyModelCall {
    type Response = Response<ResponseBody<R>>;

    fn pass(&self, res: Response<R>) -> Self::Response {
        res.map(ResponseBody::new)
    }

    fn pass_unmetered(&self, res: Response<R>, error: StoreError) -> Self::Response {
        warn!(
            error = &error as &dyn std::error::Error,
            "quota store failed, a model call passed uncounted"
        );
        metrics::counter!("gateway_uncounted_total", "plane" => "egress").increment(1);
        res.map(ResponseBody::new)
    }

    fn deny(&self, _: Request<B>, refusal: Refusal) -> Self::Response {
        let (status, code, message, wait) = match refusal {
            Refusal::Denied(denied) if is_held(&denied) => {
                metrics::counter!("gateway_refusals_total", "plane" => "egress", "reason" => "quota_held").increment(1);
                let message = format!(
                    "Other calls hold what is left of this limit ({} of {} used). Try again in a moment.",
                    denied.used(),
                    denied.limit()
                );
                let code = "quota_in_use".to_owned();
                (StatusCode::TOO_MANY_REQUESTS, code, message, HELD_FOR)
            }
            Refusal::Denied(denied) => {
                metrics::counter!("gateway_refusals_total", "plane" => "egress", "reason" => "quota").increment(1);
                let (code, sentence) = exceeded(&denied);
                let resets = crate::api::rfc3339(denied.resets_at());
                let wait = denied.retry_after(clock::now()).as_secs().max(1);
                let message = format!(
                    "{sentence} The limit resets at {resets}. Try again in {}.",
                    in_words(wait)
                );
                (
                    StatusCode::TOO_MANY_REQUESTS,
                    code.to_ascii_lowercase(),
                    message,
                    wait,
                )
            }
            refusal => {
                warn!(?refusal, "quota store failed, a model call is refused");
                metrics::counter!("gateway_refusals_total", "plane" => "egress", "reason" => "quota_store").increment(1);
                let message = "Quotas cannot be checked right now.".to_owned();
                (
                    StatusCode::SERVICE_UNAVAILABLE,
                    "quota_unavailable".to_owned(),
                    message,
                    2,
                )
            }
        };
        let body = error(self.0, status, &code, &message);
        let mut response = Response::new(ResponseBody::full(Bytes::from(body.to_string())));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match (self.0, status) {
            (ProviderKind::Anthropic, StatusCode::TOO_MANY_REQUESTS) if wait > HELD_FOR => {
                headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
            }
            _ => {
                headers.insert(RETRY_AFTER, HeaderValue::from(wait));
            }
        }
        response
    }
}

/// Whether nothing but calls in flight stand in the way: most of what they hold is given back when they end.
const fn is_held(denied: &Denied) -> bool {
    denied.used() < denied.limit() && denied.reserved() > 0
}

/// Seconds in the largest unit of which there are at least two, rounded up.
fn in_words(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} seconds"),
        120..=7_199 => format!("{} minutes", seconds.div_ceil(60)),
        _ => format!("{} hours", seconds.div_ceil(3_600)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_in_words_is_never_too_short() {
        for (seconds, words) in [
            (1, "1 seconds"),
            (119, "119 seconds"),
            (121, "3 minutes"),
            (7_200, "2 hours"),
            (86_399, "24 hours"),
        ] {
            assert_eq!(in_words(seconds), words);
        }
    }
}
