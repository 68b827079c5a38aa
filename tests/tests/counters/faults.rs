//! What becomes of counters when gateways, Redis and Postgres die, hang and forget.
//!
//! `FAULT_ROUNDS` (default 1) says how often each fault happens; `tests/run --soak` sets it.

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use ::http::StatusCode;
use gateway_tests::{error::Result, http, kit::Kit, postgres::Postgres, redis::Redis, secret};
use rustix::process::Signal;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::fleet::{Caller, Fleet};

/// What happens in the middle of the traffic.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// `kill -9` of a gateway, whatever it is at.
    KillGateway,
    /// A gateway is stopped in order and started again.
    RestartGateway,
    /// A gateway hangs for five seconds.
    HangGateway,
    /// `kill -9` of Redis, which has nothing on disk.
    KillRedis,
    /// Redis hangs for five seconds.
    HangRedis,
    /// Redis is emptied.
    Flush,
    /// Redis forgets the scripts.
    FlushScripts,
    /// `kill -9` of Postgres.
    KillPostgres,
    /// Postgres hangs for five seconds.
    HangPostgres,
}

/// What becomes of who cannot be counted.
#[derive(Clone, Copy, PartialEq)]
enum Policy {
    Closed,
    Open,
}

/// Everything that can break.
struct World {
    policy: Policy,
    fleet: Fleet,
    redis: Option<Redis>,
    postgres: Postgres,
}

/// What was answered.
#[derive(Default)]
struct Answers {
    stop: AtomicBool,
    admitted: AtomicU64,
    over: AtomicU64,
    unchecked: AtomicU64,
    absent: AtomicU64,
}

const HANG: Duration = Duration::from_secs(5);

/// What each person may use: most of it before the traffic ends, unless nobody is let in.
const TOKENS: u64 = 150;

