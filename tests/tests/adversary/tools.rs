//! Every tool that his agent has, and those that agents have elsewhere, with her paths.

use std::{collections::BTreeSet, fs};

use gateway_tests::{error::Result, openclaw::operator, secret};
use serde_json::{Value, json};

use crate::people::{Two, agent_of};

/// Tools that one turn calls, one after the other: OpenClaw ends a turn that goes in a circle.
const AT_ONCE: usize = 8;

pub(crate) async fn tried(two: &mut Two) -> Result<()> {
    let hers = two.workspace(&two.hers.canary);
    let diary = hers.join("diary.txt");
    let words = format!("{} in a file", two.hers.canary);
    assert_eq!(two.diary(), words, "she has it");
    let own = two.workspace(&two.name);
    fs::write(own.join("mine.txt"), "my own words").expect("his workspace");
    std::os::unix::fs::symlink(&diary, own.join("link.txt")).expect("a link");
    std::os::unix::fs::symlink(&hers, own.join("dir")).expect("a link");
    let config = two.instance_config().await?;
    assert!(config.is_file(), "{}", config.display());
    let configured = fs::read_to_string(&config).unwrap_or_default();

    // That the tools work at all.
    let answers = called(two, &[("read".to_owned(), json!({"path": "mine.txt"}))]).await?;
    assert!(answers.contains("my own words"), "{answers}");

    let named = effective(two).await?;
    assert!(named.contains("read"), "{named:?}");
    let diary_path = diary.display();
    let targets = [
        diary_path.to_string(),
        format!("../../{}/workspace/diary.txt", two.hers.canary),
        "link.txt".to_owned(),
        "dir/diary.txt".to_owned(),
        config.display().to_string(),
        format!("file://{diary_path}"),
        format!("~/../../../../../../../..{diary_path}"),
    ];
    let mut attempts: Vec<(String, Value)> = Vec::new();
    let mut attempt = |name: &str, arguments: Value| attempts.push((name.to_owned(), arguments));
    for path in &targets {
        let patch = format!(
            "*** Begin Patch\n*** Update File: {path}\n@@\n-{words}\n+overwritten\n*** End Patch"
        );
        let add = format!("*** Begin Patch\n*** Add File: {path}.new\n+overwritten\n*** End Patch");
        attempt("read", json!({"path": path}));
        attempt("ls", json!({"path": path}));
        attempt("write", json!({"path": path, "content": "overwritten"}));
        let edit = json!({"oldText": words, "newText": "overwritten"});
        let mut one = edit.clone();
        one["path"] = json!(path);
        attempt("edit", one);
        attempt("edit", json!({"path": path, "edits": [edit]}));
        attempt("apply_patch", json!({"input": patch}));
        attempt("apply_patch", json!({"input": add}));
    }
    let users = two.dir.path().join("users");
    for directory in ["..", "../..", "dir", "/", users.to_str().unwrap_or("/")] {
        attempt("ls", json!({"path": directory}));
    }
    // Whatever else his agent has, and what agents have elsewhere.
    let elsewhere = [
        "bash",
        "exec",
        "gateway",
        "memory_search",
        "message",
        "process",
        "secrets",
        "sessions_history",
        "sessions_list",
        "sessions_send",
        "sessions_spawn",
        "subagents",
        "terminal",
    ];
    let others = elsewhere.map(str::to_owned);
    for name in named.iter().chain(&others) {
        if ["read", "ls", "write", "edit", "apply_patch"].contains(&name.as_str()) {
            continue;
        }
        attempt(
            name,
            json!({
                "command": format!("cat {diary_path}"), "action": "config.get", "path": diary_path.to_string(),
                "sessionKey": two.hers.session, "agentId": two.hers.agent, "query": two.hers.canary, "message": two.never,
            }),
        );
    }
    for some in attempts.chunks(AT_ONCE) {
        let answers = called(two, some).await?;
        for leaked in ["in a file", "trustedProxy", "apiKey"] {
            assert!(
                !answers.contains(leaked),
                "{leaked} in {answers}\nto {some:?}"
            );
        }
        for (name, arguments) in some {
            let is_directory = name == "ls"
                && arguments["path"]
                    .as_str()
                    .is_some_and(|path| !path.contains("diary"));
            if is_directory {
                assert!(!answers.contains("diary.txt\n"), "{arguments}: {answers}");
            }
        }
    }
    assert_eq!(two.diary(), words, "unchanged");
    assert!(!hers.join("diary.txt.new").exists());
    assert_eq!(
        fs::read_to_string(&config).unwrap_or_default(),
        configured,
        "unchanged"
    );
    Ok(())
}

/// The tools of his agent, as the instance's administration is told.
async fn effective(two: &Two) -> Result<BTreeSet<String>> {
    let scopes = ["operator.admin", "operator.read", "operator.write"];
    let (mut admin, _) = operator(&two.kit.openclaw, &two.kit.openclaw_password, &scopes).await?;
    let agent = agent_of(&two.bob);
    let params = json!({"agentId": agent, "sessionKey": format!("agent:{agent}:main")});
    let effective = admin.call("tools.effective", params).await?;
    let mut named = BTreeSet::new();
    let mut groups = vec![&effective];
    while let Some(value) = groups.pop() {
        match value {
            Value::Object(members) => {
                if let Some(tools) = members.get("tools").and_then(Value::as_array) {
                    let names = tools
                        .iter()
                        .filter_map(|tool| tool["id"].as_str().or(tool["name"].as_str()));
                    named.extend(names.map(str::to_owned));
                }
                groups.extend(members.values());
            }
            Value::Array(values) => groups.extend(values),
            _ => {}
        }
    }
    Ok(named)
}

/// What the model is told that these tools answered, one after the other in one turn. What is told him of it is not
/// searched: he has said it himself.
async fn called(two: &mut Two, tools: &[(String, Value)]) -> Result<String> {
    let mark = secret::mark()?;
    let mut message = mark.clone();
    for (name, arguments) in tools {
        message.push_str(&format!(" [[tool={name} {arguments}]]"));
    }
    let mut socket = two.bob_himself.open().await?;
    let turn = socket.turn(&message).await?;
    let calls = two.kit.provider().calls_about(&mark).await?;
    let told: Vec<_> = calls
        .into_iter()
        .filter_map(|call| call.tool_result)
        .collect();
    assert_eq!(told.len(), tools.len(), "{tools:?}: {told:?} {}", turn.text);
    Ok(told.join("\n"))
}
