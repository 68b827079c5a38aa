//! What somebody does: every way in which a run can go and end.

use gateway_tests::{
    error::Result,
    person::{Socket, send_params},
};
use serde_json::{Value, json};

use crate::world::{Somebody, World};

/// Long enough for somebody to do something in the middle of it.
const LONG: &str = "[[words=100]] [[chunk_delay=20]] [[in=300]] [[out=200]]";

/// Works with two devices, and answers how many runs that were.
pub(crate) async fn work(world: &World, somebody: &Somebody) -> Result<u64> {
    let name = &somebody.name;
    let mut socket = opened(somebody).await?;
    let mut runs = plain(world, somebody, &mut socket).await?;
    runs += in_several_calls(&mut socket, name).await?;
    runs += given_up(&mut socket, name).await?;
    runs += on_two_devices(somebody, &mut socket).await?;
    runs += failing(&mut socket, name).await?;
    runs += watched_by_nobody(world, somebody, socket).await?;
    Ok(runs)
}

async fn opened(somebody: &Somebody) -> Result<Socket> {
    let mut socket = somebody.person.open().await?;
    let key = json!({"key": "main"});
    socket.ws.call("sessions.messages.subscribe", key).await?;
    Ok(socket)
}

async fn plain(world: &World, somebody: &Somebody, socket: &mut Socket) -> Result<u64> {
    let name = &somebody.name;
    for (n, numbers) in [
        "[[in=107]] [[out=13]]",
        "[[in=211]] [[out=1]] [[cache_read=1050]]",
        "[[in=1]] [[out=70]] [[cache_read=33]] [[cache_write=410]]",
        "[[in=12]] [[out=90]] [[reasoning=60]]",
        "[[in=0]] [[out=0]]",
    ]
    .iter()
    .enumerate()
    {
        let turn = socket.turn(&format!("{name} {n} {numbers}")).await?;
        assert_eq!(turn.state, "final", "{turn:?}");
        assert!(turn.text.contains(name), "{turn:?}");
    }
    // In a conversation of its own, begun with a message.
    let message = format!("{name} elsewhere [[in=77]] [[out=7]]");
    let created = socket
        .ws
        .call("sessions.create", json!({"message": message}))
        .await?;
    assert_eq!(created["runStarted"], true, "{created}");
    world.answered(somebody, "elsewhere").await?;
    Ok(6)
}

async fn in_several_calls(socket: &mut Socket, name: &str) -> Result<u64> {
    for (n, rounds) in [1, 3].into_iter().enumerate() {
        let tool = r#"[[tool=ls {"path":"."}]]"#;
        let message = format!(
            "{name} tool {n} {tool} [[rounds={rounds}]] [[in=205]] [[out=9]] [[cache_read=20]]"
        );
        let turn = socket.turn(&message).await?;
        assert_eq!(turn.state, "final", "{turn:?}");
    }
    Ok(2)
}

/// A run that is stopped in the middle of the answer, which is read to its end all the same.
async fn given_up(socket: &mut Socket, name: &str) -> Result<u64> {
    let run_id = socket.start(&format!("{name} given up {LONG}")).await?;
    has_begun(socket, &run_id).await?;
    let abort = json!({"sessionKey": "main", "runId": run_id});
    let aborted = socket.ws.call("chat.abort", abort).await?;
    assert_eq!(aborted["aborted"], true);
    assert_eq!(socket.end_of(&run_id).await?.state, "aborted");
    Ok(1)
}

/// Both devices of somebody see one run, which both ask for.
async fn on_two_devices(somebody: &Somebody, socket: &mut Socket) -> Result<u64> {
    let mut other = opened(somebody).await?;
    let params = send_params(&format!("{} both {LONG}", somebody.name))?;
    let started = socket.ws.call("chat.send", params.clone()).await?;
    assert_eq!(started["status"], "started", "{started}");
    let run_id = started["runId"].as_str().unwrap_or_default();
    let again = other.ws.request("chat.send", params).await?;
    assert_ne!(again["payload"]["status"], "started", "{again}");
    for socket in [socket, &mut other] {
        has_begun(socket, run_id).await?;
        assert_eq!(socket.end_of(run_id).await?.state, "final");
    }
    Ok(1)
}

/// The provider refuses, breaks off and fails in the middle, once each.
async fn failing(socket: &mut Socket, name: &str) -> Result<u64> {
    let how = ["status=500", "status=529", "cut=4", "fault=4"];
    for how in how {
        let message =
            format!("{name} {how} [[{how}]] [[times=1]] [[words=8]] [[in=60]] [[out=16]]");
        let turn = socket.turn(&message).await?;
        // It takes an error in the stream for the end, and tries everything else again.
        let ends = if how.starts_with("fault") {
            "error"
        } else {
            "final"
        };
        assert_eq!(turn.state, ends, "{how}: {turn:?}");
    }
    Ok(how.len() as u64)
}

/// The page is closed in the middle of an answer.
async fn watched_by_nobody(world: &World, somebody: &Somebody, mut socket: Socket) -> Result<u64> {
    let run_id = socket
        .start(&format!("{} left {LONG}", somebody.name))
        .await?;
    has_begun(&mut socket, &run_id).await?;
    socket.ws.close().await?;
    world.answered(somebody, " left ").await?;
    Ok(1)
}

async fn has_begun(socket: &mut Socket, run_id: &str) -> Result<()> {
    let is_delta = |frame: &Value| {
        frame["event"] == "chat"
            && frame["payload"]["runId"] == run_id
            && frame["payload"]["state"] == "delta"
    };
    socket.ws.find(is_delta).await.map(|_| ())
}
