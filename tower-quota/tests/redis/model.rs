//! Whatever happens in whatever order, the store answers as the one in memory does, which agrees with a naive model.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use proptest::{collection::vec, prelude::*};
use tower_quota::{
    Allowance, Amounts, Charge, Demand, Dimension, Grant, Limit, Limits, MemoryStore, QuotaStore,
    RedisStore, ReserveError, Subject, Ticket, Window, laws,
};

use crate::support::{builder, prefix, url};

/// 2026-03-31T12:00:00Z: half a day before a day and a month end.
const NOON: u64 = 1_774_958_400_000;

/// As long as both remember everything.
const SPAN: Duration = Duration::from_secs(24 * 60 * 60 - 1);

const LEASE: Duration = Duration::from_secs(600);

#[derive(Clone, Debug)]
enum Step {
    Reserve(usize, [(u64, u64); 3]),
    Settle(prop::sample::Index, [u64; 3]),
    Release(prop::sample::Index),
    Renew(prop::sample::Index),
    /// Long enough, and whoever holds something is as good as dead.
    Wait(u64),
    Limit(usize, Vec<Limit>),
    Grant(usize, Dimension, Window, u64),
}

fn subjects() -> [Subject; 5] {
    let under = |name: &str| Subject::new(name).under("team").under("org");
    [
        Subject::new("org"),
        Subject::new("team").under("org"),
        under("alice"),
        under("bob"),
        Subject::new("alice"),
    ]
}

fn window() -> impl Strategy<Value = Window> {
    prop::sample::select(Window::ALL.to_vec())
}

fn dimension() -> impl Strategy<Value = Dimension> {
    prop::sample::select(Dimension::ALL.to_vec())
}

/// Small ones, and those at the end of what there is.
fn amount(most: u64) -> impl Strategy<Value = u64> {
    prop_oneof![
        12 => 0..most,
        1 => (0..3_u64).prop_map(|n| u64::MAX - n),
        1 => ((1_u64 << 32) - 2)..((1 << 32) + 2),
    ]
}

fn limits() -> impl Strategy<Value = Vec<Limit>> {
    let allowance = prop_oneof![
        8 => amount(200).prop_map(Allowance::AtMost),
        1 => Just(Allowance::Unlimited),
    ];
    vec((dimension(), window(), allowance), 0..6).prop_map(|limits| {
        let mut distinct: Vec<Limit> = Vec::new();
        for (dimension, window, allowance) in limits {
            distinct.retain(|l| (l.dimension(), l.window()) != (dimension, window));
            distinct.push(Limit::new(dimension, window, allowance));
        }
        distinct
    })
}

fn step() -> impl Strategy<Value = Step> {
    let who = || 0..subjects().len();
    let demand = || (amount(30), amount(60));
    let index = any::<prop::sample::Index>;
    prop_oneof![
        8 => (who(), (demand(), demand(), demand())).prop_map(|(who, (a, b, c))| Step::Reserve(who, [a, b, c])),
        6 => (index(), [amount(80), amount(80), amount(80)]).prop_map(|(i, used)| Step::Settle(i, used)),
        2 => index().prop_map(Step::Release),
        2 => index().prop_map(Step::Renew),
        3 => (0..1_200_000_u64).prop_map(Step::Wait),
        1 => (0..40_000_000_u64).prop_map(Step::Wait),
        1 => (who(), limits()).prop_map(|(who, limits)| Step::Limit(who, limits)),
        1 => (who(), dimension(), window(), amount(50))
            .prop_map(|(who, dimension, window, more)| Step::Grant(who, dimension, window, more)),
    ]
}

fn amounts([tokens, nano_usd, calls]: [u64; 3]) -> Amounts {
    Amounts::new()
        .tokens(tokens)
        .nano_usd(nano_usd)
        .calls(calls)
}

/// Does the same to both.
struct Pair {
    memory: MemoryStore,
    /// Three before one server.
    redis: [RedisStore; 3],
    turn: usize,
    clock: Arc<laws::TestClock>,
    time: SystemTime,
    tickets: Vec<(Ticket, Ticket)>,
}