/// A call of one token: whatever is held for it, it uses no more.
const MOST: u64 = 1;
const CALL: &str = "[[in=1]] [[out=0]] [[sleep=15]]";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d5_49_counters_in_redis_are_the_ledgers_after_every_fault() -> Result<()> {
    let faults = [
        Fault::KillGateway,
        Fault::RestartGateway,
        Fault::HangGateway,
        Fault::KillRedis,
        Fault::HangRedis,
        Fault::FlushScripts,
        Fault::Flush,
        Fault::KillPostgres,
    ];
    run(true, Policy::Closed, &faults).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d5_49_counters_in_postgres_are_the_ledgers_after_every_fault() -> Result<()> {
    let faults = [Fault::KillGateway, Fault::KillPostgres, Fault::HangPostgres];
    run(false, Policy::Closed, &faults).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d5_49_what_open_counters_let_through_is_counted_afterwards() -> Result<()> {
    run(true, Policy::Open, &[Fault::HangRedis, Fault::KillRedis]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d5_49_what_is_held_when_redis_is_emptied_is_held_afterwards() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let redis = Redis::start(dir.path()).await?;
    let url = redis.url();
    let mut fleet = Fleet::start(&kit, TOKENS, &kit.database().await?, Some(&url), "").await?;
    let name = format!("{}-held", secret::mark()?);
    fleet.person(&name).await;
    let long = fleet.caller(0, &name);
    let long = tokio::spawn(async move {
        // All that is left is held for it.
        long.decided("[[in=10]] [[out=0]] [[sleep=6000]]", TOKENS)
            .await
    });
    sleep(Duration::from_secs(1)).await;
    redis.command(&["FLUSHALL"]).await?;
    sleep(Duration::from_millis(500)).await;
    for gateway in &mut fleet.gateways {
        gateway.ready().await?;
    }
    assert!(!long.is_finished());
    for n in 0..3 {
        let other = fleet.caller(n, &name).decided(CALL, MOST).await;
        assert_eq!(other, StatusCode::TOO_MANY_REQUESTS, "nothing is left");
    }
    assert_eq!(long.await.expect("an answer"), StatusCode::OK);
    let deadline = Instant::now() + Duration::from_secs(10);
    while fleet.standing(&kit, 1, &name).await? != (10, 0) {
        assert!(Instant::now() < deadline, "it is settled once");
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(
        fleet.caller(2, &name).decided(CALL, MOST).await,
        StatusCode::OK
    );
    Ok(())
}

async fn run(with_redis: bool, policy: Policy, faults: &[Fault]) -> Result<()> {
    let rounds = env::var("FAULT_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let postgres = Postgres::start(dir.path()).await?;
    let redis = match with_redis {
        true => Some(Redis::start(dir.path()).await?),
        false => None,
    };
    let url = redis.as_ref().map(Redis::url);
    let more = match policy {
        Policy::Closed => "",
        Policy::Open => "\n[quota]\non_store_failure = \"open\"\n",
    };
    let fleet = Fleet::start(&kit, TOKENS, &postgres.url(), url.as_deref(), more).await?;
    let mut world = World {
        policy,
        fleet,
        redis,
        postgres,
    };
    for round in 0..rounds.unwrap_or(1) {
        for fault in faults {
            world.round(&kit, round, *fault).await?;
        }
    }
    Ok(())
}

// === impl World ===

impl World {
    async fn round(&mut self, kit: &Kit, round: u64, fault: Fault) -> Result<()> {
        let mark = secret::mark()?;
        let people: Vec<_> = (0..3).map(|n| format!("{mark}-{n}")).collect();
        self.fleet.connect(&self.postgres.url()).await;
        for name in &people {
            self.fleet.person(name).await;
        }
        let mut before = self.fleet.questions().await;
        let answers = Arc::new(Answers::default());
        let mut traffic = JoinSet::new();
        for worker in 0..9 {
            // Of nine each uses another gateway for another person.
            let call = self.fleet.caller(worker % 3, &people[worker / 3]);
            traffic.spawn(talk(call, Arc::clone(&answers)));
        }
        sleep(Duration::from_millis(300)).await;
        self.happen(fault, round).await?;
        sleep(Duration::from_millis(700)).await;
        let healed = Instant::now();
        for gateway in &mut self.fleet.gateways {
            gateway.ready().await?;
        }
        let healed = healed.elapsed();
        let fresh = format!("{mark}-fresh");
        self.fleet.connect(&self.postgres.url()).await;
        self.fleet.person(&fresh).await;
        for gateway in 0..3 {
            let caller = self.fleet.caller(gateway, &fresh);
            let status = caller.decided(CALL, MOST).await;
            assert_eq!(status, StatusCode::OK, "it goes on");
        }
        // Whoever is not over their limit gets on.
        sleep(Duration::from_secs(1)).await;
        answers.stop.store(true, Relaxed);
        traffic.join_all().await;
        if matches!(fault, Fault::KillGateway | Fault::RestartGateway) {
            // That one has begun anew.
            before[usize::try_from(round).unwrap_or(0) % 3] = (0, 0);
        }
        let questions = self.fleet.questions().await.into_iter().zip(before);
        let questions = questions.map(|((asked, late), before)| {
            (
                asked.saturating_sub(before.0),
                late.saturating_sub(before.1),
            )
        });
        let questions: Vec<_> = questions.collect();
        let (used, calls, estimated) = self.compare(kit, fault, &mark, &people).await?;
        let of = |count: &AtomicU64| count.load(Relaxed);
        println!(
            "{fault:?}, round {round}: {} admitted, {} over, {} unchecked, {} without a gateway; used {used:?} of {TOKENS}, \
             {calls} calls at the provider, {estimated} estimated; ready after {healed:.1?}; questions, and those above 300 ms: {questions:?}",
            of(&answers.admitted),
            of(&answers.over),
            of(&answers.unchecked),
            of(&answers.absent),
        );
        // One that hangs is late with what it was at. A machine that stands still for a moment may make one of a thousand
        // late.
        let hung = matches!(fault, Fault::HangGateway);
        let questions = questions.iter().skip(usize::from(hung));
        let in_time = questions
            .clone()
            .all(|(asked, late)| *asked > 0 && *late <= asked / 1_000);
        assert!(in_time, "{questions:?}");
        assert!(of(&answers.admitted) > 0);
        if self.policy == Policy::Open {
            assert_eq!(of(&answers.unchecked), 0);
        }
        Ok(())
    }

    async fn happen(&mut self, fault: Fault, round: u64) -> Result<()> {
        let redis = self.redis.as_mut();
        match fault {
            Fault::KillGateway => {
                let gateways = &mut self.fleet.gateways;
                let which = usize::try_from(round).unwrap_or(0) % gateways.len();
                gateways[which].kill9().await?;
                sleep(Duration::from_millis(300)).await;
                gateways[which].start_again().await?;
            }
            Fault::RestartGateway => {
                let gateways = &mut self.fleet.gateways;
                let which = usize::try_from(round).unwrap_or(0) % gateways.len();
                gateways[which].restart().await?;
            }
            Fault::HangGateway => {
                let gateway = &self.fleet.gateways[0];
                gateway.signal(Signal::STOP);
                sleep(HANG).await;
                gateway.signal(Signal::CONT);
            }
            Fault::KillRedis => {
                let redis = redis.expect("with Redis");
                redis.kill().await?;
                sleep(Duration::from_secs(1)).await;
                redis.start_again().await?;
            }
            Fault::HangRedis => {
                let process = redis.expect("with Redis").process();
                process.signal(Signal::STOP);
                sleep(HANG).await;
                for gateway in &self.fleet.gateways {
                    let ready = http::get(&gateway.url("/readyz"), None).await?;
                    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
                    assert!(ready.text().contains("quota_store"), "{}", ready.text());
                }
                process.signal(Signal::CONT);
            }
            Fault::Flush => redis.expect("with Redis").command(&["FLUSHALL"]).await?,
            Fault::FlushScripts => {
                let redis = redis.expect("with Redis");
                redis.command(&["SCRIPT", "FLUSH"]).await?;
            }
            Fault::KillPostgres => {
                self.postgres.kill().await?;
                self.postgres.start_again().await?;
            }
            Fault::HangPostgres => {
                self.postgres.signal(Signal::STOP)?;
                sleep(HANG).await;
                self.postgres.signal(Signal::CONT)?;
            }
        }
        Ok(())
    }

    /// Counters are what the ledgers say, and the ledgers what the provider's log says.
    async fn compare(
        &self,
        kit: &Kit,
        fault: Fault,
        mark: &str,
        people: &[String],
    ) -> Result<(Vec<u64>, usize, usize)> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let rows = loop {
            let rows = self.fleet.rows(mark);
            if rows.values().all(|row| row.settled == 1) {
                break rows;
            }
            assert!(Instant::now() < deadline, "records are not settled");
            sleep(Duration::from_millis(100)).await;
        };
        let mut all = Vec::new();
        for (n, name) in people.iter().enumerate() {
            let of_person = rows.values().filter(|row| row.user == *name);
            let in_ledgers: u64 = of_person.map(|row| row.tokens).sum();
            let mut standing = self.fleet.standing(kit, n % 3, name).await?;
            // What was reserved by a gateway that died before it wrote it down is held until its lease ends.
            let is_leased = matches!(fault, Fault::KillGateway);
            let deadline = Instant::now() + Duration::from_secs(20);
            while !is_leased && standing.1 > 0 && Instant::now() < deadline {
                sleep(Duration::from_millis(200)).await;
                standing = self.fleet.standing(kit, n % 3, name).await?;
            }
            let (used, held) = standing;
            assert!(is_leased || held == 0, "{name}: {held} for nobody");
            assert_eq!(used, in_ledgers, "{name}: counters and ledgers");
            let guessed = rows
                .values()
                .filter(|row| row.user == *name && row.source != "exact");
            // A call uses no more than is held for it, but what is guessed of one that was cut off may be more.
            let guessed: u64 = guessed.map(|row| row.tokens).sum();
            let is_over = self.policy == Policy::Closed && used > TOKENS + guessed;
            assert!(!is_over, "{name}: {used} of {TOKENS} and {guessed}");
            all.push(used);
        }
        let calls = kit.provider().calls_about(mark).await?;
        for call in &calls {
            let id = call.client_request_id.as_deref().unwrap_or_default();
            let row = rows.get(&id.replace('-', ""));
            let row = row.unwrap_or_else(|| panic!("a call that no ledger knows: {call:?}"));
            if row.source == "exact" {
                let billed = call.prompt_tokens + call.completion_tokens;
                assert_eq!(row.tokens, billed, "{call:?}");
            }
        }
        let estimated = rows.values().filter(|row| row.source != "exact").count();
        assert!(rows.len() - estimated <= calls.len(), "an invented call");
        Ok((all, calls.len(), estimated))
    }
}

/// Calls one after another, until it is told to stop.
async fn talk(call: Caller, answers: Arc<Answers>) {
    while !answers.stop.load(Relaxed) {
        let answer = call.call(CALL, MOST).await;
        let count = match answer.map(|answer| answer.status) {
            Some(StatusCode::OK) => &answers.admitted,
            Some(StatusCode::TOO_MANY_REQUESTS) => &answers.over,
            Some(StatusCode::SERVICE_UNAVAILABLE) => &answers.unchecked,
            _ => &answers.absent,
        };
        count.fetch_add(1, Relaxed);
        // A little slower than as fast as can be, so that something is left when it happens.
        sleep(Duration::from_millis(30)).await;
    }
}
