use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER},
};

use crate::{
    Clock, Denied, Deny, Dimension, Refusal, ResponseBody, StoreError, SystemClock, unix_ms::UnixMs,
};

// draft-ietf-httpapi-ratelimit-headers-11, sections 3 and 4.
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The largest integer of a structured field: RFC 9651, section 3.3.1.
const MAX_INTEGER: u64 = 999_999_999_999_999;

/// How long a client waits for a store that could not answer: long enough not to add to its trouble.
const STORE_RETRY_SECONDS: HeaderValue = HeaderValue::from_static("5");

const STORE_UNAVAILABLE: &str = concat!(
    r#"{"type":"about:blank","title":"Service Unavailable","status":503,"#,
    r#""detail":"Quota cannot be checked at the moment.","code":"quota_store_unavailable"}"#
);

/// Refuses over HTTP, in `application/problem+json` (RFC 9457).
///
/// | refusal | status | fields |
/// | --- | --- | --- |
/// | a limit does not leave enough | 429 | `Retry-After`, `RateLimit`, `RateLimit-Policy` |
/// | the store could not answer | 503 | `Retry-After` |
///
/// `Retry-After` is in whole seconds, at least one. The rate-limit fields are those of
/// [draft-ietf-httpapi-ratelimit-headers-11](https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/11/);
/// a number beyond what a structured field can hold is sent as the largest that it can. A refusal by quota has the
/// problem type `quota-exceeded` of the same draft, and the members `code`, `limit`, `used`, `reserved`, `unit` and
/// `reset` (RFC 3339).
///
/// A client is told nothing of why the store could not answer. The response carries it inside the server, as an
/// `Arc<StoreError>` in its extensions, for a layer outside to log: a refusal, and also what passed unmetered because
/// the layer is [open](crate::OnStoreFailure::Open).
#[derive(Clone)]
pub struct DenyHttp {
    clock: Arc<dyn Clock>,
}

// === impl DenyHttp ===

impl DenyHttp {
    /// Refuses with the system's clock.
    #[must_use]
    pub fn new() -> Self {
        Self {
            clock: Arc::new(SystemClock),
        }
    }

    /// Counts the time to wait by `clock`, which should be the store's.
    #[must_use]
    pub fn clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock }
    }
}

impl Default for DenyHttp {
    fn default() -> Self {
        Self::new()
    }
}

impl<ReqBody, ResBody> Deny<Request<ReqBody>, Response<ResBody>> for DenyHttp {
    type Response = Response<ResponseBody<ResBody>>;

    fn pass(&self, res: Response<ResBody>) -> Self::Response {
        res.map(ResponseBody::new)
    }

    fn deny(&self, _req: Request<ReqBody>, refusal: Refusal) -> Self::Response {
        match refusal {
            Refusal::Denied(denied) => {
                let wait = whole_seconds(denied.retry_after(self.clock.now()));
                let mut response = problem(StatusCode::TOO_MANY_REQUESTS, body(&denied));
                let headers = response.headers_mut();
                headers.insert(RETRY_AFTER, HeaderValue::from(wait));
                insert(headers, RATE_LIMIT, rate_limit(&denied, wait));
                insert(headers, RATE_LIMIT_POLICY, rate_limit_policy(&denied));
                response
            }
            Refusal::StoreUnavailable(error) => {
                let bytes = Bytes::from_static(STORE_UNAVAILABLE.as_bytes());
                let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, bytes);
                response
                    .headers_mut()
                    .insert(RETRY_AFTER, STORE_RETRY_SECONDS);
                response.extensions_mut().insert(Arc::new(error));
                response
            }
        }
    }

    fn pass_unmetered(&self, res: Response<ResBody>, error: StoreError) -> Self::Response {
        let mut response = res.map(ResponseBody::new);
        response.extensions_mut().insert(Arc::new(error));
        response
    }
}

impl fmt::Debug for DenyHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DenyHttp").finish_non_exhaustive()
    }
}

fn problem<B>(status: StatusCode, body: Bytes) -> Response<ResponseBody<B>> {
    let mut response = Response::new(ResponseBody::full(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Every value is a number or one of this crate's own words, so that nothing needs escaping.
fn body(denied: &Denied) -> Bytes {
    format!(
        concat!(
            r#"{{"type":"https://iana.org/assignments/http-problem-types#quota-exceeded","#,
            r#""title":"Quota exceeded","status":429,"detail":"{detail}","code":"{code}","#,
            r#""violated-policies":["{policy}"],"limit":{limit},"used":{used},"reserved":{reserved},"#,
            r#""unit":"{unit}","reset":"{reset}"}}"#
        ),
        detail = denied,
        code = denied.code(),
        policy = denied.limit_name(),
        limit = denied.limit(),
        used = denied.used(),
        reserved = denied.reserved(),
        unit = denied.dimension().unit(),
        reset = UnixMs::from(denied.resets_at()).timestamp(),
    )
    .into()
}

fn rate_limit(denied: &Denied, wait: u64) -> String {
    let remaining = denied.remaining().min(MAX_INTEGER);
    format!(r#""{}";r={remaining};t={wait}"#, denied.limit_name())
}

fn rate_limit_policy(denied: &Denied) -> String {
    let quota = denied.limit().min(MAX_INTEGER);
    let window = denied.period().length().as_secs();
    let unit = match denied.dimension() {
        Dimension::Calls => "requests",
        other => other.unit(),
    };
    format!(
        r#""{}";q={quota};qu="{unit}";w={window}"#,
        denied.limit_name()
    )
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: String) {
    // Always a header value: it is made of digits and of this crate's own words.
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

/// Rounded up, so that a client that obeys does not come too early.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs()
        .saturating_add(u64::from(wait.subsec_nanos() > 0))
        .max(1)
}
