use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::Instant;

/// After how long a generation of people is the earlier one: who is in neither has not come for twice as long at most.
const GENERATION: Duration = Duration::from_secs(150);

/// Who has come lately; clones share it.
#[derive(Clone)]
pub struct RecentPeople(Arc<RwLock<Generations>>);

struct Generations {
    now: HashSet<Arc<str>>,
    earlier: HashSet<Arc<str>>,
    since: Instant,
}

// === impl RecentPeople ===

impl RecentPeople {
    /// Nobody yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(RwLock::new(Generations {
            now: HashSet::new(),
            earlier: HashSet::new(),
            since: Instant::now(),
        })))
    }

    /// Somebody has come.
    pub fn seen(&self, user_id: &Arc<str>) {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if known.now.contains(user_id) {
            return;
        }
        drop(known);
        let mut people = self.0.write().unwrap_or_else(PoisonError::into_inner);
        people.now.insert(Arc::clone(user_id));
    }

    /// How many came lately, or are among these, who are connected.
    #[must_use]
    pub fn count(&self, connected: &[Arc<str>]) -> usize {
        let mut people = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if people.since.elapsed() >= GENERATION {
            people.earlier = std::mem::take(&mut people.now);
            people.since = Instant::now();
        }
        let Generations { now, earlier, .. } = &*people;
        let lately = now.len() + earlier.difference(now).count();
        let others = connected
            .iter()
            .filter(|user_id| !now.contains(*user_id) && !earlier.contains(*user_id));
        lately + others.count()
    }
}

impl Default for RecentPeople {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for RecentPeople {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecentPeople").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_is_counted_once_until_they_have_not_come_for_a_while() {
        let people = RecentPeople::new();
        let [alice, bob]: [Arc<str>; 2] = ["alice".into(), "bob".into()];
        people.seen(&alice);
        people.seen(&alice);
        assert_eq!(people.count(&[]), 1);
        assert_eq!(people.count(&[Arc::clone(&alice), bob]), 2);
        tokio::time::advance(GENERATION).await;
        assert_eq!(people.count(&[]), 1, "she is of the earlier generation");
        people.seen(&alice);
        assert_eq!(people.count(&[]), 1, "and of this one");
        for _ in 0..2 {
            tokio::time::advance(GENERATION).await;
            let _ = people.count(&[]);
        }
        assert_eq!(people.count(&[]), 0);
    }
}
