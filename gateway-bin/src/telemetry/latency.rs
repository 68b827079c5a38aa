use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, Method, StatusCode};
use metrics::{Histogram, histogram};
use tokio::time::Instant;

use super::context;
use super::trace::{Role, Span, TraceParent};

/// How long requests take on a plane; clones share it.
#[derive(Clone)]
pub struct Latency {
    plane: &'static str,
    known: Arc<RwLock<HashMap<Arc<str>, OfRoute>>>,
}

/// The requests of a route, by method and class of status, as far as there were any.
type OfRoute = [[Option<Histogram>; CLASSES.len()]; METHODS.len()];

/// How long it takes to open a socket, from its `connect` on. One that is dropped before it is open has failed.
#[derive(Debug)]
#[must_use = "dropped, it has failed"]
pub struct Connecting {
    since: Instant,
    is_open: bool,
}

/// What a path is called that is none of ours.
const NO_ROUTE: &str = "other";

/// What a method is called that no route has comes last.
const METHODS: [&str; 8] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other",
];

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Times a request until the head of its answer, and makes a span of it.
pub async fn timed(State(latency): State<Latency>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let method = method(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut span = begin(request.headers());
    let response = next.run(request).await;
    let route = route.as_ref().map_or(NO_ROUTE, MatchedPath::as_str);
    describe(&mut span, route, method, response.status());
    latency.record(route, method, response.status(), begun);
    response
}

/// The span of a request to us, on behalf of which everything is done from now on.
pub(crate) fn begin(headers: &HeaderMap) -> Span {
    if Span::is_off() {
        return Span::NONE;
    }
    let span = Span::begin("request", Role::Server, TraceParent::of(headers));
    context::set_trace(span.context());
    span
}

/// Says what a request to us was, as OpenTelemetry's conventions for HTTP call it.
fn describe(span: &mut Span, route: &str, method: usize, status: StatusCode) {
    let method = METHODS.get(method).copied().unwrap_or("other");
    span.rename(|| format!("{method} {route}"));
    span.text("http.request.method", || method);
    span.text("http.route", || route.to_owned());
    span.number("http.response.status_code", i64::from(status.as_u16()));
    if let Some(current) = context::current() {
        span.text("gateway.request", || format!("{:032x}", current.request()));
        if let Some(user) = current.user() {
            span.text("enduser.pseudo.id", || user.to_string());
        }
    }
    if status.is_server_error() {
        span.fail("answered by an error of ours");
    }
}

fn method(method: &Method) -> usize {
    let other = METHODS.len() - 1;
    let mut known = METHODS.iter().take(other);
    known
        .position(|known| *known == method.as_str())
        .unwrap_or(other)
}

fn class(status: StatusCode) -> usize {
    usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1
}

// === impl Latency ===

impl Latency {
    /// Times requests of a plane.
    #[must_use]
    pub fn new(plane: &'static str) -> Self {
        Self {
            plane,
            known: Arc::default(),
        }
    }

    /// A request to a route, which is none of the client's words, came at `begun` and has been answered; `span` is its.
    pub fn answered(
        &self,
        mut span: Span,
        route: Option<&'static str>,
        asked: &Method,
        status: StatusCode,
        begun: Instant,
    ) {
        let (route, method) = (route.unwrap_or(NO_ROUTE), method(asked));
        describe(&mut span, route, method, status);
        self.record(route, method, status, begun);
    }

    fn record(&self, route: &str, method: usize, status: StatusCode, begun: Instant) {
        let class = class(status);
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let histogram = known
            .get(route)
            .and_then(|of| of.get(method)?.get(class)?.as_ref());
        if let Some(histogram) = histogram {
            return histogram.record(begun.elapsed());
        }
        drop(known);
        let (Some(method_name), Some(class_name)) = (METHODS.get(method), CLASSES.get(class))
        else {
            return;
        };
        let histogram = histogram!(
            "gateway_request_seconds",
            "plane" => self.plane, "route" => route.to_owned(), "method" => *method_name, "status" => *class_name,
        );
        histogram.record(begun.elapsed());
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let of = known.entry(route.into()).or_default();
        if let Some(place) = of.get_mut(method).and_then(|of| of.get_mut(class)) {
            *place = Some(histogram);
        }
    }
}

impl fmt::Debug for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latency")
            .field("plane", &self.plane)
            .finish_non_exhaustive()
    }
}

// === impl Connecting ===

impl Connecting {
    /// A `connect` has come.
    pub fn begin() -> Self {
        Self {
            since: Instant::now(),
            is_open: false,
        }
    }

