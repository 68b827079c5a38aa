//! A cell that is there and does nothing any more.

use std::{collections::BTreeSet, time::Duration};

use gateway_tests::{
    error::Result,
    ledger::{Recorded, record_of, settled},
};
use rustix::process::Signal;
use serde_json::Value;
use tokio::time::Instant;

use crate::world::{World, is_alive, kill, open};

/// How long it may take until it is seen that it hangs, and what is left of it is gone.
const SEEN: Duration = Duration::from_secs(180);

/// It is ended and started again, whoever is in it is told so and comes back, and of what they asked for in it nothing is
/// counted twice. It takes two minutes, of which the gateway waits more than one.
pub(crate) async fn is_replaced(world: &World, name: &str) -> Result<()> {
    let (person, user) = (world.person(name).await?, world.user(name));
    let mut socket = open(&person).await?;
    assert_eq!(socket.turn(&format!("one of {user}")).await?.state, "final");
    let message = format!("[[words=300]] [[chunk_delay=50]] two of {user}");
    let interrupted = socket.start(&message).await?;
    let begins = |frame: &Value| {
        let payload = &frame["payload"];
        frame["event"] == "chat" && payload["runId"] == *interrupted && payload["state"] == "delta"
    };
    socket.ws.find(begins).await?;
    let pid = world.pid(name).expect("a process");
    kill(pid, Signal::STOP);
    let begun = Instant::now();
    let mut ws = socket.ws.with_limit(SEEN);
    let (code, _) = ws.closed().await?;
    println!("one that hangs was ended after {:?}", begun.elapsed());
    assert!(matches!(code, 1012 | 1013), "{code}");
    // Its end closes the socket, and takes a moment more.
    world
        .until("what hangs has ended", || Ok(!is_alive(pid)))
        .await?;
    let mut socket = open(&person).await?;
    assert!(
        world
            .pid(name)
            .is_some_and(|new| new != pid && is_alive(new))
    );
    assert_eq!(
        socket.turn(&format!("three of {user}")).await?.state,
        "final"
    );

    let calls = world.kit.provider().calls_about(&user).await?;
    let records = settled(world.dir.path(), &user, calls.len()).await?;
    let recorded = calls.iter().filter_map(|call| record_of(call, &records));
    let recorded: BTreeSet<&str> = recorded.map(|record| &*record.id).collect();
    assert_eq!(recorded.len(), calls.len(), "each call once: {records:#?}");
    let is_run = |record: &&Recorded| record.operation == "run";
    let runs: Vec<_> = records.iter().filter(is_run).collect();
    println!("{} runs, {} model calls", runs.len(), calls.len());
    assert_eq!(runs.len(), 3, "{runs:#?}");
    let of_it = runs
        .iter()
        .filter(|run| run.run_id.as_ref() == Some(&interrupted));
    assert_eq!(of_it.count(), 1, "{runs:#?}");
    let quota = person.get("/api/quota").await?;
    let mut limits = quota["limits"].as_array().into_iter().flatten();
    let used = limits.find(|limit| limit["dimension"] == "calls");
    assert_eq!(
        used.map(|used| used["used"].as_u64()),
        Some(Some(3)),
        "{quota}"
    );
    Ok(())
}
