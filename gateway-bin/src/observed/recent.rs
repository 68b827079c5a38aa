use std::collections::{HashSet, VecDeque};

use tower_usage::RecordId;

/// Ids of the latest records: what is met again need not go through the ledger and its copies.
const REMEMBERED: usize = 1 << 14;

/// What was met lately.
#[derive(Default)]
pub(super) struct Recent {
    ids: HashSet<RecordId>,
    order: VecDeque<RecordId>,
}

// === impl Recent ===

impl Recent {
    pub(super) fn has(&self, id: RecordId) -> bool {
        self.ids.contains(&id)
    }

    pub(super) fn put(&mut self, id: RecordId) {
        if !self.ids.insert(id) {
            return;
        }
        self.order.push_back(id);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_the_latest_and_stays_bounded() {
        let mut recent = Recent::default();
        let id = |n: usize| RecordId::from_u128(n as u128);
        for n in 0..2 * REMEMBERED {
            recent.put(id(n));
            recent.put(id(n));
        }
        assert_eq!(
            (recent.ids.len(), recent.order.len()),
            (REMEMBERED, REMEMBERED)
        );
        assert!(recent.has(id(2 * REMEMBERED - 1)) && !recent.has(id(0)));
    }
}
