//! People who come while others are at work.

#![expect(clippy::print_stdout, reason = "the times are for people")]

use std::{
    env, fs,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures_util::future::{join_all, try_join_all};
use gateway_tests::{
    error::Result,
    gateway::{Config, Gateway},
    kit::Kit,
    openclaw::OpenClaw,
    person::{Person, Socket},
    secret,
};
use tokio::time::{Instant, sleep};

/// Somebody new makes OpenClaw read its configuration anew, and that ends a run which it is just preparing. Whoever is at
/// work must not notice. On an instance of its own: only the first run of an agent is prepared for so long that the two
/// are sure to meet.
#[tokio::test]
async fn somebody_new_disturbs_nobody_who_is_at_work() -> Result<()> {
    let mut kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let openclaw = dir.path().join("openclaw");
    fs::create_dir(&openclaw).expect("a directory");
    kit.openclaw_password = secret::random()?;
    let instance = OpenClaw::start(kit.install.clone(), &openclaw, &kit.openclaw_password).await?;
    kit.openclaw = instance.url();
    let gateway = Gateway::start(Config::new(&kit, dir.path())?, dir.path()).await?;

    let mut at_work = Person::sign_in(&kit, "alice", &gateway)
        .await?
        .open()
        .await?;
    for newcomer in ["bob", "admin"] {
        let newcomer = Person::sign_in(&kit, newcomer, &gateway).await?;
        let run_id = at_work.start("the first message").await?;
        let (turn, opened) = tokio::join!(at_work.end_of(&run_id), newcomer.open());
        let turn = turn?;
        assert_eq!(turn.state, "final", "{}", turn.text);
        // Who was new is the one at work when the next one comes.
        at_work = opened?;
    }
    let turn = at_work.turn("the first message").await?;
    assert_eq!(turn.state, "final", "{}", turn.text);
    Ok(())
}

/// How long the last of many who come at once may wait.
const PATIENCE: Duration = Duration::from_secs(120);

async fn open(person: &Person) -> Result<Socket> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match person.open().await {
            // As the answer says: try again soon.
            Err(_) if Instant::now() < deadline => sleep(Duration::from_millis(500)).await,
            opened => return opened,
        }
    }
}

/// A hundred people (`ARRIVALS`) who come at the same moment, while two others are at work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_arrive_at_once_and_nobody_is_disturbed() -> Result<()> {
    let count = env::var("ARRIVALS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(100);
    let mut kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let openclaw = dir.path().join("openclaw");
    fs::create_dir(&openclaw).expect("a directory");
    kit.openclaw_password = secret::random()?;
    let instance = OpenClaw::start(kit.install.clone(), &openclaw, &kit.openclaw_password).await?;
    kit.openclaw = instance.url();
    let gateway = Gateway::start(Config::new(&kit, dir.path())?, dir.path()).await?;
    let mut people = Vec::new();
    for n in 0..count {
        people.push(Person::sign_in(&kit, &format!("newcomer-{n}"), &gateway).await?);
    }

    let mut at_work = Vec::new();
    for name in ["alice", "bob"] {
        let mut socket = Person::sign_in(&kit, name, &gateway).await?.open().await?;
        assert_eq!(socket.turn("good morning").await?.state, "final");
        at_work.push(socket);
    }
    let arrived = AtomicBool::new(false);
    let working = join_all(at_work.iter_mut().map(async |socket| {
        let mut turns = 0;
        while !arrived.load(Ordering::Relaxed) {
            let turn = socket
                .turn("at work [[words=10]] [[chunk_delay=20]]")
                .await?;
            assert_eq!(turn.state, "final", "{}", turn.text);
            turns += 1;
        }
        Ok::<_, gateway_tests::error::Error>(turns)
    }));
    let arriving = async {
        let begin = Instant::now();
        let opening = people.iter().map(async |person| {
            let socket = open(person).await?;
            Ok::<_, gateway_tests::error::Error>((begin.elapsed(), socket))
        });
        let opened = try_join_all(opening).await;
        arrived.store(true, Ordering::Relaxed);
        opened
    };
    let (turns, opened) = tokio::join!(working, arriving);
    let (mut times, mut sockets): (Vec<_>, Vec<_>) = opened?.into_iter().unzip();
    let turns = turns.into_iter().collect::<Result<Vec<i32>>>()?;
    times.sort();
    let at = |part: usize| times.get(times.len() * part / 100).or(times.last());
    println!(
        "\n{count} arrived at once; usable agent after: half {:?}, 95 % {:?}, all {:?}",
        at(50),
        at(95),
        times.last()
    );
    println!("  meanwhile two at work had {turns:?} turns, all of them whole");
    assert!(
        times.last().is_some_and(|last| *last < PATIENCE),
        "{times:?}"
    );

    let begin = Instant::now();
    let some: Vec<_> = sockets.drain(..sockets.len().min(10)).collect();
    let talked = some.into_iter().map(async |mut socket| {
        socket.ws = socket.ws.with_limit(Duration::from_secs(180));
        socket.turn("hello").await
    });
    for turn in try_join_all(talked).await? {
        assert_eq!(turn.state, "final", "{}", turn.text);
    }
    println!(
        "  ten of them had their first reply after {:?}",
        begin.elapsed()
    );
    Ok(())
}