    /// The socket is open.
    pub fn opened(mut self) {
        self.is_open = true;
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        let outcome = if self.is_open { "opened" } else { "failed" };
        histogram!("gateway_connect_seconds", "outcome" => outcome).record(self.since.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn_with_state;
    use axum::routing::get;
    use metrics::with_local_recorder;
    use tower::ServiceExt;
    use tower_sso::{Identity, Reason, Verify, VerifyFuture};

    use super::*;
    use crate::telemetry::{RecentPeople, Verifications, recorder};

    /// As many people as anybody has. Each asks for something of their own, by a method of their own, with a
    /// credential of their own.
    const PEOPLE: usize = 1_000_000;

    #[derive(Debug)]
    struct Everybody;

    impl Verify for Everybody {
        fn verify(&self, token: &str) -> VerifyFuture {
            VerifyFuture::ready(match token.len() % 2 {
                0 => Ok(Arc::new(Identity::builder("issuer", token).build())),
                _ => Err(Reason::Signature.into()),
            })
        }
    }

    #[test]
    fn d8_72_a_million_people_make_no_series() {
        let recorder = recorder().unwrap();
        let handle = recorder.handle();
        let series = || {
            let text = handle.render();
            assert!(!text.contains("person-"), "{text}");
            text.lines()
                .filter(|line| !line.starts_with('#') && !line.is_empty())
                .count()
        };
        with_local_recorder(&recorder, || {
            let latency = Latency::new("public");
            let verifier = Verifications::new("people", Everybody).telling(RecentPeople::new());
            let begun = Instant::now();
            let come = |n: usize| {
                let method = match n % 30 {
                    0 => Method::GET,
                    10 => Method::POST,
                    _ => Method::from_bytes(format!("PERSON-{n}").as_bytes()).unwrap(),
                };
                let status =
                    StatusCode::from_u16(200 + u16::try_from(n / 10 % 400).unwrap()).unwrap();
                drop(verifier.verify(&format!("person-{n}")));
                // What they ask for is no part of any label; a tenth of them is as good as all.
                if n.is_multiple_of(10) {
                    latency.answered(Span::NONE, None, &method, status, begun);
                    Connecting::begin().opened();
                }
            };
            (0..20_000).for_each(come);
            let before = series();
            (0..PEOPLE).for_each(come);
            assert_eq!(series(), before);
        });
    }

    #[tokio::test]
    async fn a_request_is_known_by_its_pattern_and_by_nothing_of_its_own() {
        let recorder = recorder().unwrap();
        let handle = recorder.handle();
        let latency = Latency::new("public");
        let routes = Router::new()
            .route("/api/users/{user_id}", get(|| async { "" }))
            .layer(from_fn_with_state(latency, timed));
        let _guard = metrics::set_default_local_recorder(&recorder);
        for (method, path) in [
            ("GET", "/api/users/alice"),
            ("GET", "/api/users/bob?secret=1"),
            ("HEAD", "/api/users/bob"),
            ("ALICE", "/api/users/bob"),
            ("GET", "/alice"),
        ] {
            let request = http::Request::builder().method(method).uri(path);
            let request = request.body(Body::empty()).unwrap();
            routes.clone().oneshot(request).await.unwrap();
        }
        let text = handle.render();
        let count = |labels: &str| {
            let start = format!("gateway_request_seconds_count{{plane=\"public\",{labels}}} ");
            let mut lines = text.lines().filter_map(|line| line.strip_prefix(&*start));
            lines.next().map(|count| count.parse::<u32>().unwrap())
        };
        let route = r#"route="/api/users/{user_id}""#;
        assert_eq!(
            count(&format!(r#"{route},method="GET",status="2xx""#)),
            Some(2),
            "{text}"
        );
        assert_eq!(
            count(&format!(r#"{route},method="HEAD",status="2xx""#)),
            Some(1),
            "{text}"
        );
        assert_eq!(
            count(&format!(r#"{route},method="other",status="4xx""#)),
            Some(1),
            "{text}"
        );
        for word in ["alice", "ALICE", "bob", "secret"] {
            assert!(!text.contains(word), "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_socket_that_is_not_opened_has_failed() {
        let recorder = recorder().unwrap();
        let handle = recorder.handle();
        let _guard = metrics::set_default_local_recorder(&recorder);
        Connecting::begin().opened();
        drop(Connecting::begin());
        let opening = Connecting::begin();
        tokio::time::advance(Duration::from_secs(3)).await;
        opening.opened();
        let text = handle.render();
        for line in [
            r#"gateway_connect_seconds_count{outcome="opened"} 2"#,
            r#"gateway_connect_seconds_sum{outcome="opened"} 3"#,
            r#"gateway_connect_seconds_bucket{outcome="opened",le="2"} 1"#,
            r#"gateway_connect_seconds_bucket{outcome="opened",le="10"} 2"#,
            r#"gateway_connect_seconds_count{outcome="failed"} 1"#,
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }
}
