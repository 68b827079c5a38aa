//! How often one address may begin to sign in.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use governor::clock::DefaultClock;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use http::StatusCode;
use http::header::{HeaderValue, RETRY_AFTER};
use tower_sso::ClientAddress;

use super::{Api, ApiError};

/// So many requests of one address at once, and one more each second: an office behind one address signs in on a Monday.
const BURST: NonZeroU32 = NonZeroU32::new(60).expect("is not zero");

/// What begins and ends a sign-in.
const PACED: [&str; 2] = ["/auth/login", "/auth/callback"];

/// After so many requests, addresses that have been quiet are forgotten, so that strangers cannot fill the memory.
const SWEEP: u32 = 1_024;

/// The pace of sign-in by address; clones share it.
#[derive(Clone, Debug)]
pub struct Pace {
    limiter: Arc<RateLimiter<IpAddr, HashMapStateStore<IpAddr>, DefaultClock>>,
    asked: Arc<AtomicU32>,
}

/// Refuses an address that is too fast.
pub(super) async fn limit(State(api): State<Api>, request: Request, next: Next) -> Response {
    // What signs people out must not be held up: a provider that ends many comes from one address.
    if !PACED.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let address = request.extensions().get::<ClientAddress>();
    if address.is_some_and(|address| !api.pace.admits(*address)) {
        metrics::counter!("gateway_refusals_total", "plane" => "api", "reason" => "sign_in_pace")
            .increment(1);
        let refusal = ApiError::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too_many_requests",
            "too many sign-ins from your address; try again in a moment",
        );
        return ([(RETRY_AFTER, HeaderValue::from_static("1"))], refusal).into_response();
    }
    next.run(request).await
}

// === impl Pace ===

impl Pace {
    /// A pace that nobody has used yet.
    #[must_use]
    pub fn new() -> Self {
        let quota = Quota::per_second(NonZeroU32::MIN).allow_burst(BURST);
        Self {
            limiter: Arc::new(RateLimiter::hashmap(quota)),
            asked: Arc::default(),
        }
    }

    fn admits(&self, address: ClientAddress) -> bool {
        if self.asked.fetch_add(1, Ordering::Relaxed) % SWEEP == SWEEP - 1 {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
        }
        self.limiter.check_key(&address.network()).is_ok()
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d7_66_one_address_is_held_up_and_no_other() {
        let pace = Pace::new();
        let address = |text: &str| ClientAddress(text.parse().unwrap());
        let one = address("2001:db8::1");
        let neighbour = address("2001:db8::ffff:2");
        let admitted = (0..200).filter(|_| pace.admits(one)).count();
        assert!((60..70).contains(&admitted), "{admitted}");
        assert!(!pace.admits(neighbour), "a /64 is one customer");
        assert!(pace.admits(address("203.0.113.9")));
        // As a socket for both kinds names them.
        let (one, other) = (address("::ffff:203.0.113.1"), address("::ffff:203.0.113.2"));
        let admitted = (0..200).filter(|_| pace.admits(one)).count();
        assert!((60..70).contains(&admitted), "{admitted}");
        assert!(pace.admits(other), "not all of IPv4 is one");
    }
}
