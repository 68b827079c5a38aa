use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use quick_cache::sync::Cache;

use super::{Era, TokenHash};
use crate::Identity;

/// Tokens that were verified, by the SHA-256 of the whole token: one cache for all verifiers.
///
/// A verdict is used for 60 seconds at most, never past the expiry of its token, never by another
/// verifier than the one it is of, and not after that verifier's keys have changed. Cheap to clone;
/// clones share the verdicts.
///
/// # Examples
///
/// ```
/// use tower_sso::{Verdicts, jwt::JwtConfig};
///
/// let verdicts = Verdicts::new(100_000);
/// let config = JwtConfig::new("https://login.example.com", "openclaw").verdicts(verdicts.clone());
/// // Somebody's access ends now, not in a minute.
/// verdicts.forget(|identity| &**identity.user_id() == "bob");
/// # let _ = config;
/// ```
#[derive(Clone)]
pub struct Verdicts(pub(super) Arc<Inner>);

pub(super) struct Inner {
    verified: Option<Cache<TokenHash, Arc<Verdict>>>,
    /// How often something was forgotten: what is decided while that happens is not remembered.
    forgotten: AtomicU64,
    hits: AtomicU64,
    pub(super) flights: super::flight::Flights,
}

/// What a verdict that is not made yet will belong to. Taken before anything is looked at that the
/// verdict depends on.
#[derive(Clone, Debug)]
pub(crate) struct Stand {
    era: Era,
    number: u64,
    forgotten: u64,
}

struct Verdict {
    identity: Arc<Identity>,
    era: Era,
    number: u64,
    since: SystemTime,
    until: SystemTime,
}

/// How long a verdict is used at most: a change of configuration or a revocation elsewhere is not
/// noticed for longer.
const MAX_AGE: Duration = Duration::from_secs(60);

// === impl Verdicts ===

impl Verdicts {
    /// Remembers so many tokens; with zero none. One takes about 200 bytes besides its identity.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self(Arc::new(Inner {
            verified: (capacity > 0).then(|| Cache::new(capacity)),
            forgotten: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            flights: super::flight::Flights::new(capacity),
        }))
    }

    /// Forgets the verdicts of these identities: their tokens are verified anew.
    ///
    /// Nor is a verdict remembered whose token is being verified just now, whoever it is of. Looks at
    /// every verdict, so what ends together is best forgotten together.
    pub fn forget(&self, is_ended: impl Fn(&Identity) -> bool) {
        // First, so that what is verified meanwhile notices, whichever side of the sweep it is on.
        self.0.forgotten.fetch_add(1, Ordering::SeqCst);
        if let Some(verified) = &self.0.verified {
            verified.retain(|_, verdict| !is_ended(&verdict.identity));
        }
    }

    /// How many tokens were not verified because their verdict was known.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.0.hits.load(Ordering::Relaxed)
    }

    /// The identity of a token that one of these eras has verified.
    pub(crate) fn recall(
        &self,
        token: &TokenHash,
        now: SystemTime,
        is_ours: impl Fn(&Era) -> bool,
    ) -> Option<Arc<Identity>> {
        let verdict = self.0.verified.as_ref()?.get(token)?;
        // A clock that was set back before the verdict makes it worthless too: then `nbf` may be ahead.
        let holds = is_ours(&verdict.era)
            && verdict.number == verdict.era.number()
            && (verdict.since..verdict.until).contains(&now);
        holds.then(|| {
            self.0.hits.fetch_add(1, Ordering::Relaxed);
            Arc::clone(&verdict.identity)
        })
    }

    /// Where a verdict begins.
    pub(crate) fn stand(&self, era: &Era) -> Stand {
        Stand {
            era: era.clone(),
            number: era.number(),
            forgotten: self.0.forgotten.load(Ordering::SeqCst),
        }
    }

    /// Whether nothing has ended since that a verdict could depend on.
    pub(crate) fn holds(&self, stand: &Stand) -> bool {
        stand.number == stand.era.number()
            && stand.forgotten == self.0.forgotten.load(Ordering::SeqCst)
    }

    /// Remembers a verdict on a token that was looked at at `now`.
    pub(crate) fn remember(
        &self,
        token: TokenHash,
        identity: &Arc<Identity>,
        stand: &Stand,
        now: SystemTime,
    ) {
        let Some(verified) = &self.0.verified else {
            return;
        };
        let Some(latest) = now.checked_add(MAX_AGE) else {
            return;
        };
        let until = identity
            .expires_at()
            .map_or(latest, |expiry| expiry.min(latest));
        if until <= now || !self.holds(stand) {
            return;
        }
        let verdict = Verdict {
            identity: Arc::clone(identity),
            era: stand.era.clone(),
            number: stand.number,
            since: now,
            until,
        };
        verified.insert(token, Arc::new(verdict));
        // A sweep that began in between may have passed by already.
        if !self.holds(stand) {
            verified.remove(&token);
        }
    }
}

