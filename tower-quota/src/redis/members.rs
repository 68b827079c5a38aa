use super::epoch::Begun;

/// Who counts together in a [`RedisStore`](crate::RedisStore), each what its own ledger says, and how far they have come.
///
/// See [`RedisStore::members`](crate::RedisStore::members).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RedisMembers {
    epoch: String,
    coming: String,
    /// Whether the server has run since it was counted for the epoch.
    is_same_run: bool,
    states: Vec<(String, String)>,
}

pub(super) type Members = RedisMembers;

// === impl RedisMembers ===

impl RedisMembers {
    pub(super) const fn new(
        epoch: String,
        coming: String,
        is_same_run: bool,
        states: Vec<(String, String)>,
    ) -> Self {
        Self {
            epoch,
            coming,
            is_same_run,
            states,
        }
    }

    /// All of them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.states.iter().map(|(name, _)| &**name)
    }

    /// The present epoch: another one has other counters. `None`: there is none, or the server was started again since it was
    /// counted for it, or has taken the place of another, and may have older counters.
    #[must_use]
    pub fn present_epoch(&self) -> Option<u32> {
        self.present().map(|begun| begun.name)
    }

    /// Whether what `member` used is among the counters of the present epoch. If it is not, it is to
    /// [reseed](crate::RedisStore::reseed).
    #[must_use]
    pub fn has_counted(&self, member: &str) -> bool {
        let mut states = self.states.iter();
        self.present().is_some()
            && states.any(|(name, state)| {
                name == member && state.strip_prefix("done ") == Some(&*self.epoch)
            })
    }

    /// Whether `member` has counted for the epoch that is to come.
    #[must_use]
    pub fn waits(&self, member: &str) -> bool {
        let mut states = self.states.iter();
        !self.coming.is_empty()
            && states.any(|(name, state)| {
                name == member && state.strip_prefix("done ") == Some(&*self.coming)
            })
    }

    /// Who has not counted yet for the epoch that is to come. Nobody, if none is.
    pub fn awaited(&self) -> impl Iterator<Item = &str> {
        let states = self.states.iter().filter(|(_, state)| {
            !self.coming.is_empty() && state.strip_prefix("done ") != Some(&*self.coming)
        });
        states.map(|(name, _)| &**name)
    }

    /// Whether that is the epoch that is counted for, or the present one.
    pub(super) fn is_at(&self, begun: Begun) -> bool {
        [&self.epoch, &self.coming]
            .into_iter()
            .any(|text| Begun::parse(text) == Some(begun))
    }

    pub(super) fn present(&self) -> Option<Begun> {
        Begun::parse(&self.epoch).filter(|_| self.is_same_run)
    }

    pub(super) fn epoch(&self) -> &str {
        &self.epoch
    }

    /// The epoch that can begin, since all have counted for it.
    pub(super) fn ready(&self) -> Option<Begun> {
        match self.awaited().next() {
            None if !self.states.is_empty() => Begun::parse(&self.coming),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "00000001 reseeded";
    const NEW: &str = "00000002 reseeded";

    fn members(epoch: &str, coming: &str, states: [&str; 2]) -> RedisMembers {
        let states = ["a", "b"].into_iter().zip(states);
        let states = states.map(|(name, state)| (name.to_owned(), state.to_owned()));
        RedisMembers::new(epoch.to_owned(), coming.to_owned(), true, states.collect())
    }

    #[test]
    fn an_epoch_is_ready_when_all_have_counted_for_it() {
        let (old, new) = (format!("done {OLD}"), format!("done {NEW}"));
        for states in [[&*new, "-"], [&new, &old]] {
            let members = members("", NEW, states);
            assert_eq!(members.ready(), None);
            assert_eq!(members.awaited().collect::<Vec<_>>(), ["b"]);
            assert!(members.waits("a") && !members.waits("b"));
            assert!(!members.has_counted("a") && !members.has_counted("b"));
        }
        assert_eq!(members("", NEW, [&new, &new]).ready(), Begun::parse(NEW));
        let none = RedisMembers::new(String::new(), NEW.to_owned(), true, Vec::new());
        assert_eq!(none.ready(), None, "one counts at least");
    }

    #[test]
    fn in_an_epoch_nobody_is_awaited() {
        let old = format!("done {OLD}");
        let members = members(OLD, "", [&old, "-"]);
        assert_eq!((members.awaited().next(), members.ready()), (None, None));
        assert!(members.has_counted("a") && !members.waits("a"));
        assert!(!members.has_counted("b"), "it has been elsewhere");
        assert!(!members.has_counted("c"));
        let started_again = RedisMembers {
            is_same_run: false,
            ..members
        };
        assert!(started_again.present_epoch().is_none() && !started_again.has_counted("a"));
    }
}
