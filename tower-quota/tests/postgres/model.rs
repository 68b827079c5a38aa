//! Gateways that come and go, and a model: the store in memory, which agrees with a naive one (`tests/store.rs`).

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use proptest::{collection::vec, prelude::*, sample::Index, test_runner::TestRunner};
use tokio::runtime::Runtime;
use tower_quota::{
    Allowance, Amounts, Charge, Demand, Dimension, Grant, Limit, Limits, MemoryStore, Plans,
    PostgresStore, QuotaStore, ReserveError, Settled, Subject, Terms, Ticket, TimeZone, Window,
    laws,
};

use crate::support::Database;

/// How often something was counted without a reservation, in all trials.
static COUNTED: AtomicU64 = AtomicU64::new(1);

/// 2026-03-28T12:00:00Z: half a day before a day that has 23 hours in Berlin, three before the end of a month.
const NOON: u64 = 1_774_699_200_000;

/// As long as neither forgets anything but what is settled.
const SPAN: u64 = 24 * 60 * 60 - 1;

const LEASE: Duration = Duration::from_secs(600);

#[derive(Clone, Debug)]
enum Step {
    Reserve(Index, [(u64, u64); 3]),
    Settle(Index, [u64; 3]),
    Release(Index),
    Renew(Index),
    AddUsed(Index, u64, u64),
    Wait(u64),
    Back(u64),
    Limit(Index, Vec<Limit>),
    Grant(Index, u64, u64),
    Plan(Index, bool),
    Zone(Index, Index),
    /// A gateway dies, and another begins.
    Crash(usize),
}

