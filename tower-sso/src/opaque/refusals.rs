use std::{net::IpAddr, time::Duration};

use quick_cache::sync::Cache;
use tokio::time::Instant;

use crate::ClientAddress;

/// Whose tokens an issuer has refused lately, so that who tries many does not have it asked about all of them.
pub(super) struct Refusals(Cache<IpAddr, Lately>);

#[derive(Clone, Copy)]
struct Lately {
    count: u32,
    until: Instant,
}

/// How many refused tokens of one address cost a question each, until its cool-down begins.
const MOST: u32 = 16;

/// How long an address is remembered since its first refusal, and is asked about no further.
const COOL_DOWN: Duration = Duration::from_secs(10);

/// How many addresses are remembered. One that comes when there are more makes another one be forgotten.
const ADDRESSES: usize = 4_096;

// === impl Refusals ===

impl Refusals {
    pub(super) fn new() -> Self {
        Self(Cache::new(ADDRESSES))
    }

    /// Whether a question may be asked about a token from there.
    pub(super) fn admit(&self, address: IpAddr) -> bool {
        let lately = self.0.get(&ClientAddress(address).network());
        lately.is_none_or(|lately| lately.count < MOST || lately.until <= Instant::now())
    }

    /// A token from there was refused.
    pub(super) fn refused(&self, address: IpAddr) {
        let (address, now) = (ClientAddress(address).network(), Instant::now());
        let lately = self.0.get(&address).filter(|lately| now < lately.until);
        let lately = match lately {
            Some(Lately { count, until }) => Lately {
                count: count.saturating_add(1),
                until,
            },
            None => Lately {
                count: 1,
                until: now + COOL_DOWN,
            },
        };
        self.0.insert(address, lately);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_refused_often_is_asked_about_again_after_the_cool_down() {
        let refusals = Refusals::new();
        let one = address("2001:db8::1");
        for _ in 0..MOST {
            assert!(refusals.admit(one));
            refusals.refused(one);
        }
        assert!(!refusals.admit(one));
        assert!(!refusals.admit(address("2001:db8::ffff:2")), "a /64 is one");
        assert!(refusals.admit(address("203.0.113.9")), "and nobody else");
        // What was under way by then makes it no longer.
        refusals.refused(one);
        advance(COOL_DOWN).await;
        assert!(refusals.admit(one));
        refusals.refused(one);
        assert!(refusals.admit(one), "it begins anew");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_now_and_then_adds_up_to_nothing() {
        let refusals = Refusals::new();
        let one = address("203.0.113.9");
        for _ in 0..10 * MOST {
            refusals.refused(one);
            advance(COOL_DOWN / MOST * 2).await;
            assert!(refusals.admit(one));
        }
    }
}
