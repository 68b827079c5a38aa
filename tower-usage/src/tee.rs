use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use crate::{Begun, Full, RecordId, Sink, UsageRecord};

/// A sink whose records go to others too.
///
/// The first one, the ledger, is the truth: it alone decides who is admitted and keeps what begins. The others have
/// copies: each gets a record right after the ledger was given it, without waiting until that has stored it, and if it
/// has no room then it goes without, which is [counted](Self::missed). So a copy can lack records that the ledger has,
/// and after a crash have some that the ledger lost. That a record repeats another is found by the ledger: the copy has its
/// tokens and cost.
///
/// # Examples
///
/// ```
/// # use std::sync::Arc;
/// # use tower_usage::{Sink, Tee};
/// # fn tee(ledger: Arc<dyn Sink>, lines: Arc<dyn Sink>) {
/// let sink = Arc::new(Tee::new(ledger).copy_to(lines));
/// # }
/// ```
pub struct Tee {
    ledger: Arc<dyn Sink>,
    copies: Vec<Arc<dyn Sink>>,
    missed: AtomicU64,
}

// === impl Tee ===

impl Tee {
    /// A sink that records into `ledger`.
    pub fn new(ledger: Arc<dyn Sink>) -> Self {
        Self {
            ledger,
            copies: Vec::new(),
            missed: AtomicU64::new(0),
        }
    }

    /// Copies every record to this one too.
    #[must_use]
    pub fn copy_to(mut self, sink: Arc<dyn Sink>) -> Self {
        self.copies.push(sink);
        self
    }

    /// How many records a copy had no room for, those of all copies together.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed.load(Relaxed)
    }
}

impl Sink for Tee {
    fn admit(&self) -> Result<(), Full> {
        self.ledger.admit()
    }

    fn begin(&self, record: &UsageRecord) -> Begun {
        self.ledger.begin(record)
    }

    fn record(&self, record: UsageRecord) {
        self.ledger.record(record.clone());
        for copy in &self.copies {
            match copy.admit() {
                Ok(()) => copy.record(record.clone()),
                Err(_) => drop(self.missed.fetch_add(1, Relaxed)),
            }
        }
    }

    fn forgo(&self, begun: Option<RecordId>) {
        self.ledger.forgo(begun);
    }
}

impl fmt::Debug for Tee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tee")
            .field("copies", &self.copies.len())
            .field("missed", &self.missed())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::{Operation, Place};

    /// Writes down what it is told, and admits so many.
    struct Spy {
        name: &'static str,
        room: AtomicU64,
        told: Arc<Mutex<Vec<String>>>,
    }

    impl Spy {
        fn tell(&self, what: &str) {
            self.told
                .lock()
                .unwrap()
                .push(format!("{} {what}", self.name));
        }
    }

    impl Sink for Spy {
        fn admit(&self) -> Result<(), Full> {
            self.tell("admit");
            let took = self
                .room
                .fetch_update(Relaxed, Relaxed, |room| room.checked_sub(1));
            took.map(drop).map_err(|_| Full::new())
        }

        fn begin(&self, _: &UsageRecord) -> Begun {
            self.tell("begin");
            Begun::ready(Ok(()))
        }

        fn record(&self, record: UsageRecord) {
            self.tell(&format!("record {}", record.subject));
        }

        fn forgo(&self, begun: Option<RecordId>) {
            self.tell(&format!("forgo {}", begun.is_some()));
        }
    }

    fn tee(ledger: u64, copy: u64) -> (Arc<Tee>, Arc<Mutex<Vec<String>>>) {
        let told = Arc::default();
        let spy = |name, room| {
            Arc::new(Spy {
                name,
                room: AtomicU64::new(room),
                told: Arc::clone(&told),
            })
        };
        let tee = Tee::new(spy("ledger", ledger)).copy_to(spy("copy", copy));
        (Arc::new(tee), told)
    }

    fn record() -> UsageRecord {
        UsageRecord::new("alice".into(), Operation::Run)
    }

    #[tokio::test]
    async fn the_ledger_decides_and_gets_each_record_before_its_copies() {
        let (tee, told) = tee(1, u64::MAX);
        let mut place = Place::take(tee.clone()).unwrap();
        assert_eq!(Place::take(tee.clone()).unwrap_err(), Full::new());
        place.begin(&record()).await.unwrap();
        place.record(record());
        let expected = [
            "ledger admit",
            "ledger admit",
            "ledger begin",
            "ledger record alice",
            "copy admit",
            "copy record alice",
        ];
        assert_eq!(*told.lock().unwrap(), expected);
        assert_eq!(tee.missed(), 0);
    }

    #[test]
    fn what_a_copy_has_no_room_for_is_counted_and_in_the_ledger() {
        let (tee, told) = tee(3, 1);
        for _ in 0..2 {
            Place::take(tee.clone()).unwrap().record(record());
        }
        drop(Place::take(tee.clone()).unwrap());
        assert_eq!(tee.missed(), 1);
        let count = |what| {
            told.lock()
                .unwrap()
                .iter()
                .filter(|told| *told == what)
                .count()
        };
        assert_eq!(
            (count("ledger record alice"), count("copy record alice")),
            (2, 1)
        );
        assert_eq!(
            (count("ledger forgo false"), count("copy forgo false")),
            (1, 0)
        );
    }
}
