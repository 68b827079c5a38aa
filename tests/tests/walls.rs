//! The walls between two people on one instance: nothing of one reaches the other, whatever either does.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use gateway_tests::{
    error::Result,
    gateway::{Config, Gateway},
    kit::Kit,
    openclaw::{dial_as, operator},
    person::{Person, Socket, send_params},
    secret,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Two people at one gateway. Their names are as random as what they say, so that any of it can be searched for.
struct Two {
    kit: Kit,
    dir: TempDir,
    _gateway: Gateway,
    alice: Person,
    bob: Person,
    canary: String,
    /// Bob's.
    name: String,
}

async fn two() -> Result<Two> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let gateway = Gateway::start(Config::new(&kit, dir.path())?, dir.path()).await?;
    let canary = format!("canary-{}", secret::mark()?);
    let alice = Person::sign_in(&kit, &canary, &gateway).await?;
    let name = format!("bob-{}", secret::mark()?);
    let bob = Person::sign_in(&kit, &name, &gateway).await?;
    Ok(Two {
        kit,
        dir,
        _gateway: gateway,
        alice,
        bob,
        canary,
        name,
    })
}

fn agent_of(socket: &Socket) -> String {
    let agent = &socket.hello["snapshot"]["sessionDefaults"]["defaultAgentId"];
    agent.as_str().unwrap_or_default().to_owned()
}

/// Everything a person may list. What they are told is part of what is searched.
const LISTS: [(&str, &str); 8] = [
    ("agents.list", "{}"),
    (
        "sessions.list",
        r#"{"includeDerivedTitles":true,"includeLastMessage":true}"#,
    ),
    ("system-presence", "{}"),
    ("health", "{}"),
    ("models.list", "{}"),
    ("chat.history", "{}"),
    ("chat.metadata", "{}"),
    ("sessions.describe", "{}"),
];

async fn ask_for_everything(socket: &mut Socket) -> Result<String> {
    let mut told = String::new();
    for (method, params) in LISTS {
        let params = serde_json::from_str(params).unwrap_or_default();
        told.push_str(&socket.ws.request(method, params).await?.to_string());
    }
    Ok(told)
}

/// All that alice does: messages, a tool that writes a file, an abort, a session of another label.
async fn work(socket: &mut Socket, canary: &str) -> Result<()> {
    let turn = socket.turn(&format!("{canary} said")).await?;
    assert_eq!(turn.state, "final", "{}", turn.text);
    let write = json!({"path": format!("{canary}.txt"), "content": format!("{canary} written")});
    let turn = socket
        .turn(&format!("{canary} file [[tool=write {write}]]"))
        .await?;
    assert_eq!(turn.state, "final", "{}", turn.text);

    let long = format!("{canary} long [[words=400]] [[chunk_delay=20]]");
    let run_id = socket.start(&long).await?;
    let of_run = |frame: &Value| {
        frame["payload"]["runId"] == run_id.as_str() && frame["payload"]["state"] == "delta"
    };
    socket.ws.find(of_run).await?;
    let abort = json!({"sessionKey": "main", "runId": run_id});
    assert_eq!(socket.ws.call("chat.abort", abort).await?["aborted"], true);
    assert_eq!(socket.end_of(&run_id).await?.state, "aborted");

    let label = json!({"label": format!("{canary} label")});
    let created = socket.ws.call("sessions.create", label).await?;
    let key = &created["key"];
    let label = json!({"key": key, "label": format!("{canary} other")});
    socket.ws.call("sessions.patch", label).await?;
    let mut send = send_params(&format!("{canary} there"))?;
    send["sessionKey"] = key.clone();
    let started = socket.ws.call("chat.send", send).await?;
    let run_id = started["runId"].as_str().unwrap_or_default().to_owned();
    assert_eq!(socket.end_of(&run_id).await?.state, "final");
    Ok(())
}

