use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use metrics::{Counter, counter};
use tower_sso::{Identity, Reason, Verify, VerifyError, VerifyFuture};

use super::context;
use super::recent_people::RecentPeople;

/// A verifier whose verdicts are counted.
pub struct Verifications<V> {
    verifier: V,
    verdicts: Arc<Verdicts>,
    people: Option<RecentPeople>,
}

/// Looked up once, and not for each credential.
struct Verdicts {
    ok: Counter,
    unavailable: Counter,
    invalid: Vec<(Reason, Counter)>,
}

// === impl Verifications ===

impl<V> Verifications<V> {
    /// Counts what `verifier` says on a plane.
    #[must_use]
    pub fn new(plane: &'static str, verifier: V) -> Self {
        let count = |result: &'static str| {
            let counter =
                counter!("gateway_verifications_total", "plane" => plane, "result" => result);
            counter.increment(0);
            counter
        };
        let reasons = Reason::ALL.iter();
        let verdicts = Verdicts {
            ok: count("ok"),
            unavailable: count("unavailable"),
            invalid: reasons
                .map(|reason| (*reason, count(reason.as_str())))
                .collect(),
        };
        Self {
            verifier,
            verdicts: Arc::new(verdicts),
            people: None,
        }
    }

    /// Tells these who came.
    #[must_use]
    pub fn telling(self, people: RecentPeople) -> Self {
        Self {
            people: Some(people),
            ..self
        }
    }
}

impl<V: Verify> Verify for Verifications<V> {
    fn verify(&self, token: &str) -> VerifyFuture {
        self.verify_from(token, None)
    }

    fn verify_from(&self, token: &str, address: Option<IpAddr>) -> VerifyFuture {
        let (verdicts, people) = (Arc::clone(&self.verdicts), self.people.clone());
        let verdict = self.verifier.verify_from(token, address);
        verdict.map(move |verdict| {
            verdicts.count(&verdict);
            if let Ok(identity) = &verdict {
                context::set_user(identity.user_id());
                if let Some(people) = people {
                    people.seen(identity.user_id());
                }
            }
            verdict
        })
    }
}

impl<V> fmt::Debug for Verifications<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifications").finish_non_exhaustive()
    }
}

// === impl Verdicts ===

impl Verdicts {
    fn count(&self, verdict: &Result<Arc<Identity>, VerifyError>) {
        let counter = match verdict {
            Ok(_) => Some(&self.ok),
            Err(VerifyError::Invalid(reason)) => {
                let mut invalid = self.invalid.iter();
                invalid
                    .find(|(known, _)| known == reason)
                    .map(|(_, counter)| counter)
            }
            Err(_) => Some(&self.unavailable),
        };
        if let Some(counter) = counter {
            counter.increment(1);
        }
    }
}
