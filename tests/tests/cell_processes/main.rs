//! An OpenClaw of their own for everybody who comes: started, used, stopped when unused, and kept through everything that
//! happens to the gateway or to it.
//!
//! `KILL_ROUNDS` (default 2) and `KILL_SEED` choose how often a gateway or a cell is killed, and which.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]
#![expect(clippy::print_stdout, reason = "the numbers are for people")]

mod disk;
mod gone;
mod hangs;
mod waits;
mod world;

use std::{
    collections::BTreeSet,
    env, fs,
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use gateway_tests::{
    dice::Dice,
    error::Result,
    person::{Person, Socket, connect_params},
    ws::Ws,
};
use rustix::process::Signal;
use serde_json::json;
use tokio::time::{Instant, sleep};

use self::world::{World, history, is_alive, kill, model_calls, open};

/// Between two turns of somebody who works all the time.
const BREATH: Duration = Duration::from_millis(100);

/// After how long an unused one is stopped.
const IDLE: Duration = Duration::from_secs(20);

/// Whether somebody of the system who is `os_user` and nothing else can read a file, or list a directory.
fn can_see(os_user: u32, path: &Path) -> bool {
    let ls = Command::new("ls")
        .arg("-l")
        .arg(path)
        .uid(os_user)
        .gid(os_user)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let cat = Command::new("cat")
        .arg(path)
        .uid(os_user)
        .gid(os_user)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let succeeds = |status: std::io::Result<std::process::ExitStatus>| {
        status.is_ok_and(|status| status.success())
    };
    // `ls` of a file shows that it is there.
    succeeds(cat) || path.is_dir() && succeeds(ls)
}

/// Three people, each with a cell. One test, since its parts build on each other, and since a cell takes half a minute.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_have_cells_of_their_own_that_outlive_the_gateway() -> Result<()> {
    let mut world = World::start(&format!("idle_after = \"{}s\"\nmax = 3", IDLE.as_secs())).await?;
    let names = ["alice", "bob", "carol"];

    // Whoever comes first is told to come again, in OpenClaw's own words.
    let alice = world.person("alice").await?;
    let bearer = format!("Bearer {}", alice.token);
    let mut early =
        Ws::connect(&world.gateway.ws_url("/ws"), &[("authorization", &bearer)]).await?;
    early.event("connect.challenge").await?;
    let refused = early.request("connect", connect_params(&json!({}))).await?;
    assert_eq!(refused["error"]["code"], "UNAVAILABLE", "{refused}");
    assert_eq!(refused["error"]["retryable"], true, "{refused}");
    assert!(
        refused["error"]["retryAfterMs"].as_u64() > Some(0),
        "{refused}"
    );
    assert_eq!(early.closed().await?.0, 1013);

    let begun = Instant::now();
    let (bob, carol) = (world.person("bob").await?, world.person("carol").await?);
    let opened = tokio::try_join!(open(&alice), open(&bob), open(&carol))?;
    println!("three cells after {} s", begun.elapsed().as_secs());
    let mut sockets: [Socket; 3] = opened.into();
    for (name, socket) in names.iter().zip(&mut sockets) {
        let write = format!(
            "[[tool=write {{\"path\": \"note.md\", \"content\": \"kept of {name}\"}}]] remember {name}"
        );
        let turn = socket.turn(&write).await?;
        assert_eq!(turn.state, "final", "{name}: {}", turn.text);
        let note = world.workspace(name).join("note.md");
        assert_eq!(
            fs::read_to_string(&note).unwrap_or_default(),
            format!("kept of {name}"),
            "{}",
            note.display()
        );
    }
    for (person, name) in [&alice, &bob, &carol].into_iter().zip(names) {
        // Two model calls each, and nobody has another's.
        let path = "/api/usage/records";
        let records = person
            .wait_for(path, |it| model_calls(it).len() >= 2)
            .await?;
        let calls = model_calls(&records);
        let user = world.user(name);
        assert_eq!(calls.len(), 2, "{records}");
        assert!(calls.iter().all(|call| call["userId"] == user), "{records}");
        assert!(
            calls.iter().all(|call| call["totalTokens"] == 120),
            "{records}"
        );
    }

    let users: Vec<_> = names.iter().map(|name| world.user(name)).collect();
    let pids: Vec<i32> = users
        .iter()
        .filter_map(|user| world.cells.pid(user))
        .collect();
    assert_eq!(pids.len(), 3);
    walls_hold(&world, &users)?;

    // Carol leaves, and hers is stopped; alice and bob are connected.
    let [mut of_alice, of_bob, of_carol] = sockets;
    of_carol.ws.close().await?;
    let pid = pids[2];
    world
        .until("an unused cell is stopped", || Ok(!is_alive(pid)))
        .await?;
    let stopped = world.cells.state(&users[2]);
    world
        .until("nothing of it is left", || {
            Ok(!world.cells.by_state()?.contains_key(&stopped))
        })
        .await?;
    assert!(is_alive(pids[0]) && is_alive(pids[1]), "they are used");
    assert_eq!(of_alice.turn("undisturbed").await?.state, "final");
    assert_eq!(world.instance("carol").await?["process"]["status"], "off");
    let mut of_carol = open(&carol).await?;
    assert!(history(&mut of_carol).await?.contains("remember carol"));
    assert_eq!(of_carol.turn("again").await?.state, "final");
    let note = world.workspace("carol").join("note.md");
    assert_eq!(
        fs::read_to_string(note).unwrap_or_default(),
        "kept of carol"
    );

    // Bob has read nothing for so long that his socket may be closed, and then his cell stopped.
    drop((of_alice, of_bob));
    let (of_alice, of_bob) = tokio::try_join!(open(&alice), open(&bob))?;

    // The gateway is killed: the cells are who they were.
    let pids: Vec<i32> = users
        .iter()
        .filter_map(|user| world.cells.pid(user))
        .collect();
    assert_eq!(pids.len(), 3);
    world.gateway.kill9().await?;
    drop((of_alice, of_bob, of_carol));
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    world.gateway.start_again().await?;
    let opened = tokio::try_join!(open(&alice), open(&bob), open(&carol))?;
    let mut sockets: [Socket; 3] = opened.into();
    for (name, socket) in names.iter().zip(&mut sockets) {
        assert!(history(socket).await?.contains(&format!("remember {name}")));
        assert_eq!(socket.turn("after the gateway").await?.state, "final");
    }
    let now: Vec<i32> = users
        .iter()
        .filter_map(|user| world.cells.pid(user))
        .collect();
    assert_eq!(now, pids, "adopted");

    // A cell is killed in the middle of a run.
    let [of_alice, mut of_bob, of_carol] = sockets;
    of_bob
        .start("[[words=500]] [[chunk_delay=50]] a long answer")
        .await?;
    sleep(Duration::from_secs(1)).await;
    kill(pids[1], Signal::KILL);
    of_bob.ws.closed().await?;
    assert!(is_alive(pids[0]) && is_alive(pids[2]), "it was bob's");
    let mut of_bob = open(&bob).await?;
    assert_eq!(of_bob.turn("after the cell").await?.state, "final");
    let now = world.cells.pid(&users[1]);
    assert!(now.is_some_and(|pid| pid != pids[1]), "{now:?}");
    drop((of_alice, of_bob, of_carol));

    // Stopped in order, the gateway leaves them; what is left is known.
    world.gateway.kill().await?;
    let known: BTreeSet<PathBuf> = users.iter().map(|user| world.cells.state(user)).collect();
    for process in world.cells.processes()? {
        assert!(known.contains(&process.state), "{process:?} is nobody's");
    }
    // Whoever leads a cell is gone, and its record, too: the next gateway ends the rest, and there is nothing of it then.
    for user in &users {
        let state = world.cells.state(user);
        let record = state.with_file_name("cell.json");
        fs::remove_file(record).expect("a record");
    }
    world.gateway.start_again().await?;
    assert_eq!(world.cells.processes()?, [], "nobody's");
    world.gateway.kill().await?;
    Ok(())
}