#[tokio::test]
async fn nothing_of_one_person_is_in_any_byte_of_anothers_socket() -> Result<()> {
    let two = two().await?;
    let canary = two.canary.as_str();
    let mut bob = two.bob.open().await?;
    for (method, params) in [
        ("sessions.subscribe", json!({})),
        ("sessions.messages.subscribe", json!({"key": "main"})),
    ] {
        bob.ws.call(method, params).await?;
    }
    assert_eq!(bob.turn("something of my own").await?.state, "final");
    let mut told = bob.hello.to_string();

    let done = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&done);
    let at_work = async {
        let mut alice = two.alice.open().await?;
        alice.ws.call("sessions.subscribe", json!({})).await?;
        work(&mut alice, canary).await?;
        let told = ask_for_everything(&mut alice).await?;
        ended.store(true, Ordering::Relaxed);
        Ok::<_, gateway_tests::error::Error>((told, alice))
    };
    let watching = async {
        while !done.load(Ordering::Relaxed) {
            told.push_str(&ask_for_everything(&mut bob).await?);
        }
        Ok::<_, gateway_tests::error::Error>(())
    };
    let (hers, ()) = tokio::try_join!(at_work, watching)?;
    drop(hers.1);
    told.push_str(&ask_for_everything(&mut bob).await?);
    // Whatever was sent in between and not asked for, up to the answer to one last request.
    let last = bob.ws.start("models.list", json!({})).await?;
    let rest = bob.ws.collect_until(|frame| frame["id"] == last.as_str());
    told.push_str(&Value::from(rest.await?).to_string());

    for hers_alone in [
        format!("{canary} said"),
        format!("{canary} other"),
        format!("\"{canary}\""),
    ] {
        assert!(hers.0.contains(&hers_alone), "she is shown {hers_alone}");
    }
    assert!(told.contains("something of my own"), "he is shown his own");
    let found = told.find(canary).map(|at| {
        let from = at.saturating_sub(200);
        told.get(from..(at + 100).min(told.len()))
    });
    assert_eq!(found, None, "of hers he is shown nothing");
    let hers = &hers.0;
    for (name, host) in [
        ("state directory", "openclaw-agent.sqlite"),
        ("configuration", "openclaw.json"),
    ] {
        assert!(!told.contains(host) && !hers.contains(host), "{name}");
    }
    Ok(())
}