fn limits() -> impl Strategy<Value = Vec<Limit>> {
    let dimension = prop::sample::select(Dimension::ALL.to_vec());
    let window = prop::sample::select(Window::ALL.to_vec());
    let allowance = prop_oneof![
        8 => (0..200_u64).prop_map(Allowance::AtMost),
        1 => Just(Allowance::AtMost(u64::MAX)),
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
    let index = any::<Index>;
    let demand = || (0..30_u64, prop_oneof![9 => 0..60_u64, 1 => Just(u64::MAX)]);
    let used = || prop_oneof![9 => 0..80_u64, 1 => Just(u64::MAX / 2)];
    prop_oneof![
        8 => (index(), demand(), demand(), demand())
            .prop_map(|(i, a, b, c)| Step::Reserve(i, [a, b, c])),
        6 => (index(), [used(), used(), used()]).prop_map(|(i, used)| Step::Settle(i, used)),
        2 => index().prop_map(Step::Release),
        2 => index().prop_map(Step::Renew),
        2 => (index(), 0..100_000_u64, 0..50_u64).prop_map(|(i, a, u)| Step::AddUsed(i, a, u)),
        3 => (0..1_200_u64).prop_map(Step::Wait),
        2 => (0..20_000_u64).prop_map(Step::Wait),
        1 => prop_oneof![0..100_u64, 0..40_000_u64].prop_map(Step::Back),
        1 => (index(), limits()).prop_map(|(i, limits)| Step::Limit(i, limits)),
        1 => (index(), 0..100_u64, 0..5_000_u64).prop_map(|(i, a, s)| Step::Grant(i, a, s)),
        1 => (index(), any::<bool>()).prop_map(|(i, is_pro)| Step::Plan(i, is_pro)),
        3 => (index(), index()).prop_map(|(i, zone)| Step::Zone(i, zone)),
        1 => (0..2_usize).prop_map(Step::Crash),
    ]
}

fn amounts([tokens, nano_usd, calls]: [u64; 3]) -> Amounts {
    Amounts::new()
        .tokens(tokens)
        .nano_usd(nano_usd)
        .calls(calls)
}

/// Two gateways before one database, and what they have to agree with.
struct Trial {
    url: String,
    plans: Plans,
    clock: Arc<laws::TestClock>,
    seconds: u64,
    latest: u64,
    gateways: [PostgresStore; 2],
    model: MemoryStore,
    subjects: Vec<Subject>,
    /// The gateways' and the model's.
    tickets: Vec<(Ticket, Ticket)>,
}

impl Trial {
    async fn new(url: &str, plans: Plans) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);

        // The database is of all cases.
        let case = NEXT.fetch_add(1, Ordering::SeqCst);
        let org = format!("org {case}");
        let team = Subject::new("team").under(&*org);
        let alice = Subject::new("alice").under("team").under(&*org);
        let bob = Subject::new("bob").under(&*org);
        let start = UNIX_EPOCH + Duration::from_millis(NOON);
        let clock = Arc::new(laws::TestClock::new(start));
        let model = MemoryStore::new(plans.clone()).lease(LEASE);
        let connect = || connect(url, &plans, &clock);
        let trial = Self {
            gateways: [connect().await, connect().await],
            model: model.clock(clock.clone()),
            url: url.to_owned(),
            plans,
            clock,
            seconds: 0,
            latest: 0,
            subjects: vec![alice, bob, team, org.into(), format!("alone {case}").into()],
            tickets: Vec::new(),
        };
        // The model forgets what is zero when another family begins: none does from here on.
        for subject in &trial.subjects[3..] {
            trial.change(0, subject, |terms| terms).await;
        }
        trial
    }

    fn set_clock(&mut self, seconds: u64) {
        self.seconds = seconds.min(SPAN);
        self.latest = self.latest.max(self.seconds);
        self.clock
            .set(UNIX_EPOCH + Duration::from_millis(NOON) + Duration::from_secs(self.seconds));
    }

    fn subject(&self, index: Index) -> Subject {
        index.get(&self.subjects).clone()
    }

    async fn change(&self, n: usize, subject: &Subject, change: impl Fn(Terms) -> Terms) {
        for store in [&self.gateways[n] as &dyn QuotaStore, &self.model] {
            let terms = store.terms(subject).await.unwrap();
            assert!(store.set_terms(subject, change(terms)).await.unwrap());
        }
    }

    async fn run(&mut self, n: usize, step: Step) {
        let gateway = self.gateways[n].clone();
        match step {
            Step::Reserve(index, demands) => {
                let charge = Dimension::ALL.into_iter().zip(demands).fold(
                    Charge::new(self.subject(index)),
                    |charge, (d, (min, want))| charge.demand(d, Demand { min, want }),
                );
                match (
                    gateway.reserve(&charge).await,
                    self.model.reserve(&charge).await,
                ) {
                    (Ok(granted), Ok(lawful)) => {
                        assert_eq!(granted.held(), lawful.held());
                        let (ticket, same) = (granted.into_ticket(), lawful.into_ticket());
                        assert_eq!(ticket.admitted_at(), same.admitted_at());
                        self.tickets.push((ticket, same));
                    }
                    (Err(ReserveError::Denied(denied)), Err(ReserveError::Denied(lawful))) => {
                        assert_eq!(denied, lawful);
                    }
                    (found, lawful) => panic!("{found:?}, not {lawful:?}"),
                }
            }
            Step::Settle(index, used) if !self.tickets.is_empty() => {
                let (ticket, same) = index.get(&self.tickets);
                let found = gateway.settle(ticket, amounts(used)).await.unwrap();
                let lawful = self.model.settle(same, amounts(used)).await.unwrap();
                // The model remembers what is settled by number, not by time. By a clock that was set back, what is
                // forgotten was never made.
                let may_be_forgotten = lawful == Settled::AlreadySettled && self.latest >= 3_600;
                let is_forgotten = matches!(found, Settled::Forgotten | Settled::Unknown);
                assert!(
                    found == lawful || may_be_forgotten && is_forgotten,
                    "{found:?}, not {lawful:?}"
                );
            }
            Step::Release(index) if !self.tickets.is_empty() => {
                let (ticket, same) = index.get(&self.tickets);
                let found = gateway.release(ticket).await.unwrap();
                assert_eq!(found, self.model.release(same).await.unwrap());
            }
            Step::Renew(index) if !self.tickets.is_empty() => {
                let (ticket, same) = index.get(&self.tickets);
                let found = gateway.renew(ticket).await.unwrap();
                assert_eq!(found, self.model.renew(same).await.unwrap());
            }
            Step::Settle(..) | Step::Release(_) | Step::Renew(_) => {}
            Step::AddUsed(index, seconds, used) => {
                let now = UNIX_EPOCH + Duration::from_millis(NOON);
                let at = now + Duration::from_secs(self.seconds) - Duration::from_secs(seconds);
                let (subject, used) = (self.subject(index), amounts([used, 0, 1]));
                let id = COUNTED.fetch_add(1, Ordering::Relaxed);
                let ticket = Ticket::new(id.into(), subject.clone(), at);
                for _ in 0..2 {
                    gateway.count(&ticket, used).await.unwrap();
                }
                self.model.add_used(&subject, at, used);
            }
            Step::Wait(seconds) => self.set_clock(self.seconds + seconds),
            Step::Back(seconds) => self.set_clock(self.seconds.saturating_sub(seconds)),
            Step::Limit(index, limits) => {
                let limits = Limits::new(limits).unwrap();
                self.change(n, index.get(&self.subjects), |terms| {
                    terms.limits(limits.clone())
                })
                .await;
            }
            Step::Grant(index, amount, seconds) => {
                let until = Duration::from_secs(self.seconds + seconds);
                let until = UNIX_EPOCH + Duration::from_millis(NOON) + until;
                let grant = Grant::new(Dimension::Tokens, Window::Day, amount, until);
                self.change(n, index.get(&self.subjects), |terms| terms.grant(grant))
                    .await;
            }
            Step::Plan(index, is_pro) => {
                let name = if is_pro { "pro" } else { "unheard of" };
                self.change(n, index.get(&self.subjects), |terms| terms.plan(name))
                    .await;
            }
            Step::Zone(index, zone) => {
                let zone = zone.get(&["Europe/Berlin", "Asia/Kolkata", "Pacific/Honolulu", "UTC"]);
                let zone = TimeZone::named(zone).unwrap();
                self.change(n, index.get(&self.subjects), |terms| {
                    terms.time_zone(zone.clone())
                })
                .await;
            }
            Step::Crash(which) => {
                self.gateways[which] = connect(&self.url, &self.plans, &self.clock).await;
            }
        }
        for subject in &self.subjects {
            let found = gateway.standings(subject).await.unwrap();
            assert_eq!(
                found,
                self.model.standings(subject).await.unwrap(),
                "{subject:?}"
            );
        }
    }
}

