//! The store in memory keeps the laws of every store, from many threads, and agrees with a naive model.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, Barrier},
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use proptest::{collection::vec, prelude::*};
use tower_quota::{
    Allowance, Amounts, Charge, Demand, Dimension, Limit, Limits, MemoryStore, QuotaStore,
    Released, Renewed, ReserveError, Settled, Subject, Ticket, TimeZone, Window, laws,
};

fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("the store in memory answers at once"),
    }
}

#[tokio::test]
async fn keeps_every_law() {
    laws::all(&async |plans, clock| {
        Arc::new(MemoryStore::new(plans).lease(laws::LEASE).clock(clock)) as Arc<dyn QuotaStore>
    })
    .await;
}

#[test]
fn d5_48_of_a_thousand_threads_at_once_one_gets_the_last_unit() {
    let plan = Limits::new([Limit::at_most(Dimension::Calls, Window::Day, 1)]).unwrap();
    let store = MemoryStore::new(plan);
    for (round, known) in (0..10).flat_map(|round| [(round, true), (round, false)]) {
        // One whom nobody knows yet, or a thousand of them; each has one call.
        let of = |n: usize| match known {
            true => Charge::new(format!("{round}")),
            false => Charge::new(format!("{round}, {}", n / 2)),
        };
        let start = Barrier::new(1_000);
        let admitted = thread::scope(|scope| {
            let threads = (0..1_000).map(|n| {
                let (store, start) = (&store, &start);
                let charge = of(n).exactly(Dimension::Calls, 1);
                scope.spawn(move || {
                    start.wait();
                    now(store.reserve(&charge)).is_ok()
                })
            });
            let threads: Vec<_> = threads.collect();
            let admitted = threads.into_iter().map(|thread| thread.join().unwrap());
            admitted.filter(|admitted| *admitted).count()
        });
        let lawful = if known { 1 } else { 500 };
        println!("memory, round {round}: {admitted} of 1000 on {lawful} last units");
        assert_eq!(admitted, lawful);
    }
}

