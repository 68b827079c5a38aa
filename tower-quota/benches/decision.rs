//! What a decision of the store in memory costs, as a ratio to the map that a person would write, and in allocations.
//!
//! `cargo bench -p tower-quota --features memory --bench decision`. A decision is a reservation and its settlement, or its
//! release, of one subject with three limits. The map is a `HashMap` of counters behind one `Mutex`, locked once to check
//! and add, and once more to correct: it has no clock, no periods, no leases and no tickets, and what is settled twice
//! counts twice. It never waits: about one subject one task asks it, however many ask the store, and where 8 tasks have a
//! subject each, 8 others have a map each, so that both have as many cores.
//!
//! A fifth of a decision is the clock, which is read for the reservation and for the settlement. What is asserted of the
//! ratios is twice what was measured, since machines differ. That a decision allocates nothing is asserted also where
//! the bench is only tried.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

use std::{
    array,
    collections::HashMap,
    hint::black_box,
    pin::pin,
    sync::{Arc, Barrier, Mutex},
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use tower_quota::{
    Amounts, Charge, Demand, Dimension, Granted, Limit, Limits, MemoryStore, QuotaStore, Subject,
    Window,
};

/// The most that a decision may take, for the map's one. It took 5.5, and the same for one of all where each of 8 tasks
/// has a subject of its own.
const MOST: f64 = 11.0;

/// The most that one of all may take where 8 tasks decide about one subject. It took 11 on two cores, which wait for one
/// another, 16 at worst, and 5.5 where another program had one of them.
const MOST_ON_ONE: f64 = 22.0;

/// Each a thread.
const TASKS: usize = 8;

const ROUNDS: usize = 21;

/// Of each task in one round.
const DECISIONS: u32 = 20_000;

/// The same of the map, so that a round of either takes as long and meets as many other programs.
const IN_MAP: u32 = 4 * DECISIONS;

/// What is never reached.
const ENOUGH: u64 = u64::MAX / 2;

/// Tokens, nano-USD and calls.
const WANTED: [u64; 3] = [4_096, 9_000, 1];

const USED: [u64; 3] = [1_000, 3_000, 1];

fn main() {
    allocations();
    // No time is measured where the bench is only tried (`cargo test --benches`).
    if std::env::args().any(|argument| argument == "--bench") {
        ratios();
    }
}

fn allocations() {
    let store = store();
    let alice = charge(Subject::new("alice"));
    let member = charge(Subject::new("bob").under("research").under("example.com"));
    for (name, charge, decide) in [
        ("settled", &alice, settled as fn(&MemoryStore, &Charge)),
        ("released", &alice, released),
        ("of a member, settled", &member, settled),
        ("of a member, released", &member, released),
    ] {
        // What is remembered of reservations that are over gets its full size.
        (0..2_000).for_each(|_| decide(&store, charge));
        let counted = allocation_counter::measure(|| (0..100).for_each(|_| decide(&store, charge)));
        let allocations = counted.count_total;
        println!("{name}: {allocations} allocations in 100 decisions");
        assert_eq!(allocations, 0, "{name}: none were needed");
    }
}

fn ratios() {
    let store = store();
    let one: [_; TASKS] = array::from_fn(|_| charge(Subject::new("alice")));
    let own: [_; TASKS] = array::from_fn(|n| charge(Subject::new(format!("user {n}"))));
    let maps = own.clone().map(|charge| (Map::default(), charge));
    let settle = |charge: &Charge| settled(&store, charge);
    let release = |charge: &Charge| released(&store, charge);
    let settle_in_map = |(map, charge): &(Map, Charge)| map.settled(charge);
    let release_in_map = |(map, charge): &(Map, Charge)| map.released(charge);

    // In turns, so that all have the same machine.
    let mut best = [Duration::MAX; 7];
    for _ in 0..ROUNDS {
        let times = [
            time(&maps[..1], IN_MAP, settle_in_map),
            time(&own[..1], DECISIONS, settle),
            time(&maps[..1], IN_MAP, release_in_map),
            time(&own[..1], DECISIONS, release),
            time(&one, DECISIONS, settle),
            time(&maps, IN_MAP, settle_in_map),
            time(&own, DECISIONS, settle),
        ];
        for (best, time) in best.iter_mut().zip(times) {
            *best = (*best).min(time);
        }
    }
    let [
        map,
        alone,
        map_released,
        alone_released,
        on_one,
        maps,
        on_own,
    ] = best;
    for (name, store, map, most) in [
        ("memory", alone, map, MOST),
        ("memory, released", alone_released, map_released, MOST),
        ("8 tasks on one subject", on_one, map, MOST_ON_ONE),
        ("8 tasks on subjects of their own", on_own, maps, MOST),
    ] {
        let ratio = store.as_secs_f64() / map.as_secs_f64();
        println!("{name}: {store:?} a decision, {map:?} the map, ratio {ratio:.2}");
        assert!(ratio <= most, "{name}: at most {most}");
    }
}

/// How long one of all decisions takes, where as many tasks as `askers` begin at once, each a thread with one of them.
fn time<T: Sync>(askers: &[T], decisions: u32, decide: impl Fn(&T) + Sync) -> Duration {
    let start = Barrier::new(askers.len());
    let (begun, ended) = thread::scope(|scope| {
        let task = |asker| {
            start.wait();
            let begun = Instant::now();
            (0..decisions).for_each(|_| decide(black_box(asker)));
            (begun, Instant::now())
        };
        let tasks: Vec<_> = askers
            .iter()
            .map(|asker| scope.spawn(move || task(asker)))
            .collect();
        let spans = tasks.into_iter().map(|task| task.join().unwrap());
        spans.reduce(|(a, b), (c, d)| (a.min(c), b.max(d))).unwrap()
    });
    (ended - begun) / (decisions * u32::try_from(askers.len()).unwrap())
}

fn store() -> MemoryStore {
    let limits = [
        Limit::at_most(Dimension::Tokens, Window::Day, ENOUGH),
        Limit::at_most(Dimension::Cost, Window::Month, ENOUGH),
        Limit::at_most(Dimension::Calls, Window::Day, ENOUGH),
    ];
    MemoryStore::new(Limits::new(limits).unwrap())
}

fn charge(subject: Subject) -> Charge {
    let demands = Dimension::ALL.into_iter().zip(WANTED);
    demands.fold(Charge::new(subject), |charge, (dimension, want)| {
        charge.demand(dimension, Demand { min: 1, want })
    })
}

fn settled(store: &MemoryStore, charge: &Charge) {
    let granted = reserve(store, charge);
    let [tokens, nano_usd, calls] = USED;
    let used = Amounts::new()
        .tokens(tokens)
        .nano_usd(nano_usd)
        .calls(calls);
    black_box(now(store.settle(granted.ticket(), used)).unwrap());
}

fn released(store: &MemoryStore, charge: &Charge) {
    let granted = reserve(store, charge);
    black_box(now(store.release(granted.ticket())).unwrap());
}

fn reserve(store: &MemoryStore, charge: &Charge) -> Granted {
    now(store.reserve(charge)).unwrap()
}

fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("the store in memory answers at once"),
    }
}

