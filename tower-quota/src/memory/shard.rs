use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::Arc,
};

use crate::{memory::account::Account, unix_ms::UnixMs};

/// How many accounts each new one looks at, to drop those that are idle: more than one, so that they cannot pile up.
const SWEPT_PER_NEW_ACCOUNT: usize = 2;

/// The accounts of the subjects that hash here.
#[derive(Debug)]
pub(super) struct Shard {
    accounts: HashMap<Arc<str>, Account>,
    /// Every subject once, the next to be looked at in front.
    rotation: VecDeque<Arc<str>>,
    next_sequence: u64,
    step: u64,
}

// === impl Shard ===

impl Shard {
    /// Numbers its reservations `first`, `first + step`, and so on, so that no two of `step` shards use the same number.
    pub(super) fn new(first: u64, step: u64) -> Self {
        Self {
            accounts: HashMap::new(),
            rotation: VecDeque::new(),
            next_sequence: first,
            step,
        }
    }

    /// A number greater than all before.
    pub(super) fn next_sequence(&mut self) -> u64 {
        let sequence = self.next_sequence;
        self.next_sequence = sequence.saturating_add(self.step);
        sequence
    }

    /// Whether this number was given out, to whichever subject.
    pub(super) const fn has_given_out(&self, sequence: u64) -> bool {
        sequence < self.next_sequence && sequence % self.step == self.next_sequence % self.step
    }

    pub(super) fn account(&mut self, subject: &Arc<str>) -> Option<&mut Account> {
        self.accounts.get_mut(subject)
    }

    pub(super) fn account_or_new(&mut self, subject: &Arc<str>, now: UnixMs) -> &mut Account {
        if !self.accounts.contains_key(subject) {
            self.sweep(now);
        }
        match self.accounts.entry(subject.clone()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                self.rotation.push_back(subject.clone());
                entry.insert(Account::default())
            }
        }
    }

    fn sweep(&mut self, now: UnixMs) {
        for _ in 0..SWEPT_PER_NEW_ACCOUNT {
            let Some(subject) = self.rotation.pop_front() else {
                return;
            };
            let account = self.accounts.get_mut(&subject);
            if account.is_some_and(|account| account.is_idle(now)) {
                self.accounts.remove(&subject);
            } else {
                self.rotation.push_back(subject);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Amounts, Limits};

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn subjects(range: std::ops::Range<u32>) -> impl Iterator<Item = Arc<str>> {
        range.map(|n| format!("subject {n}").into())
    }

    #[test]
    fn subjects_of_past_months_make_room_for_new_ones() {
        let mut shard = Shard::new(0, 1);
        let then = UnixMs::new(0).unwrap();
        for subject in subjects(0..1_000) {
            let used = Amounts::new().calls(1);
            shard
                .account_or_new(&subject, then)
                .add_used(then, used, then);
        }
        assert_eq!(shard.accounts.len(), 1_000, "all of them are of this month");

        let now = then.saturating_add(33 * DAY);
        for subject in subjects(1_000..2_000) {
            let used = Amounts::new().calls(1);
            shard.account_or_new(&subject, now).add_used(now, used, now);
        }

        assert_eq!(shard.accounts.len(), 1_000);
        assert!(subjects(1_000..2_000).all(|s| shard.accounts.contains_key(&s)));
        assert_eq!(shard.rotation.len(), shard.accounts.len());
    }

    #[test]
    fn a_subject_with_limits_of_its_own_stays() {
        let mut shard = Shard::new(0, 1);
        let then = UnixMs::new(0).unwrap();
        let subject: Arc<str> = "alice".into();
        shard
            .account_or_new(&subject, then)
            .set_limits(Some(Limits::default()));

        let now = then.saturating_add(400 * DAY);
        for other in subjects(0..10) {
            shard.account_or_new(&other, now);
        }

        assert!(shard.accounts.contains_key(&subject));
    }
}
