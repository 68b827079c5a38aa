use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use crate::{memory::family::Family, unix_ms::UnixMs};

/// How many families each new one looks at, to drop those that are idle: more than one, so that they cannot pile up.
const SWEPT_PER_NEW_FAMILY: usize = 2;

/// The families whose outermost names hash here.
#[derive(Debug)]
pub(super) struct Shard {
    families: HashMap<Arc<str>, Family>,
    /// Every family once, the next to be looked at in front.
    rotation: VecDeque<Arc<str>>,
    next_sequence: u64,
    step: u64,
}

// === impl Shard ===

impl Shard {
    /// Numbers its reservations `first`, `first + step`, and so on, so that a number tells which of `step` shards has it.
    pub(super) fn new(first: u64, step: u64) -> Self {
        Self {
            families: HashMap::new(),
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

    /// Whether this number, which is one of this shard's, was given out, to whichever subject.
    pub(super) const fn has_given_out(&self, sequence: u64) -> bool {
        sequence < self.next_sequence
    }

    pub(super) fn family(&mut self, root: &Arc<str>) -> Option<&mut Family> {
        self.families.get_mut(root)
    }

    /// Runs `work` on the family, which there is from then on: a known one is looked up once.
    pub(super) fn with_family<T>(
        &mut self,
        root: &Arc<str>,
        now: UnixMs,
        work: impl FnOnce(&mut Family) -> T,
    ) -> T {
        if let Some(family) = self.families.get_mut(root) {
            return work(family);
        }
        self.sweep(now);
        self.rotation.push_back(root.clone());
        work(self.families.entry(root.clone()).or_default())
    }

    fn sweep(&mut self, now: UnixMs) {
        for _ in 0..SWEPT_PER_NEW_FAMILY {
            let Some(root) = self.rotation.pop_front() else {
                return;
            };
            let family = self.families.get_mut(&root);
            if family.is_some_and(|family| family.is_idle(now)) {
                self.families.remove(&root);
            } else {
                self.rotation.push_back(root);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Amounts, Plans, Terms};

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
            shard.with_family(&subject, then, |family| {
                family.add_used(&(&subject).into(), then, used, &Plans::default(), then);
            });
        }
        assert_eq!(shard.families.len(), 1_000, "all of them are of this month");

        let now = then.saturating_add(33 * DAY);
        for subject in subjects(1_000..2_000) {
            let used = Amounts::new().calls(1);
            shard.with_family(&subject, now, |family| {
                family.add_used(&(&subject).into(), now, used, &Plans::default(), now);
            });
        }

        assert_eq!(shard.families.len(), 1_000);
        assert!(subjects(1_000..2_000).all(|s| shard.families.contains_key(&s)));
        assert_eq!(shard.rotation.len(), shard.families.len());
    }

    #[test]
    fn a_subject_with_limits_of_its_own_stays() {
        let mut shard = Shard::new(0, 1);
        let then = UnixMs::new(0).unwrap();
        let subject: Arc<str> = "alice".into();
        shard.with_family(&subject, then, |family| {
            family.set_terms(&(&subject).into(), Terms::default(), &Plans::default())
        });

        let now = then.saturating_add(400 * DAY);
        for other in subjects(0..10) {
            shard.with_family(&other, now, |_| ());
        }

        assert!(shard.families.contains_key(&subject));
    }
}