#[test]
fn threads_that_settle_and_release_at_once_lose_nothing() {
    let plan = Limits::new([Limit::at_most(Dimension::Tokens, Window::Month, 5_000)]).unwrap();
    let store = MemoryStore::new(plan);
    let charge = Charge::new("alice").exactly(Dimension::Tokens, 10);

    let settled: u64 = thread::scope(|scope| {
        let threads: Vec<_> = (0..8_u64)
            .map(|seed| {
                let (store, charge) = (&store, &charge);
                scope.spawn(move || {
                    let mut settled = 0;
                    for round in 0..500 {
                        let Ok(granted) = now(store.reserve(charge)) else {
                            continue;
                        };
                        if (seed + round) % 3 == 0 {
                            store.abandon(granted.ticket());
                        } else {
                            let used = Amounts::new().tokens(round % 20);
                            now(store.settle(granted.ticket(), used)).unwrap();
                            settled += round % 20;
                        }
                    }
                    settled
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });

    let standing = now(store.standings(&"alice".into())).unwrap()[0];
    assert!(settled >= 5_000 - 80, "the limit was reached: {settled}");
    assert_eq!((standing.used(), standing.reserved()), (settled, 0));
}

#[test]
fn counts_again_what_a_ledger_says() {
    let noon = UNIX_EPOCH + Duration::from_millis(NOON);
    let clock = Arc::new(laws::TestClock::new(noon));
    let plan = Limits::new([
        Limit::at_most(Dimension::Calls, Window::Day, 10),
        Limit::at_most(Dimension::Calls, Window::Month, 10),
    ])
    .unwrap();
    let store = MemoryStore::new(plan).clock(clock);
    let (alice, day) = (Subject::new("alice"), Duration::from_secs(86_400));

    store.add_used(&alice, noon, Amounts::new().calls(1));
    store.add_used(&alice, noon - day, Amounts::new().calls(2));
    store.add_used(&alice, noon - 60 * day, Amounts::new().calls(4));

    let standings = now(store.standings(&alice)).unwrap();
    let used: Vec<_> = standings.iter().map(|s| s.used()).collect();
    assert_eq!(used, [1, 3]);
}

#[test]
fn tickets_of_an_earlier_store_are_unknown_even_with_the_same_number() {
    let charge = Charge::new("alice").exactly(Dimension::Calls, 1);
    let issue = |store: &MemoryStore| now(store.reserve(&charge)).unwrap().into_ticket();
    let earlier = issue(&MemoryStore::new(Limits::default()));
    let store = MemoryStore::new(Limits::default());
    let later = issue(&store);
    let number = later.id() & u128::from(u64::MAX);
    let same_number = (earlier.id() >> 64 << 64) | number;

    let ticket = Ticket::new(same_number, "alice", earlier.admitted_at());

    let settled = now(store.settle(&ticket, Amounts::new().calls(1)));
    assert_eq!(settled.unwrap(), Settled::Unknown);
}

#[test]
fn a_ticket_that_is_forgotten_is_told_from_one_that_never_was() {
    let charge = Charge::new("alice").exactly(Dimension::Calls, 1);
    let store = MemoryStore::new(Limits::default());
    let reserve = || now(store.reserve(&charge)).unwrap().into_ticket();
    let settle = |ticket: &Ticket| now(store.settle(ticket, Amounts::new().calls(1))).unwrap();
    let (given_back, settled) = (reserve(), reserve());
    store.abandon(&given_back);
    settle(&settled);
    for _ in 0..2_000 {
        store.abandon(&reserve());
        settle(&reserve());
    }
    let last = reserve();

    assert_eq!(settle(&given_back), Settled::Forgotten);
    assert_eq!(settle(&settled), Settled::Forgotten);
    let later = Ticket::new(last.id() + 64, "alice", last.admitted_at());
    assert_eq!(settle(&later), Settled::Unknown, "not made yet");
    let elsewhere = Ticket::new(given_back.id() ^ 1, "alice", last.admitted_at());
    assert_eq!(settle(&elsewhere), Settled::Unknown, "no number of alice's");
}

#[test]
fn a_ticket_of_a_subject_that_is_forgotten_altogether_is_forgotten() {
    let noon = UNIX_EPOCH + Duration::from_millis(NOON);
    let clock = Arc::new(laws::TestClock::new(noon));
    let store = MemoryStore::new(Limits::default()).clock(clock.clone());
    let charge = Charge::new("alice").exactly(Dimension::Calls, 1);
    let ticket = now(store.reserve(&charge)).unwrap().into_ticket();
    now(store.settle(&ticket, Amounts::new().calls(1))).unwrap();

    clock.advance(Duration::from_secs(60 * 86_400));
    // New subjects push out idle ones.
    for n in 0..10_000 {
        now(store.reserve(&Charge::new(format!("user {n}")))).unwrap();
    }

    let settled = now(store.settle(&ticket, Amounts::new().calls(1)));
    assert_eq!(settled.unwrap(), Settled::Forgotten);
}

// === a naive model ===

/// 2026-03-31T12:00:00Z: half a day before a day and a month end.
const NOON: u64 = 1_774_958_400_000;

/// As long as the store remembers everything.
const SPAN: Duration = Duration::from_secs(24 * 60 * 60 - 1);

const LEASE: Duration = Duration::from_secs(600);

/// Remembers everything that ever happened and adds it up anew for every question.
#[derive(Default)]
struct Model {
    limits: Vec<Limit>,
    reservations: Vec<Reservation>,
}

struct Reservation {
    admitted_at: SystemTime,
    lease_end: SystemTime,
    held: Amounts,
    given_back: bool,
    used: Option<Amounts>,
}

impl Model {
    fn used(&self, limit: &Limit, now: SystemTime) -> u64 {
        let period = limit.window().period(now, &TimeZone::UTC);
        self.reservations
            .iter()
            .filter(|r| period.start() <= r.admitted_at && r.admitted_at < period.end())
            .filter_map(|r| r.used)
            .map(|used| used.get(limit.dimension()))
            .sum()
    }

    fn reserved(&self, limit: &Limit, now: SystemTime) -> u64 {
        let period = limit.window().period(now, &TimeZone::UTC);
        self.reservations
            .iter()
            .filter(|r| period.start() <= r.admitted_at && r.admitted_at < period.end())
            .filter(|r| r.is_held(now))
            .map(|r| r.held.get(limit.dimension()))
            .sum()
    }

    fn reserve(&mut self, demands: &[(Dimension, Demand)], now: SystemTime) -> Option<Amounts> {
        let mut held = Amounts::new();
        for &(dimension, demand) in demands {
            let mut amount = demand.want;
            for limit in self.limits.iter().filter(|l| l.dimension() == dimension) {
                if let Allowance::AtMost(allowed) = limit.allowance() {
                    let taken = self.used(limit, now) + self.reserved(limit, now);
                    let left = allowed.saturating_sub(taken);
                    if left < demand.min {
                        return None;
                    }
                    amount = amount.min(left);
                }
            }
            held = held.with(dimension, amount);
        }
        self.reservations.push(Reservation {
            admitted_at: now,
            lease_end: now + LEASE,
            held,
            given_back: false,
            used: None,
        });
        Some(held)
    }
}

impl Reservation {
    fn is_held(&self, now: SystemTime) -> bool {
        self.used.is_none() && !self.given_back && now < self.lease_end
    }
}

#[derive(Clone, Debug)]
enum Step {
    Reserve([(u64, u64); 3]),
    Settle(prop::sample::Index, [u64; 3]),
    Release(prop::sample::Index),
    Renew(prop::sample::Index),
    Wait(u64),
    Limit(Vec<Limit>),
}

fn limits() -> impl Strategy<Value = Vec<Limit>> {
    let dimension = prop::sample::select(Dimension::ALL.to_vec());
    let window = prop::sample::select(vec![Window::Day, Window::Month]);
    let allowance = prop_oneof![
        8 => (0..200_u64).prop_map(Allowance::AtMost),
        1 => Just(Allowance::Unlimited),
    ];
    vec((dimension, window, allowance), 0..6).prop_map(|limits| {
        let distinct: BTreeMap<_, _> = limits.into_iter().map(|(d, w, a)| ((d, w), a)).collect();
        distinct
            .into_iter()
            .map(|((d, w), a)| Limit::new(d, w, a))
            .collect()
    })
}

fn step() -> impl Strategy<Value = Step> {
    let demand = || (0..30_u64, 0..60_u64);
    let index = any::<prop::sample::Index>;
    prop_oneof![
        8 => (demand(), demand(), demand()).prop_map(|(a, b, c)| Step::Reserve([a, b, c])),
        6 => (index(), [0..80_u64, 0..80, 0..80]).prop_map(|(i, used)| Step::Settle(i, used)),
        2 => index().prop_map(Step::Release),
        2 => index().prop_map(Step::Renew),
        3 => (0..1_200_u64).prop_map(Step::Wait),
        1 => (0..40_000_u64).prop_map(Step::Wait),
        1 => limits().prop_map(Step::Limit),
    ]
}

fn amounts([tokens, nano_usd, calls]: [u64; 3]) -> Amounts {
    Amounts::new()
        .tokens(tokens)
        .nano_usd(nano_usd)
        .calls(calls)
}

proptest! {
    #[test]
    fn agrees_with_a_model_that_forgets_nothing(
        plan in limits(),
        steps in vec(step(), 1..60),
    ) {
        let start = UNIX_EPOCH + Duration::from_millis(NOON);
        let clock = Arc::new(laws::TestClock::new(start));
        let plan = Limits::new(plan).unwrap();
        let store = MemoryStore::new(plan.clone())
            .lease(LEASE)
            .clock(clock.clone());
        let mut model = Model { limits: plan.iter().copied().collect(), ..Model::default() };
        let mut tickets: Vec<Ticket> = Vec::new();
        let mut time = start;

        for step in steps {
            match step {
                Step::Reserve(demands) => {
                    let demands: Vec<_> = Dimension::ALL
                        .into_iter()
                        .zip(demands.map(|(min, want)| Demand { min, want }))
                        .collect();
                    let charge = demands
                        .iter()
                        .fold(Charge::new("alice"), |charge, &(d, demand)| charge.demand(d, demand));
                    let lawful = model.reserve(&demands, time);
                    match now(store.reserve(&charge)) {
                        Ok(granted) => {
                            prop_assert_eq!(Some(granted.held()), lawful);
                            tickets.push(granted.into_ticket());
                            for standing in now(store.standings(&"alice".into())).unwrap() {
                                let demanded = charge.demanded(standing.limit().dimension());
                                if let Allowance::AtMost(allowed) = standing.limit().allowance()
                                    && demanded.min > 0
                                {
                                    let sum = standing.used() + standing.reserved();
                                    prop_assert!(sum <= allowed, "{sum} of {allowed} after admission");
                                }
                            }
                        }
                        Err(ReserveError::Denied(denied)) => {
                            prop_assert_eq!(None, lawful, "{}", denied);
                            let demanded = charge.demanded(denied.dimension());
                            prop_assert!(denied.remaining() < demanded.min);
                        }
                        Err(error) => prop_assert!(false, "{error}"),
                    }
                }
                Step::Settle(index, used) if !tickets.is_empty() => {
                    let index = index.index(tickets.len());
                    let (used, reservation) = (amounts(used), &mut model.reservations[index]);
                    let lawful = match reservation.used {
                        Some(_) => Settled::AlreadySettled,
                        None if reservation.is_held(time) => Settled::Applied {
                            overshoot: used.saturating_sub(reservation.held),
                        },
                        None => Settled::Applied { overshoot: used },
                    };
                    if reservation.used.is_none() {
                        reservation.used = Some(used);
                    }
                    prop_assert_eq!(now(store.settle(&tickets[index], used)).unwrap(), lawful);
                }
                Step::Release(index) if !tickets.is_empty() => {
                    let index = index.index(tickets.len());
                    let reservation = &mut model.reservations[index];
                    let lawful = if reservation.is_held(time) { Released::Applied } else { Released::NotHeld };
                    reservation.given_back |= reservation.is_held(time);
                    prop_assert_eq!(now(store.release(&tickets[index])).unwrap(), lawful);
                }
                Step::Renew(index) if !tickets.is_empty() => {
                    let index = index.index(tickets.len());
                    let reservation = &mut model.reservations[index];
                    let lawful = if reservation.is_held(time) {
                        reservation.lease_end = time + LEASE;
                        Renewed::Applied
                    } else {
                        Renewed::NotHeld
                    };
                    prop_assert_eq!(now(store.renew(&tickets[index])).unwrap(), lawful);
                }
                Step::Wait(seconds) => {
                    time = (time + Duration::from_secs(seconds)).min(start + SPAN);
                    clock.set(time);
                }
                Step::Limit(limits) => {
                    let own = Limits::new(limits).unwrap();
                    let terms = now(store.terms(&"alice".into())).unwrap();
                    let set = store.set_terms(&"alice".into(), terms.limits(own.clone()));
                    prop_assert!(now(set).unwrap());
                    model.limits = plan.overridden_by(&own).iter().copied().collect();
                }
                Step::Settle(..) | Step::Release(_) | Step::Renew(_) => {}
            }
            for standing in now(store.standings(&"alice".into())).unwrap() {
                let limit = standing.limit();
                prop_assert_eq!(standing.used(), model.used(&limit, time), "used of {:?}", limit);
                prop_assert_eq!(standing.reserved(), model.reserved(&limit, time), "reserved of {:?}", limit);
            }
        }
    }
}