async fn connect(url: &str, plans: &Plans, clock: &Arc<laws::TestClock>) -> PostgresStore {
    let store = PostgresStore::connect(url, plans.clone()).await.unwrap();
    let store = store.lease(LEASE).connections(2);
    store.clock(clock.clone()).timeout(Duration::from_secs(30))
}

#[test]
fn agrees_with_the_store_in_memory() {
    let runtime = Runtime::new().unwrap();
    let Some(database) = runtime.block_on(Database::new()) else {
        return;
    };
    let cases = std::env::var("PROPTEST_CASES").ok();
    let mut runner = TestRunner::new(ProptestConfig {
        cases: cases.map_or(24, |cases| cases.parse().unwrap()),
        failure_persistence: None,
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    });
    let steps = vec((0..2_usize, step()), 1..50);
    runner
        .run(&(limits(), limits(), steps), |(plan, pro, steps)| {
            let [plan, pro] = [plan, pro].map(|limits| Limits::new(limits).unwrap());
            let plans = Plans::new(plan).named("pro", pro);
            runtime.block_on(async {
                let mut trial = Trial::new(&database.url, plans).await;
                for (n, step) in steps {
                    trial.run(n, step).await;
                }
            });
            Ok(())
        })
        .unwrap();
    runtime.block_on(database.end());
}