impl Pair {
    async fn new(url: &str, plan: Limits) -> Self {
        let time = UNIX_EPOCH + Duration::from_millis(NOON);
        let (clock, prefix) = (Arc::new(laws::TestClock::new(time)), prefix());
        let connect = async || {
            let builder = builder(plan.clone()).prefix(&prefix).lease(LEASE);
            builder.clock(clock.clone()).connect(url).await.unwrap()
        };
        Self {
            redis: [connect().await, connect().await, connect().await],
            memory: MemoryStore::new(plan.clone())
                .lease(LEASE)
                .clock(clock.clone()),
            turn: 0,
            clock,
            time,
            tickets: Vec::new(),
        }
    }

    fn redis(&mut self) -> RedisStore {
        self.turn += 1;
        self.redis[self.turn % 3].clone()
    }

    async fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        let redis = self.redis();
        match step {
            Step::Reserve(who, demands) => {
                let charge = Dimension::ALL.into_iter().zip(demands).fold(
                    Charge::new(subjects()[who].clone()),
                    |charge, (dimension, (min, want))| {
                        charge.demand(dimension, Demand { min, want })
                    },
                );
                match (
                    self.memory.reserve(&charge).await,
                    redis.reserve(&charge).await,
                ) {
                    (Ok(lawful), Ok(granted)) => {
                        prop_assert_eq!(granted.held(), lawful.held());
                        prop_assert_eq!(granted.ticket().admitted_at(), self.time);
                        self.tickets
                            .push((lawful.into_ticket(), granted.into_ticket()));
                    }
                    (Err(ReserveError::Denied(lawful)), Err(ReserveError::Denied(denied))) => {
                        prop_assert_eq!(denied, lawful);
                    }
                    (lawful, answer) => prop_assert!(false, "{answer:?}, not {lawful:?}"),
                }
            }
            Step::Wait(ms) => {
                let end = UNIX_EPOCH + Duration::from_millis(NOON) + SPAN;
                self.time = (self.time + Duration::from_millis(ms)).min(end);
                self.clock.set(self.time);
            }
            Step::Limit(who, limits) => {
                let limits = Limits::new(limits).unwrap();
                self.change(&redis, who, |terms| terms.limits(limits.clone()))
                    .await?;
            }
            Step::Grant(who, dimension, window, more) => {
                let until = self.time + Duration::from_secs(3_600);
                let grant = Grant::new(dimension, window, more, until);
                self.change(&redis, who, |terms| terms.grant(grant)).await?;
            }
            _ if self.tickets.is_empty() => {}
            Step::Settle(index, used) => {
                let (lawful, ticket) = index.get(&self.tickets);
                let lawful = self.memory.settle(lawful, amounts(used)).await.unwrap();
                let settled = redis.settle(ticket, amounts(used)).await.unwrap();
                prop_assert_eq!(settled, lawful);
            }
            Step::Release(index) => {
                let (lawful, ticket) = index.get(&self.tickets);
                let lawful = self.memory.release(lawful).await.unwrap();
                prop_assert_eq!(redis.release(ticket).await.unwrap(), lawful);
            }
            Step::Renew(index) => {
                let (lawful, ticket) = index.get(&self.tickets);
                let lawful = self.memory.renew(lawful).await.unwrap();
                prop_assert_eq!(redis.renew(ticket).await.unwrap(), lawful);
            }
        }
        for subject in subjects() {
            let lawful = self.memory.standings(&subject).await.unwrap();
            let found = redis.standings(&subject).await.unwrap();
            prop_assert_eq!(found, lawful, "{:?}", subject);
        }
        Ok(())
    }

    async fn change(
        &self,
        redis: &RedisStore,
        who: usize,
        change: impl Fn(tower_quota::Terms) -> tower_quota::Terms,
    ) -> Result<(), TestCaseError> {
        let subject = &subjects()[who];
        let lawful = self.memory.terms(subject).await.unwrap();
        let found = redis.terms(subject).await.unwrap();
        prop_assert_eq!(&found, &lawful);
        prop_assert!(
            self.memory
                .set_terms(subject, change(lawful))
                .await
                .unwrap()
        );
        prop_assert!(redis.set_terms(subject, change(found)).await.unwrap());
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("PROPTEST_CASES").map_or(48, |cases| cases.parse().unwrap())
    ))]

    #[test]
    fn agrees_with_the_store_in_memory(plan in limits(), steps in vec(step(), 1..60)) {
        let Some(url) = url() else { return Ok(()) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut pair = Pair::new(&url, Limits::new(plan).unwrap()).await;
            for step in steps {
                pair.step(step).await?;
            }
            Ok::<_, TestCaseError>(())
        })?;
    }
}
