//! Who requires a sandbox gets one, by OpenClaw's SSH backend and a real sshd, and with it `exec`; nobody else does.

#![expect(
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

use std::{fs, path::Path};

use gateway_tests::{
    error::Result,
    gateway::{Config, Gateway},
    kit::Kit,
    openclaw::OpenClaw,
    person::Person,
    sandbox_host::SandboxHost,
    secret,
};
use serde_json::{Value, json};

/// Has the agent call tools, and answers what it got for them.
async fn tools(person: &Person, calls: &[(&str, Value)]) -> Result<String> {
    let mut socket = person.open().await?;
    let calls: Vec<String> = calls
        .iter()
        .map(|(tool, arguments)| format!("[[tool={tool} {arguments}]]"))
        .collect();
    let turn = socket.turn(&format!("do it {}", calls.join(" "))).await?;
    assert_eq!(turn.state, "final", "{}", turn.text);
    let history = socket.ws.call("chat.history", json!({})).await?;
    let messages = history["messages"].as_array().cloned().unwrap_or_default();
    let results = messages
        .into_iter()
        .filter(|message| message["role"] == "toolResult");
    Ok(Value::from_iter(results).to_string())
}

/// Files of that name below a directory.
fn find(dir: &Path, name: &str) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => find(&entry.path(), name),
            _ if entry.file_name() == name => vec![entry.path()],
            _ => Vec::new(),
        })
        .collect()
}

#[tokio::test]
async fn who_requires_a_sandbox_has_exec_in_it_and_nobody_else_has() -> Result<()> {
    let mut kit = Kit::from_env()?;
    // What the instance and the gateway have is root's; the sandbox host is reached by its users.
    let dir = tempfile::tempdir().expect("a temporary directory");
    let sandboxes = tempfile::tempdir().expect("a temporary directory");
    let mut host = SandboxHost::start(sandboxes.path(), 2).await?;
    let instance = OpenClaw::start_with(
        kit.install.clone(),
        &dir.path().join("openclaw"),
        &secret::random()?,
        &host.patch(),
    )
    .await?;
    kit.openclaw = instance.url();
    kit.openclaw_password = instance.password().to_owned();
    let mut config = Config::new(&kit, dir.path())?;
    let ours = format!("capacity = 2\nsandbox_user = \"{}\"", host.user());
    config.text = config.text.replacen("mode = \"pool\"", &ours, 1);
    let gateway = Gateway::start(config.clone(), dir.path()).await?;
    let alice = Person::sign_in(&kit, "alice", &gateway).await?;
    let bob = Person::sign_in(&kit, "bob", &gateway).await?;

    let plain = bob.post("/api/openclaw/initialize", &json!({})).await?;
    assert_eq!(plain.json()?["hasSandbox"], false);
    // Also one who was here before without it.
    for (asked, has) in [
        (json!({}), false),
        (json!({"enableSandbox": true}), true),
        (json!({}), true),
    ] {
        let made = alice.post("/api/openclaw/initialize", &asked).await?;
        assert_eq!(made.json()?["hasSandbox"], has, "{asked}: {}", made.text());
    }
    for (person, has) in [(&alice, true), (&bob, false)] {
        for path in ["/api/openclaw/credentials", "/api/openclaw/status"] {
            assert_eq!(person.get(path).await?["hasSandbox"], has, "{path}");
        }
    }
    let profile = |name: &str| {
        let profile = format!("users/{name}/.openclaw/profiles/user-{name}.yml");
        fs::read_to_string(dir.path().join(profile)).unwrap_or_default()
    };
    assert!(
        profile("alice").contains("required: true"),
        "{}",
        profile("alice")
    );
    assert!(
        profile("bob").contains("required: false"),
        "{}",
        profile("bob")
    );

    let slot = alice.get("/api/openclaw/credentials").await?["sessionKey"].clone();
    let slot = slot
        .as_str()
        .and_then(|key| key.split(':').nth(1))
        .unwrap_or_default()
        .to_owned();
    let user = host.user_of(&slot);
    let configuration = instance.dir().join("openclaw.json");
    let id = "echo ran-as-$(id -un)";
    let both = format!(
        "{id}; echo of alice > note.txt; cat {}",
        configuration.display()
    );
    let ran = tools(&alice, &[("exec", json!({"command": both}))]).await?;
    assert!(ran.contains(&format!("ran-as-{user}")), "{ran}");
    assert!(
        ran.contains("Permission denied") && !ran.contains("trusted-proxy"),
        "the instance's own files: {ran}"
    );
    let elsewhere = [
        ("exec", json!({"command": id, "host": "gateway"})),
        ("exec", json!({"command": id, "elevated": true})),
    ];
    let refused = tools(&alice, &elsewhere).await?;
    assert!(!refused.contains("ran-as-root"), "{refused}");
    assert!(refused.contains("exec host not allowed"), "{refused}");
    let files = [
        ("read", json!({"path": "note.txt"})),
        ("read", json!({"path": "/etc/passwd"})),
    ];
    let read = tools(&alice, &files).await?;
    assert!(
        read.contains("of alice") && !read.contains("root:x:0"),
        "{read}"
    );
    let note = find(&sandboxes.path().join(&user), "note.txt");
    assert_eq!(
        note.len(),
        1,
        "on the sandbox host, in her user's directory"
    );
    let here = dir.path().join("users/alice/workspace");
    assert!(here.join("AGENTS.md").exists() && !here.join("note.txt").exists());

    let of_bob = tools(&bob, &[("exec", json!({"command": id}))]).await?;
    assert!(!of_bob.contains("ran-as"), "{of_bob}");

    // Where the operator requires it of everybody, also of who was here without it and of who asks for nothing.
    drop(gateway);
    config
        .env
        .push(("SANDBOX_ENABLED".to_owned(), "true".to_owned()));
    let gateway = Gateway::start(config, dir.path()).await?;
    let bob = Person::sign_in(&kit, "bob", &gateway).await?;
    let of_bob = tools(&bob, &[("exec", json!({"command": id}))]).await?;
    assert!(
        of_bob.contains("ran-as-") && !of_bob.contains("ran-as-root"),
        "{of_bob}"
    );
    assert!(
        !of_bob.contains(&format!("ran-as-{user}")),
        "a user of his own: {of_bob}"
    );
    let status = bob.get("/api/openclaw/status").await?;
    assert_eq!(status["hasSandbox"], true);
    let alice = Person::sign_in(&kit, "alice", &gateway).await?;

    // Without the host there is none to fall back to.
    host.stop().await?;
    let away = tools(
        &alice,
        &[("exec", json!({"command": "echo now-as-$(id -un)"}))],
    )
    .await;
    assert!(!format!("{away:?}").contains("now-as-root"), "{away:?}");
    drop(gateway);
    Ok(())
}