/// What is of one cell no other can see.
fn walls_hold(world: &World, users: &[String]) -> Result<()> {
    if !world.cells.have_users() {
        println!("not tested: only root can make cells users of their own");
        return Ok(());
    }
    let os_user = |user: &String| {
        let number = world.cells.record(user)["os_user"].as_u64();
        u32::try_from(number.expect("a user of the system")).expect("a number")
    };
    let distinct: BTreeSet<u32> = users.iter().map(os_user).collect();
    assert_eq!(distinct.len(), users.len());
    for process in world.cells.processes()? {
        assert!(distinct.contains(&process.os_user), "{process:?}");
    }
    let workspaces = world.dir.path().join("users");
    for owner in users {
        let theirs = [
            world.cells.state(owner).join("openclaw.json"),
            world.cells.state(owner).join("openclaw.log"),
            world.cells.state(owner),
            workspaces.join(owner).join("workspace/note.md"),
            workspaces.join(owner),
        ];
        for path in &theirs {
            let is = path.metadata().expect("it is there");
            assert_eq!(is.uid(), os_user(owner), "{}", path.display());
            for other in users {
                let sees = can_see(os_user(other), path);
                assert_eq!(sees, other == owner, "{other}: {}", path.display());
            }
        }
        let ours = world.cells.state(owner).with_file_name("cell.json");
        for other in users {
            assert!(
                !can_see(os_user(other), &ours),
                "{other}: {}",
                ours.display()
            );
        }
    }
    Ok(())
}

