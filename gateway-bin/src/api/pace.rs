//! How often one address may begin to sign in.

use std::net::{IpAddr, Ipv6Addr};
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
    if address.is_some_and(|address| !api.pace.admits(address.0)) {
        metrics::counter!("gateway_refusals_total", "plane" => "api", "reason" => "sign_in_pace")
            .increment(1);
        return ApiError::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too_many_requests",
            "too many sign-ins from your address; try again in a moment",
        )
        .into_response();
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

    fn admits(&self, address: IpAddr) -> bool {
        if self.asked.fetch_add(1, Ordering::Relaxed) % SWEEP == SWEEP - 1 {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
        }
        self.limiter.check_key(&network_of(address)).is_ok()
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self::new()
    }
}

/// Who has an IPv6 address has the whole /64 that it is in (RFC 6177 §2).
fn network_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !0 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d7_66_one_address_is_held_up_and_no_other() {
        let pace = Pace::new();
        let one: IpAddr = "2001:db8::1".parse().unwrap();
        let neighbour: IpAddr = "2001:db8::ffff:2".parse().unwrap();
        let other: IpAddr = "203.0.113.9".parse().unwrap();
        let admitted = (0..200).filter(|_| pace.admits(one)).count();
        assert!((60..70).contains(&admitted), "{admitted}");
        assert!(!pace.admits(neighbour), "a /64 is one customer");
        assert!(pace.admits(other));
    }
}
