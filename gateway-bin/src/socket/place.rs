use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Most sockets of one user, over all their devices and tabs; and most runs of theirs over HTTP.
const MAX_SOCKETS_PER_USER: usize = 16;

/// How many sockets, or runs over HTTP, everybody has.
#[derive(Clone, Default)]
pub(crate) struct Places(Arc<Mutex<HashMap<Arc<str>, usize>>>);

/// One of a user; dropped, there is one less.
pub(crate) struct PlaceTaken {
    places: Places,
    user_id: Arc<str>,
}

// === impl Places ===

impl Places {
    pub(crate) fn take(&self, user_id: &Arc<str>) -> Option<PlaceTaken> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(Arc::clone(user_id)).or_default();
        if *count >= MAX_SOCKETS_PER_USER {
            return None;
        }
        *count += 1;
        Some(PlaceTaken {
            places: self.clone(),
            user_id: Arc::clone(user_id),
        })
    }

    /// Whoever has one.
    pub(crate) fn people(&self) -> Vec<Arc<str>> {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.keys().cloned().collect()
    }
}

// === impl PlaceTaken ===

impl Drop for PlaceTaken {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.user_id) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.user_id);
            }
        }
    }
}