/// Her session, run and agent, in every place and spelling.
fn attempts(agent: &str, session: &str, session_id: &str, run_id: &str, text: &str) -> Vec<String> {
    let frame = |method: &str, params: &str| {
        format!(r#"{{"type":"req","id":"a","method":"{method}","params":{params}}}"#)
    };
    let escaped: String = session
        .chars()
        .map(|c| format!("\\u{:04x}", u32::from(c)))
        .collect();
    let send = format!(r#""message":"{text}","idempotencyKey":"{text}""#);
    let upper = session.to_uppercase();
    let mut frames = Vec::new();
    // As the session of a message.
    for member in [
        format!(r#""sessionKey":"{session}""#),
        format!(r#""sessionKey":"{escaped}""#),
        format!(r#""\u0073essionKey":"{session}""#),
        format!(r#""sessionKey":"main","sessionKey":"{session}""#),
        format!(r#""sessionKey":"{session}","sessionKey":"main""#),
        format!(r#""sessionKey":"main","\u0073essionKey":"{session}""#),
        format!(r#""SessionKey":"{session}""#),
        format!(r#""sessionkey":"{session}""#),
        format!(r#""session_key":"{session}""#),
        format!(r#""sessionKey":"{upper}""#),
        format!(r#""sessionKey":" {session}""#),
        format!(r#""sessionKey":"{session}\u0000""#),
        format!(r#""sessionKey":["{session}"]"#),
        format!(r#""sessionKey":{{"key":"{session}"}}"#),
        format!(r#""sessionKey":"main","key":"{session}""#),
        format!(r#""sessionKey":"main","agentId":"{agent}""#),
        format!(r#""agentId":"{agent}""#),
        format!(r#""sessionKey":"main","sessionId":"{session_id}""#),
        format!(r#""sessionKey":"main","attachments":[{{"sessionKey":"{session}"}}]"#),
        format!(r#""sessionKey":"main","workContext":{{"sessionKey":"{session}"}}"#),
        format!(r#""sessionKey":"main","params":{{"sessionKey":"{session}"}}"#),
        r#""sessionKey":"global""#.to_owned(),
        r#""sessionKey":"unknown""#.to_owned(),
        format!(r#""sessionKey":"agent:{agent}""#),
        format!(r#""sessionKey":"agent:{agent}:""#),
        format!(r#""sessionKey":"agent%3A{agent}%3Amain""#),
    ] {
        frames.push(frame("chat.send", &format!("{{{member},{send}}}")));
    }
    // As what any other method is about.
    for (method, rest) in [
        ("chat.history", ""),
        ("chat.abort", ""),
        ("chat.metadata", ""),
    ] {
        frames.push(frame(
            method,
            &format!(r#"{{"sessionKey":"{session}"{rest}}}"#),
        ));
        frames.push(frame(method, &format!(r#"{{"agentId":"{agent}"}}"#)));
    }
    for (method, rest) in [
        ("sessions.describe", ""),
        ("sessions.messages.subscribe", ""),
        ("sessions.messages.unsubscribe", ""),
        ("sessions.resolve", ""),
        ("sessions.patch", r#","label":"stolen""#),
        ("sessions.patch", r#","archived":true"#),
        ("sessions.delete", r#","archivedOnly":true"#),
    ] {
        frames.push(frame(method, &format!(r#"{{"key":"{session}"{rest}}}"#)));
        frames.push(frame(method, &format!(r#"{{"key":"{escaped}"{rest}}}"#)));
        frames.push(frame(
            method,
            &format!(r#"{{"key":"main","agentId":"{agent}"{rest}}}"#),
        ));
    }
    for method in [
        "agent.identity.get",
        "models.list",
        "sessions.list",
        "sessions.create",
    ] {
        frames.push(frame(method, &format!(r#"{{"agentId":"{agent}"}}"#)));
        frames.push(frame(method, &format!(r#"{{"agentId":["{agent}"]}}"#)));
    }
    for run in [run_id.to_owned(), run_id.replace('-', "\\u002d")] {
        frames.push(frame("chat.abort", &format!(r#"{{"runId":"{run}"}}"#)));
        let own = format!(r#"{{"sessionKey":"main","runId":"{run}"}}"#);
        frames.push(frame("chat.abort", &own));
        let both = format!(r#"{{"sessionKey":"{session}","runId":"{run}"}}"#);
        frames.push(frame("chat.abort", &both));
        let wait = format!(r#"{{"runId":"{run}","timeoutMs":1}}"#);
        frames.push(frame("agent.wait", &wait));
        // A run that is named like hers.
        let named =
            format!(r#"{{"sessionKey":"main","message":"{text}","idempotencyKey":"{run}"}}"#);
        frames.push(frame("chat.send", &named));
    }
    // What nobody may.
    for (method, params) in [
        (
            "agents.files.get",
            format!(r#"{{"agentId":"{agent}","path":"AGENTS.md"}}"#),
        ),
        ("agents.files.list", format!(r#"{{"agentId":"{agent}"}}"#)),
        ("fs.listDir", r#"{"path":"/"}"#.to_owned()),
        ("config.get", "{}".to_owned()),
        ("logs.tail", "{}".to_owned()),
        ("users.list", "{}".to_owned()),
        (
            "users.setRole",
            r#"{"profileId":"x","role":"nobody"}"#.to_owned(),
        ),
        ("audit.list", "{}".to_owned()),
        (
            "tools.invoke",
            format!(r#"{{"tool":"read","sessionKey":"{session}"}}"#),
        ),
        (
            "agent",
            format!(r#"{{"message":"{text}","sessionKey":"{session}","idempotencyKey":"x"}}"#),
        ),
        (
            "sessions.send",
            format!(r#"{{"key":"{session}","message":"{text}"}}"#),
        ),
        ("sessions.search", format!(r#"{{"query":"{text}"}}"#)),
        ("sessions.abort", format!(r#"{{"key":"{session}"}}"#)),
        ("sessions.abort", format!(r#"{{"runId":"{run_id}"}}"#)),
    ] {
        frames.push(frame(method, &params));
    }
    frames
}

#[tokio::test]
async fn whatever_one_person_tries_with_anothers_names_is_refused_and_changes_nothing() -> Result<()>
{
    let two = two().await?;
    let mut alice = two.alice.open().await?;
    let mut bob = two.bob.open().await?;
    assert_eq!(alice.turn("before").await?.state, "final");
    let agent = agent_of(&alice);
    assert_ne!(agent, agent_of(&bob));
    let session = format!("agent:{agent}:main");
    let history = |socket: &Value| socket["messages"].as_array().map_or(0, Vec::len);
    let described = alice.ws.call("sessions.describe", json!({})).await?;
    let session_id = described["session"]["sessionId"]
        .as_str()
        .unwrap_or_default();
    assert!(!session_id.is_empty(), "{described}");

    // A label is nobody's: that somebody else has it is not told.
    for socket in [&mut alice, &mut bob] {
        let label = json!({"label": "plans for tomorrow"});
        socket.ws.call("sessions.create", label).await?;
    }

    let run_id = alice
        .start("a long answer [[words=300]] [[chunk_delay=100]]")
        .await?;
    let delta = |frame: &Value| frame["payload"]["state"] == "delta";
    alice.ws.find(delta).await?;
    let text = format!("never-{}", two.canary);
    for attempt in attempts(&agent, &session, session_id, &run_id, &text) {
        bob.ws.send(attempt.clone()).await?;
        let refused = bob.ws.find(|frame| frame["type"] == "res").await?;
        assert_eq!(refused["ok"], false, "{attempt}: {refused}");
        assert!(!refused.to_string().contains(&two.canary) || attempt.contains(&two.canary));
    }
    // What names everybody at the instance is answered before it, and names nobody.
    for (method, nobody) in [
        ("projects.list", json!({"projects": []})),
        (
            "session.members.listEvidence",
            json!({"members": [], "identities": []}),
        ),
    ] {
        assert_eq!(bob.ws.call(method, json!({})).await?, nobody);
    }
    let after = |frame: &Value| frame["event"] == "chat" && frame["payload"]["state"] == "delta";
    alice.ws.find(after).await?;
    assert_eq!(
        alice.end_of(&run_id).await?.state,
        "final",
        "her run went on"
    );
    let hers = alice.ws.call("chat.history", json!({})).await?;
    assert_eq!(history(&hers), 4, "{hers}");
    assert!(!hers.to_string().contains(&text), "his words are not there");
    let described = alice.ws.call("sessions.describe", json!({})).await?;
    assert_ne!(described["session"]["label"], "stolen");
    assert_ne!(described["session"]["archived"], true);
    assert!(two.kit.provider().calls_about(&text).await?.is_empty());
    let quota = two.bob.get("/api/quota").await?;
    assert!(!quota.to_string().contains(r#""used":1"#), "{quota}");
    // His socket is as good as before.
    assert_eq!(bob.turn("mine").await?.state, "final");
    Ok(())
}

/// The second wall: the instance's own, for the case that the first one has a hole.
#[tokio::test]
async fn the_instance_itself_keeps_people_apart() -> Result<()> {
    let two = two().await?;
    let mut alice = two.alice.open().await?;
    assert_eq!(alice.turn(&two.canary).await?.state, "final");
    let agent = agent_of(&alice);
    let session = format!("agent:{agent}:main");
    let own = agent_of(&two.bob.open().await?);

    // As bob, and past the gateway.
    let (mut bob, hello) = dial_as(&two.kit.openclaw, &two.name).await?;
    assert_eq!(
        hello["auth"]["scopes"],
        json!(["operator.read", "operator.write"])
    );
    bob.call("sessions.subscribe", json!({})).await?;
    let key = secret::random()?;
    let send = json!({"sessionKey": session, "message": "never", "idempotencyKey": key});
    let elsewhere = json!({"sessionKey": format!("agent:{agent}:bobs"), "message": "never", "idempotencyKey": key});
    for (method, params) in [
        ("chat.send", send),
        ("chat.send", elsewhere),
        (
            "sessions.create",
            json!({"agentId": agent, "label": "bobs"}),
        ),
        ("sessions.patch", json!({"key": session, "label": "bobs"})),
        ("sessions.messages.subscribe", json!({"key": session})),
        ("chat.abort", json!({"sessionKey": session})),
        ("users.setRole", json!({"profileId": "x", "role": "nobody"})),
    ] {
        let refused = bob.request(method, params).await?;
        assert_eq!(refused["ok"], false, "{method}: {refused}");
    }
    for (method, params) in [
        ("chat.history", json!({"sessionKey": session})),
        ("sessions.describe", json!({"key": session})),
        ("sessions.list", json!({"agentId": agent})),
        ("sessions.list", json!({})),
    ] {
        let answer = bob.request(method, params).await?;
        assert!(
            !answer.to_string().contains(&format!("{} ", two.canary)),
            "{method}: {answer}"
        );
        assert!(
            !answer.to_string().contains("\"messageCount\""),
            "{method}: {answer}"
        );
    }
    // What happens to her now is not told him.
    assert_eq!(
        alice.turn(&format!("{} more", two.canary)).await?.state,
        "final"
    );
    let last = bob.start("models.list", json!({"agentId": own})).await?;
    let told = bob
        .collect_until(|frame| frame["id"] == last.as_str())
        .await?;
    let told: Vec<_> = told
        .iter()
        .filter(|frame| frame["event"] != "presence")
        .collect();
    assert!(!format!("{told:?}").contains(&two.canary), "{told:?}");

    // Somebody without a slot may nothing at all.
    let stranger = format!("stranger-{}", two.canary);
    let (mut stranger, hello) = dial_as(&two.kit.openclaw, &stranger).await?;
    assert_eq!(hello["auth"]["scopes"], json!([]));
    let refused = stranger.request("sessions.list", json!({})).await?;
    assert_eq!(refused["ok"], false, "{refused}");
    Ok(())
}

#[tokio::test]
async fn an_agent_reaches_neither_anothers_files_nor_the_instances_own() -> Result<()> {
    let two = two().await?;
    let mut alice = two.alice.open().await?;
    let mut bob = two.bob.open().await?;
    let secret = format!("{} in a file", two.canary);
    let write = json!({"path": "diary.txt", "content": secret});
    alice.turn(&format!("[[tool=write {write}]]")).await?;
    let users = two.dir.path().join("users");
    let diary = users.join(&two.canary).join("workspace/diary.txt");
    assert_eq!(
        fs::read_to_string(&diary).unwrap_or_default(),
        secret,
        "she has it"
    );
    let own = users.join(&two.name).join("workspace");
    fs::write(own.join("mine.txt"), "my own words").expect("his workspace");
    std::os::unix::fs::symlink(&diary, own.join("link.txt")).expect("a link");
    std::os::unix::fs::symlink(diary.parent().expect("a parent"), own.join("dir")).expect("a link");
    let config = instance_config(&two.kit).await?;
    assert!(config.is_file(), "{}", config.display());
    let configured = fs::read_to_string(&config).unwrap_or_default();

    // That the tools work at all.
    let answer = tool(&two, &mut bob, "read", &json!({"path": "mine.txt"})).await?;
    assert!(answer.contains("my own words"), "{answer}");

    let up = format!("../../{}/workspace/diary.txt", two.canary);
    let targets = [
        diary.display().to_string(),
        up,
        "link.txt".to_owned(),
        "dir/diary.txt".to_owned(),
        config.display().to_string(),
        format!("file://{}", diary.display()),
        format!("~/../../../../../../../..{}", diary.display()),
    ];
    for path in &targets {
        let patch = format!(
            "*** Begin Patch\n*** Update File: {path}\n@@\n-{secret}\n+overwritten\n*** End Patch"
        );
        let add = format!("*** Begin Patch\n*** Add File: {path}.new\n+overwritten\n*** End Patch");
        for (name, arguments) in [
            ("read", json!({"path": path})),
            ("ls", json!({"path": path})),
            ("write", json!({"path": path, "content": "overwritten"})),
            (
                "edit",
                json!({"path": path, "oldText": secret, "newText": "overwritten"}),
            ),
            (
                "edit",
                json!({"path": path, "edits": [{"oldText": secret, "newText": "overwritten"}]}),
            ),
            ("apply_patch", json!({"input": patch})),
            ("apply_patch", json!({"input": add})),
        ] {
            let answer = tool(&two, &mut bob, name, &arguments).await?;
            for leaked in ["in a file", "trustedProxy", "apiKey"] {
                assert!(!answer.contains(leaked), "{name} {arguments}: {answer}");
            }
        }
    }
    for directory in ["..", "../..", "dir", "/", users.to_str().unwrap_or("/")] {
        let answer = tool(&two, &mut bob, "ls", &json!({"path": directory})).await?;
        assert!(
            !answer.contains("diary.txt") && !answer.contains(&two.canary),
            "{directory}: {answer}"
        );
    }
    // Tools that an agent has elsewhere.
    for name in [
        "exec",
        "process",
        "bash",
        "gateway",
        "sessions_list",
        "sessions_history",
        "secrets",
        "terminal",
    ] {
        let command =
            json!({"command": format!("cat {}", diary.display()), "action": "config.get"});
        let answer = tool(&two, &mut bob, name, &command).await?;
        assert!(!answer.contains("in a file"), "{name}: {answer}");
    }
    assert_eq!(
        fs::read_to_string(&diary).unwrap_or_default(),
        secret,
        "unchanged"
    );
    assert!(!diary.with_extension("txt.new").exists());
    assert_eq!(
        fs::read_to_string(&config).unwrap_or_default(),
        configured,
        "unchanged"
    );
    Ok(())
}

/// What the model is told that a tool answered.
async fn tool(two: &Two, socket: &mut Socket, name: &str, arguments: &Value) -> Result<String> {
    let mark = secret::mark()?;
    let turn = socket
        .turn(&format!("{mark} [[tool={name} {arguments}]]"))
        .await?;
    let calls = two.kit.provider().calls_about(&mark).await?;
    let mut results = calls.into_iter().filter_map(|call| call.tool_result);
    let told = results.next_back().unwrap_or_default();
    assert!(!told.is_empty(), "{name} {arguments}: {}", turn.text);
    Ok(told)
}

/// Where the instance keeps its configuration.
async fn instance_config(kit: &Kit) -> Result<PathBuf> {
    let (mut admin, _) =
        operator(&kit.openclaw, &kit.openclaw_password, &["operator.admin"]).await?;
    let config = admin.call("config.get", json!({})).await?;
    Ok(Path::new(config["path"].as_str().unwrap_or_default()).to_owned())
}