/// What a person would write, far enough from the next one in memory that no two threads share a line of cache.
#[derive(Default)]
#[repr(align(128))]
struct Map(Mutex<HashMap<Arc<str>, [u64; 3]>>);

// === impl Map ===

impl Map {
    fn settled(&self, charge: &Charge) {
        self.reserve(charge, black_box(WANTED)).unwrap();
        self.correct(charge, black_box(WANTED), black_box(USED));
    }

    fn released(&self, charge: &Charge) {
        self.reserve(charge, black_box(WANTED)).unwrap();
        self.correct(charge, black_box(WANTED), black_box([0; 3]));
    }

    fn reserve(&self, charge: &Charge, wanted: [u64; 3]) -> Option<()> {
        let mut map = self.0.lock().unwrap();
        let counted = map.entry(Arc::clone(charge.subject().name())).or_default();
        let fits = |(counted, wanted): (&u64, u64)| counted.saturating_add(wanted) <= ENOUGH;
        if !counted.iter().zip(wanted).all(fits) {
            return None;
        }
        for (counted, wanted) in counted.iter_mut().zip(wanted) {
            *counted += wanted;
        }
        Some(())
    }

    fn correct(&self, charge: &Charge, held: [u64; 3], used: [u64; 3]) {
        let mut map = self.0.lock().unwrap();
        let counted = map.get_mut(charge.subject().name()).unwrap();
        for ((counted, held), used) in counted.iter_mut().zip(held).zip(used) {
            *counted = *counted - held + used;
        }
    }
}
