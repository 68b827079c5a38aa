//! Both gateways are restarted, one after the other, and nobody has to do anything.

use std::{
    env,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use futures_util::future::try_join_all;
use gateway_tests::{
    error::{Error, Result},
    person::Person,
};
use rustix::process::Signal;
use serde_json::json;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::{
    books::balance,
    client::{Client, Who},
    deployment::Deployment,
};

const PEOPLE: usize = 20;

/// How many sockets each of them has unless `SOCKETS` says otherwise. One person may have 16 at a gateway, and for a moment all
/// are at one. Everything is on one machine: what a debug build takes are forty that come at once, and two hundred are for
/// `tests/run --soak`.
const SOCKETS: usize = 2;

/// Who writes while a gateway is restarted; at the next one it is others.
const WRITERS: usize = 6;

/// A reply of four seconds, which ends within the time that a gateway has to end. OpenClaw tells each part of it to all two
/// hundred.
const REPLY: &str = "[[words=20]] [[chunk_delay=200]]";

const PATIENCE: Duration = Duration::from_secs(240);

/// Somebody, and their clients that only listen.
struct Somebody {
    name: String,
    message: String,
    person: Person,
    others: Vec<JoinHandle<Result<Client>>>,
    runs: Vec<String>,
}

// === impl Somebody ===

impl Somebody {
    async fn come(
        deployment: &Deployment,
        (n, sockets): (usize, usize),
        stop: &watch::Receiver<()>,
    ) -> Result<Self> {
        let name = format!("p{n}");
        let person = deployment.person(&name).await?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = person.post("/api/openclaw/initialize", &json!({})).await?;
            if answer.status.is_success() {
                break;
            }
            if Instant::now() > deadline {
                return Err(Error::Late(PATIENCE, answer.text()));
            }
            sleep(Duration::from_millis(500)).await;
        }
        let mut others = Vec::new();
        for socket in 1..sockets {
            let seed = (socket * PEOPLE + n) as u64;
            let client = Client::open(Who::Program(person.clone()), seed).await?;
            others.push(tokio::spawn(listen(client, stop.clone())));
        }
        Ok(Self {
            message: deployment.message(&name, REPLY),
            name,
            others,
            runs: Vec::new(),
            person,
        })
    }

    /// Opens the socket in which they write.
    async fn open(&self, n: usize) -> Result<Client> {
        Client::open(Who::Program(self.person.clone()), n as u64).await
    }

    /// Writes a message, and waits until the model answers.
    async fn write(&mut self, client: &mut Client) -> Result<()> {
        let run = client.start(&self.message).await?;
        client.begin_of(&run).await?;
        self.runs.push(run);
        Ok(())
    }

    /// Has the whole reply to the last message.
    async fn read(&self, client: &mut Client) -> Result<()> {
        let run = self.runs.last().expect("something was written");
        let turn = client.end_of(run).await?;
        let reply: Vec<_> = (1..=20).map(|n| format!("word{n}")).collect();
        let told = (&*turn.state, &*turn.text);
        assert_eq!(told, ("final", &*reply.join(" ")), "{}", self.name);
        Ok(())
    }

    /// Has all clients back, each of which is there and was told to come again and nothing else. Answers how many sockets were
    /// opened again, and how those were refused that were not at once.
    async fn come_together(&mut self, mut own: Client) -> Result<(usize, Vec<Error>)> {
        let (mut again, mut refused) = (0, Vec::new());
        let mut clients = Vec::new();
        for other in self.others.drain(..) {
            clients.push(other.await.expect("it has not panicked")?);
        }
        own.ask("sessions.list", &json!({})).await?;
        for client in clients.iter_mut().chain([&mut own]) {
            let codes = &client.codes;
            assert!(codes.iter().all(|code| *code == 1012), "{codes:?}");
            assert!(!codes.is_empty(), "each gateway was restarted");
            again += codes.len();
            refused.append(&mut client.refused);
        }
        Ok((again, refused))
    }
}

