use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

/// So many joins wait for their records; then the oldest is forgotten.
const MOST: usize = 4096;

/// Which run and conversation an answer belongs to.
#[derive(Clone, Debug)]
pub(super) struct Join {
    pub(super) response_id: Arc<str>,
    pub(super) run_id: Arc<str>,
    pub(super) session_key: Option<Arc<str>>,
}

/// Joins whose record is not there yet.
#[derive(Debug, Default)]
pub(super) struct Joins {
    waiting: HashMap<Arc<str>, Join>,
    /// In order of arrival; also of some that are not waiting any more.
    order: VecDeque<Arc<str>>,
}

// === impl Joins ===

impl Joins {
    pub(super) fn put(&mut self, join: &Join) {
        let key = &join.response_id;
        if self.waiting.contains_key(key) {
            return;
        }
        while self.waiting.len() >= MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.waiting.remove(&oldest);
        }
        if self.order.len() >= 2 * MOST {
            self.order.retain(|key| self.waiting.contains_key(key));
        }
        self.order.push_back(Arc::clone(key));
        self.waiting.insert(Arc::clone(key), join.clone());
    }

    pub(super) fn find(&self, response_id: &str) -> Option<&Join> {
        self.waiting.get(response_id)
    }

    pub(super) fn remove(&mut self, response_id: &str) {
        self.waiting.remove(response_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(n: usize) -> Join {
        Join {
            response_id: n.to_string().into(),
            run_id: "r".into(),
            session_key: None,
        }
    }

    #[test]
    fn forgets_the_oldest_and_stays_bounded() {
        let mut joins = Joins::default();
        for n in 0..10 * MOST {
            joins.put(&join(n));
            if n % 2 == 0 {
                joins.remove(&n.to_string());
            }
        }
        assert!(joins.waiting.len() <= MOST && joins.order.len() <= 2 * MOST);
        assert!(joins.find(&(10 * MOST - 1).to_string()).is_some());
        assert!(joins.find("1").is_none());
    }
}