/// Ann waits for her cell in a browser and ben with a program, while eve's has no room to start. Then ann and ben are deleted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d4_44_d4_47_who_comes_waits_is_served_and_is_gone_when_deleted() -> Result<()> {
    let world = World::start("max = 4").await?;
    let begun = Instant::now();
    let waits = async {
        let ((), ben) = tokio::try_join!(
            waits::a_browser(&world, "ann"),
            waits::a_program(&world, "ben")
        )?;
        println!("served after {:?}", begun.elapsed());
        let ann = world.person("ann").await?;
        gone::whoever_is_deleted(&world, &ann, &ben).await?;
        println!("deleted after {:?}", begun.elapsed());
        Ok(())
    };
    tokio::try_join!(waits, disk::is_full(&world, "eve"))?;
    println!("all of it took {:?}", begun.elapsed());
    Ok(())
}

/// Somebody whose cell hangs. What the gateway waits until it takes it for one is more than others should wait for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_hangs_is_replaced_and_nothing_is_counted_twice() -> Result<()> {
    if env::var_os("KILL_ROUNDS").is_none() {
        println!("not tested: it takes minutes; tests/run --soak does");
        return Ok(());
    }
    let world = World::start("max = 1").await?;
    hangs::is_replaced(&world, "hal").await
}