/// A client that only listens, until `stop`. It is there then, if it is answered.
async fn listen(mut client: Client, stop: watch::Receiver<()>) -> Result<Client> {
    client.stay(stop).await?;
    client.ask("sessions.list", &json!({})).await?;
    Ok(client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_sockets_outlive_both_gateways_and_no_run_and_no_record_is_lost() -> Result<()> {
    let sockets = env::var("SOCKETS").ok();
    let sockets = sockets.and_then(|sockets| sockets.parse().ok());
    let sockets = sockets.unwrap_or(SOCKETS);
    let begin = Instant::now();
    let mut deployment = Deployment::start().await?;
    println!("\nall of it runs after {:?}", begin.elapsed());
    let (stop, stopped) = watch::channel(());
    let come = (0..PEOPLE).map(|n| Somebody::come(&deployment, (n, sockets), &stopped));
    let mut people = try_join_all(come).await?;
    let open = people.iter().enumerate().map(|(n, one)| one.open(n));
    let mut clients = try_join_all(open).await?;
    let all = (PEOPLE * sockets) as u64;
    let at = everybody_is_there(&deployment, all).await?;
    println!("{at:?} sockets after {:?}", begin.elapsed());
    assert!(at.iter().all(|sockets| *sockets > all / 4), "{at:?}");

    for n in 0..deployment.gateways.len() {
        let writers = n * WRITERS..(n + 1) * WRITERS;
        let begun = AtomicUsize::new(0);
        let (done, until_done) = watch::channel(());
        let deployment = &mut deployment;
        let restarted = async {
            // In the middle of some replies, before others.
            while begun.load(Relaxed) < WRITERS / 2 {
                sleep(Duration::from_millis(10)).await;
            }
            let told = Instant::now();
            deployment.gateways[n].signal(Signal::TERM);
            let status = deployment.gateways[n].ended().await?;
            assert!(status.success(), "{status}");
            let ended = told.elapsed();
            deployment.gateways[n].start_again().await?;
            println!(
                "gateway {n} ended after {ended:?}, runs after {:?}",
                told.elapsed()
            );
            let there = everybody_is_there(deployment, all).await?;
            println!("{there:?} sockets after {:?}", told.elapsed());
            drop(done);
            Ok::<_, Error>(())
        };
        let work = async |(m, one, client): (usize, &mut Somebody, &mut Client)| {
            if writers.contains(&m) {
                one.write(client).await?;
                begun.fetch_add(1, Relaxed);
                one.read(client).await?;
            }
            client.stay(until_done.clone()).await
        };
        let each = people.iter_mut().zip(&mut clients).enumerate();
        let work = try_join_all(each.map(|(m, (one, client))| work((m, one, client))));
        tokio::try_join!(restarted, work)?;
    }

    drop(stop);
    let together = people.iter_mut().zip(clients);
    let together = together.map(|(one, client)| one.come_together(client));
    let (again, refused): (Vec<_>, Vec<_>) = try_join_all(together).await?.into_iter().unzip();
    let refused: Vec<_> = refused.iter().flatten().map(Error::to_string).collect();
    println!(
        "{} sockets were opened again, {} times in vain: {refused:?}; {:?}",
        again.iter().sum::<usize>(),
        refused.len(),
        begin.elapsed()
    );
    // nginx has asked the gateway that is there, each time.
    let in_vain =
        |why: &&String| why.contains("refused with 502") || why.contains("refused with 503");
    assert_eq!(refused.iter().filter(in_vain).count(), 0, "{refused:?}");
    for one in &people {
        balance(&deployment, &one.name, &one.person, &one.runs).await?;
    }
    println!("the books are right after {:?}", begin.elapsed());
    deployment.stop().await
}

/// Waits until so many sockets are open, and says where.
async fn everybody_is_there(deployment: &Deployment, all: u64) -> Result<[u64; 2]> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let at = deployment.sockets().await?;
        if at.iter().sum::<u64>() == all {
            return Ok(at);
        }
        if Instant::now() > deadline {
            return Err(Error::Late(PATIENCE, format!("{all} sockets: {at:?}")));
        }
        sleep(Duration::from_millis(100)).await;
    }
}
