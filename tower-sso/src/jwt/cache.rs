use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_lc_rs::digest::{SHA256, digest};
use quick_cache::sync::Cache;

use crate::Identity;

/// Verified tokens, by the SHA-256 of the whole token.
///
/// A part of the token will not do: whoever knows a part could ride on another's verdict.
pub(super) struct VerdictCache {
    verdicts: Option<Cache<TokenHash, Verdict>>,
}

/// The SHA-256 of a token.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub(super) struct TokenHash([u8; 32]);

#[derive(Clone)]
struct Verdict {
    identity: Arc<Identity>,
    /// The keys it was verified with: other keys may not verify it.
    generation: u64,
    since: SystemTime,
    until: SystemTime,
}

/// How long a verdict is used at most: a change of configuration or revocation elsewhere is not
/// noticed for longer.
const MAX_AGE: Duration = Duration::from_secs(60);

// === impl VerdictCache ===

impl VerdictCache {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            verdicts: (capacity > 0).then(|| Cache::new(capacity)),
        }
    }

    pub(super) fn find(
        &self,
        token: &TokenHash,
        generation: u64,
        now: SystemTime,
    ) -> Option<Arc<Identity>> {
        let verdict = self.verdicts.as_ref()?.get(token)?;
        // A clock that was set back before the verdict makes it worthless too: then `nbf` may be ahead.
        (verdict.generation == generation && (verdict.since..verdict.until).contains(&now))
            .then_some(verdict.identity)
    }

    pub(super) fn remember(
        &self,
        token: TokenHash,
        identity: &Arc<Identity>,
        generation: u64,
        now: SystemTime,
    ) {
        let Some(verdicts) = &self.verdicts else {
            return;
        };
        let expires_at = identity.expires_at().unwrap_or(now);
        let until = now
            .checked_add(MAX_AGE)
            .map_or(expires_at, |latest| latest.min(expires_at));
        if until <= now {
            return;
        }
        let verdict = Verdict {
            identity: Arc::clone(identity),
            generation,
            since: now,
            until,
        };
        verdicts.insert(token, verdict);
    }
}

impl fmt::Debug for VerdictCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let capacity = self.verdicts.as_ref().map_or(0, Cache::capacity);
        f.debug_struct("VerdictCache")
            .field("capacity", &capacity)
            .finish_non_exhaustive()
    }
}

// === impl TokenHash ===

impl TokenHash {
    pub(super) fn new(token: &str) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        Self(hash)
    }
}