/// Somebody who works all the time, and comes back by themselves.
async fn work(person: Person, turns: Arc<AtomicU64>, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Acquire) {
        let Ok(mut socket) = person.open().await else {
            sleep(Duration::from_millis(300)).await;
            continue;
        };
        socket.ws = socket.ws.with_limit(Duration::from_secs(20));
        while !stop.load(Ordering::Acquire) {
            match socket.turn("[[words=20]] [[chunk_delay=20]] at work").await {
                Ok(turn) if turn.state == "final" => {
                    turns.fetch_add(1, Ordering::AcqRel);
                    // Else they would take the processor from what starts.
                    sleep(BREATH).await;
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_killed_under_traffic_everybody_goes_on_and_nothing_is_left_over() -> Result<()>
{
    let rounds = env::var("KILL_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let rounds: u64 = rounds.unwrap_or(2);
    let dice = Dice::from_env("KILL_SEED");
    let mut world = World::start("max = 3").await?;
    let names = ["alice", "bob"];
    let users = names.map(|name| world.user(name));
    let stop = Arc::new(AtomicBool::new(false));
    let mut at_work = Vec::new();
    for name in names {
        let person = world.person(name).await?;
        drop(open(&person).await?);
        let note = world.workspace(name).join("note.md");
        fs::write(&note, name).expect("a file");
        let turns = Arc::new(AtomicU64::new(0));
        let working = tokio::spawn(work(person, Arc::clone(&turns), Arc::clone(&stop)));
        at_work.push((turns, working));
    }
    let (mut gateways, mut cells) = (0, 0);
    for round in 0..rounds {
        let before: Vec<u64> = at_work
            .iter()
            .map(|(turns, _)| turns.load(Ordering::Acquire))
            .collect();
        sleep(Duration::from_millis(dice.roll(3_000))).await;
        // Both, in two rounds; then whatever comes.
        let what = if round < 2 { round } else { dice.roll(3) };
        if what != 1 {
            gateways += 1;
            world.gateway.kill9().await?;
            sleep(Duration::from_millis(dice.roll(2_000))).await;
        }
        if what != 0 {
            cells += 1;
            let of = usize::try_from(dice.roll(2)).unwrap_or_default();
            if let Some(pid) = world.cells.pid(&users[of]).filter(|pid| is_alive(*pid)) {
                kill(pid, Signal::KILL);
            }
        }
        if what != 1 {
            world.gateway.start_again().await?;
        }
        let killed: Vec<u64> = at_work
            .iter()
            .map(|(turns, _)| turns.load(Ordering::Acquire))
            .collect();
        assert!(killed >= before);
        world
            .until("everybody has gone on", || {
                let now = at_work.iter().zip(&killed);
                Ok(now
                    .into_iter()
                    .all(|((turns, _), killed)| turns.load(Ordering::Acquire) > killed + 1))
            })
            .await?;
        nothing_is_left_over(&world, &users).await?;
        for name in names {
            let note = fs::read_to_string(world.workspace(name).join("note.md"));
            assert_eq!(note.unwrap_or_default(), name, "a workspace's file");
        }
    }
    stop.store(true, Ordering::Release);
    let turns: Vec<u64> = at_work
        .iter()
        .map(|(turns, _)| turns.load(Ordering::Acquire))
        .collect();
    println!(
        "{rounds} rounds (seed {}): {gateways} gateways and {cells} cells were killed, {turns:?} turns",
        dice.seed()
    );
    for (_, working) in at_work {
        working.await.expect("work");
    }
    Ok(())
}

/// Every process is one of somebody's cell that runs, and no two listen at the same place.
async fn nothing_is_left_over(world: &World, users: &[String; 2]) -> Result<()> {
    let known: BTreeSet<PathBuf> = users.iter().map(|user| world.cells.state(user)).collect();
    // OpenClaw has started some of them, and what was killed takes its moment.
    world
        .until("nothing is left over", || {
            let processes = world.cells.processes()?;
            let are_known = processes
                .iter()
                .all(|process| known.contains(&process.state));
            let leaders = users.iter().filter_map(|user| world.cells.pid(user));
            let leaders: Vec<i32> = leaders.filter(|pid| is_alive(*pid)).collect();
            // One main process each: any other has it as an ancestor.
            let all_belong = processes
                .iter()
                .all(|process| leaders.iter().any(|leader| descends(process.pid, *leader)));
            Ok(are_known && all_belong && leaders.len() == users.len())
        })
        .await?;
    let ports: BTreeSet<u64> = users
        .iter()
        .filter_map(|user| world.cells.record(user)["port"].as_u64())
        .collect();
    assert_eq!(ports.len(), users.len(), "ports");
    Ok(())
}

fn descends(pid: i32, from: i32) -> bool {
    let parent = |pid: i32| -> Option<i32> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, fields) = stat.rsplit_once(')')?;
        fields.split_whitespace().nth(1)?.parse().ok()
    };
    let mut pid = Some(pid);
    while let Some(it) = pid {
        if it == from {
            return true;
        }
        pid = parent(it).filter(|parent| *parent > 1);
    }
    false
}