impl Default for Verdicts {
    /// Remembers 10,000 tokens.
    fn default() -> Self {
        Self::new(10_000)
    }
}

impl fmt::Debug for Verdicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verified = self.0.verified.as_ref();
        f.debug_struct("Verdicts")
            .field("capacity", &verified.map_or(0, Cache::capacity))
            .field("len", &verified.map_or(0, Cache::len))
            .finish()
    }
}

// === impl Stand ===

impl Stand {
    pub(super) const fn number(&self) -> u64 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn identity(user: &str) -> Arc<Identity> {
        Arc::new(Identity::builder("issuer", user).build())
    }

    fn known(verdicts: &Verdicts, era: &Era, token: &str) -> bool {
        let hash = TokenHash::new(token);
        verdicts.recall(&hash, NOW, |of| of.is(era)).is_some()
    }

    fn learn(verdicts: &Verdicts, era: &Era, token: &str) {
        let stand = verdicts.stand(era);
        verdicts.remember(TokenHash::new(token), &identity(token), &stand, NOW);
    }

    #[test]
    fn a_verdict_is_its_verifiers_alone() {
        let (verdicts, era, other) = (Verdicts::new(10), Era::new(), Era::new());
        learn(&verdicts, &era, "alice");
        assert!(known(&verdicts, &era, "alice"));
        assert!(!known(&verdicts, &other, "alice"), "another audience, say");
        assert_eq!(verdicts.hits(), 1, "what was known is counted");
    }

    #[test]
    fn an_era_ends_its_verdicts_and_no_others() {
        let (verdicts, era, other) = (Verdicts::new(10), Era::new(), Era::new());
        learn(&verdicts, &era, "alice");
        learn(&verdicts, &other, "bob");
        let begun = verdicts.stand(&era);
        era.end();
        verdicts.remember(TokenHash::new("carol"), &identity("carol"), &begun, NOW);
        assert!(!known(&verdicts, &era, "alice"));
        assert!(!known(&verdicts, &era, "carol"), "began before the end");
        assert!(known(&verdicts, &other, "bob"));
    }

    #[test]
    fn only_whom_is_meant_is_forgotten() {
        let (verdicts, era) = (Verdicts::new(10), Era::new());
        learn(&verdicts, &era, "alice");
        learn(&verdicts, &era, "bob");
        verdicts.forget(|identity| &**identity.user_id() == "bob");
        assert!(known(&verdicts, &era, "alice"));
        assert!(!known(&verdicts, &era, "bob"));
    }

    #[test]
    fn what_was_looked_at_before_it_was_forgotten_is_not_remembered() {
        let (verdicts, era) = (Verdicts::new(10), Era::new());
        let begun = verdicts.stand(&era);
        verdicts.forget(|_| true);
        verdicts.remember(TokenHash::new("bob"), &identity("bob"), &begun, NOW);
        assert!(!known(&verdicts, &era, "bob"));
    }

    #[test]
    fn a_credential_without_an_end_is_remembered_for_a_minute() {
        let (verdicts, era) = (Verdicts::new(10), Era::new());
        learn(&verdicts, &era, "alice");
        let hash = TokenHash::new("alice");
        let at = |seconds| {
            let now = NOW + Duration::from_secs(seconds);
            verdicts.recall(&hash, now, |of| of.is(&era)).is_some()
        };
        assert!(at(59));
        assert!(!at(60));
    }

    #[test]
    fn debug_shows_no_identity() {
        let (verdicts, era) = (Verdicts::new(10), Era::new());
        learn(&verdicts, &era, "canary");
        let shown = format!("{verdicts:?}");
        assert!(
            shown.contains("len: 1") && !shown.contains("canary"),
            "{shown}"
        );
    }
}
