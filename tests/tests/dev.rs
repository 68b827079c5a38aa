//! `gateway dev`: a first minute with nothing installed. Started with an empty environment, so that it finds no Node, no
//! OpenClaw and no database, whatever this machine has.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

use std::{env, fs, path::PathBuf, process::Stdio, time::Duration};

use ::http::StatusCode;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use gateway_tests::{
    canary,
    error::Result,
    http,
    person::{connect_params, send_params},
    ws::Ws,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

const LIMIT: Duration = Duration::from_secs(60);

/// A running `gateway dev`, and what it has printed.
struct Dev {
    child: Child,
    _stdout: Lines<BufReader<ChildStdout>>,
    said: String,
    dir: TempDir,
}

fn gateway() -> PathBuf {
    env::var_os("GATEWAY_BIN")
        .map(PathBuf::from)
        .expect("GATEWAY_BIN")
}

impl Dev {
    async fn start() -> Self {
        Self::start_with(&[]).await
    }

    async fn start_with(more: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new(gateway());
        command.env_clear();
        if let Some(log) = canary::log_file() {
            let log = fs::File::create(log).expect("a log");
            command.env("GATEWAY_LOG", "trace").stderr(log);
        }
        let mut child = command
            .args(["dev", "--listen", "127.0.0.1:0", "--dir"])
            .arg(dir.path())
            .args(more)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("its output")).lines();
        let mut said = String::new();
        let printing = async {
            while let Ok(Some(line)) = stdout.next_line().await {
                said.push_str(&line);
                said.push('\n');
                if line.contains("/api/usage") {
                    break;
                }
            }
        };
        timeout(LIMIT, printing).await.expect("it is ready in time");
        Self {
            child,
            _stdout: stdout,
            said,
            dir,
        }
    }

    /// What stands after a word at the beginning of a line.
    fn value(&self, name: &str) -> &str {
        let line = self
            .said
            .lines()
            .find_map(|line| line.trim().strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next())
            .unwrap_or_default()
    }

    fn token(&self, account: &str) -> String {
        fs::read_to_string(self.dir.path().join(format!("{account}.token"))).unwrap_or_default()
    }

    async fn usage(&self, account: &str) -> Result<Value> {
        let url = format!("{}/api/usage", self.value("gateway"));
        let token = self.token(account);
        let mut usage = Value::Null;
        for _ in 0..50 {
            usage = http::get(&url, Some(&token)).await?.json()?;
            if usage["total"]["totalTokens"] != 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(usage)
    }
}

/// Runs a line as it was printed.
async fn shell(line: &str) -> (String, String) {
    let run = Command::new("/bin/sh")
        .arg("-c")
        .arg(line)
        .env_clear()
        .output();
    let output = timeout(LIMIT, run)
        .await
        .expect("in time")
        .expect("it runs");
    assert!(output.status.success(), "{line}: {output:?}");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn both_printed_lines_work_and_each_person_sees_their_own() -> Result<()> {
    let mut dev = Dev::start().await;
    let lines: Vec<String> = dev
        .said
        .lines()
        .filter(|line| line.contains(" chat --url "))
        .map(str::to_owned)
        .collect();
    assert_eq!(lines.len(), 2, "{}", dev.said);
    assert!(
        lines[0].contains("alice") && lines[1].contains("bob"),
        "{lines:?}"
    );

    // What bob is told while alice talks.
    let url = format!("{}/ws", dev.value("gateway").replacen("http", "ws", 1));
    let bearer = format!("Bearer {}", dev.token("bob"));
    let mut bob = Ws::connect(&url, &[("authorization", &bearer)]).await?;
    bob.event("connect.challenge").await?;
    let mut told = bob
        .call("connect", connect_params(&json!({})))
        .await?
        .to_string();
    bob.call("sessions.subscribe", json!({})).await?;

    let (reply, usage) = shell(&lines[0].replace("\"hello\"", "\"hello from a-canary\"")).await;
    assert!(reply.contains("You said: hello from a-canary"), "{reply}");
    assert!(usage.contains("in 1 model calls"), "{usage}");
    let (reply, _) = shell(&lines[1]).await;
    assert!(
        reply.contains("You said: hello") && !reply.contains("canary"),
        "{reply}"
    );

    let started = bob.call("chat.send", send_params("mine")?).await?;
    let run_id = started["runId"].as_str().unwrap_or_default().to_owned();
    let ended = |frame: &Value| {
        frame["payload"]["runId"] == run_id.as_str() && frame["payload"]["state"] == "final"
    };
    told.push_str(&Value::from(bob.collect_until(ended).await?).to_string());
    for method in [
        "sessions.list",
        "agents.list",
        "system-presence",
        "health",
        "chat.history",
    ] {
        told.push_str(&bob.request(method, json!({})).await?.to_string());
    }
    assert!(told.contains("mine") && !told.contains("canary"), "{told}");
    assert!(!told.contains("alice"), "{told}");

    let (hers, his) = (dev.usage("alice").await?, dev.usage("bob").await?);
    assert_eq!(
        (&hers["total"]["runs"], &his["total"]["runs"]),
        (&json!(1), &json!(2))
    );

    // It ends when it is told to.
    let pid = dev
        .child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw);
    kill_process(pid.expect("its id"), Signal::TERM).expect("it is there");
    let status = timeout(Duration::from_secs(20), dev.child.wait()).await;
    assert!(status.expect("in time").expect("its status").success());
    Ok(())
}

// A double: the patch that takes these parameters is nowhere to be had. Its demo instance refuses a message without them,
// or with another's.
#[tokio::test]
async fn d3_38_an_extended_instance_is_told_whose_message_it_is_and_the_client_tells_nothing()
-> Result<()> {
    let dev = Dev::start_with(&["--extended-chat-params"]).await;
    let url = format!("{}/ws", dev.value("gateway").replacen("http", "ws", 1));
    let mut sockets = Vec::new();
    for name in ["alice", "bob"] {
        let token = dev.token(name);
        let bearer = format!("Bearer {token}");
        let mut ws = Ws::connect(&url, &[("authorization", &bearer)]).await?;
        ws.event("connect.challenge").await?;
        let hello = ws.call("connect", connect_params(&json!({}))).await?;
        let main = hello["snapshot"]["sessionDefaults"]["mainSessionKey"].clone();
        let main = main.as_str().unwrap_or_default().to_owned();
        assert!(main.ends_with(&format!(":user:{name}")), "{main}");
        ws.call("sessions.subscribe", json!({})).await?;
        let credentials = format!("{}/api/openclaw/credentials", dev.value("gateway"));
        let credentials = http::get(&credentials, Some(&token)).await?.json()?;
        assert_eq!(credentials["sessionKey"], format!("user:{name}"));
        sockets.push((name, main, ws));
    }
    for (name, main, ws) in &mut sockets {
        for session in ["main", &format!("user:{name}"), main] {
            let mut params = send_params(&format!("of-{name}"))?;
            params["sessionKey"] = session.into();
            let started = ws.call("chat.send", params).await?;
            let run_id = started["runId"].as_str().unwrap_or_default().to_owned();
            let ended = |frame: &Value| {
                frame["payload"]["runId"] == run_id.as_str() && frame["payload"]["state"] == "final"
            };
            let ended = ws.find(ended).await?;
            assert_eq!(ended["payload"]["sessionKey"], main.as_str(), "{ended}");
        }
        let history = ws.call("chat.history", json!({})).await?;
        let said = history["messages"].as_array().map_or(0, Vec::len);
        assert_eq!(said, 6, "three messages and their answers: {history}");
        assert!(!history.to_string().contains(if *name == "alice" {
            "of-bob"
        } else {
            "of-alice"
        }));
    }
    let (_, bobs, _) = &sockets[1];
    let bobs = bobs.clone();
    let (_, _, alice) = &mut sockets[0];
    for (member, value) in [
        ("workspaceDir", "/"),
        ("authProfileId", "user-bob-dev"),
        ("sessionKey", "user:bob"),
        ("sessionKey", "user:ALICE"),
        ("sessionKey", &bobs),
    ] {
        let mut params = send_params("not said")?;
        params[member] = value.into();
        let refused = alice.request("chat.send", params).await?;
        assert_eq!(refused["ok"], false, "{member}: {value}: {refused}");
    }
    let history = alice.call("chat.history", json!({})).await?;
    assert!(!history.to_string().contains("not said"), "{history}");
    Ok(())
}

#[tokio::test]
async fn it_listens_on_loopback_only_and_says_so() -> Result<()> {
    for address in ["0.0.0.0:3000", "[::]:0", "192.0.2.1:3000"] {
        let run = Command::new(gateway())
            .args(["dev", "--listen", address])
            .env_clear()
            .output();
        let output = timeout(LIMIT, run)
            .await
            .expect("in time")
            .expect("it runs");
        assert_eq!(output.status.code(), Some(2), "{address}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("loopback only"), "{said}");
    }
    let run = Command::new(gateway())
        .args([
            "dev",
            "--openclaw=/nowhere/openclaw",
            "--listen",
            "127.0.0.1:0",
        ])
        .output();
    let output = timeout(LIMIT, run)
        .await
        .expect("in time")
        .expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("npm install -g openclaw"), "{said}");
    Ok(())
}

/// Authorization code with PKCE at the built-in provider, by its own rules.
#[tokio::test]
async fn its_sign_in_page_signs_in_whom_was_chosen() -> Result<()> {
    let dev = Dev::start().await;
    let issuer = dev.value("sign-in").to_owned();
    let discovery = http::get(&format!("{issuer}/.well-known/openid-configuration"), None)
        .await?
        .json()?;
    assert_eq!(discovery["issuer"], issuer.as_str());
    let (authorize, token) = (
        discovery["authorization_endpoint"]
            .as_str()
            .unwrap_or_default(),
        discovery["token_endpoint"].as_str().unwrap_or_default(),
    );

    let verifier = "v".repeat(43);
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes());
    let challenge = URL_SAFE_NO_PAD.encode(hash);
    let back = "http://127.0.0.1:1/callback";
    let query = |back: &str, challenge: &str, method: &str| {
        format!(
            "response_type=code&client_id=gateway-dev&redirect_uri={back}&state=s1&code_challenge={challenge}\
             &code_challenge_method={method}"
        )
    };
    let page = http::get(
        &format!("{authorize}?{}", query(back, &challenge, "S256")),
        None,
    )
    .await?;
    assert_eq!(page.status, 200);
    for account in ["alice", "bob", "admin"] {
        assert!(
            page.text().contains(&format!("value={account}")),
            "{}",
            page.text()
        );
    }
    assert_eq!(page.header("x-frame-options"), Some("DENY"));
    for (back, challenge, method) in [
        ("https://evil.example/callback", challenge.as_str(), "S256"),
        ("http://127.0.0.1@evil.example/", &challenge, "S256"),
        (back, &challenge, "plain"),
        (back, "short", "S256"),
    ] {
        let refused = http::get(
            &format!("{authorize}?{}", query(back, challenge, method)),
            None,
        )
        .await?;
        assert_eq!(refused.status, 400, "{back} {challenge} {method}");
    }

    let choose = |origin: &str| {
        let request = ::http::Request::post(authorize)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("origin", origin);
        http::send(
            request,
            format!("{}&account=bob", query(back, &challenge, "S256")),
        )
    };
    assert_eq!(choose("https://evil.example").await?.status, 403);
    let chosen = choose(&issuer).await?;
    assert_eq!(chosen.status, 303);
    let location = chosen.header("location").unwrap_or_default().to_owned();
    assert!(
        location.contains("&iss=http%3A%2F%2F127.0.0.1") && location.contains("&state=s1"),
        "{location}"
    );
    let code = location
        .split_once("code=")
        .map(|(_, rest)| rest.split('&').next().unwrap_or_default());
    let code = code.unwrap_or_default().to_owned();

    let redeem = |code: String, verifier: String| {
        let request = ::http::Request::post(token)
            .header("content-type", "application/x-www-form-urlencoded");
        let form = format!(
            "grant_type=authorization_code&client_id=gateway-dev&redirect_uri={back}&code={code}&code_verifier={verifier}"
        );
        http::send(request, form)
    };
    let tokens = redeem(code.clone(), verifier.clone()).await?;
    assert_eq!(tokens.status, 200, "{}", tokens.text());
    let access = tokens.json()?["access_token"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let url = format!("{}/api/user/info", dev.value("gateway"));
    let me = http::get(&url, Some(&access)).await?.json()?;
    assert_eq!(me["user_id"], "bob", "{me}");
    assert_eq!(
        redeem(code, verifier).await?.status,
        400,
        "a code is good once"
    );
    let chosen = choose(&issuer).await?;
    let location = chosen.header("location").unwrap_or_default().to_owned();
    let code = location
        .split_once("code=")
        .map(|(_, rest)| rest.split('&').next().unwrap_or_default());
    let wrong = redeem(code.unwrap_or_default().to_owned(), "w".repeat(43)).await?;
    assert_eq!(wrong.status, 400, "somebody else's code");

    // A page of the internet whose name leads here.
    let request = ::http::Request::get(format!("{issuer}/")).header("host", "evil.example");
    assert_eq!(http::send(request, "").await?.status, 421);
    Ok(())
}

#[tokio::test]
async fn openais_api_is_there_and_each_run_is_the_persons_own() -> Result<()> {
    let dev = Dev::start().await;
    let url = format!("{}/v1/chat/completions", dev.value("gateway"));
    for (account, other) in [("alice", "slot-002"), ("bob", "slot-001")] {
        let token = dev.token(account);
        let ask = |model: &str, stream: bool| {
            let messages = json!([{"role": "user", "content": "hello"}]);
            json!({"model": model, "messages": messages, "stream": stream, "user": "one"})
        };
        let whole = http::post(&url, Some(&token), &ask("openclaw", false)).await?;
        let whole = whole.expect_status(StatusCode::OK)?.json()?;
        let said = &whole["choices"][0]["message"]["content"];
        assert!(
            said.as_str().is_some_and(|said| !said.is_empty()),
            "{whole}"
        );
        let streamed = http::post(&url, Some(&token), &ask("openclaw", true)).await?;
        let streamed = streamed.expect_status(StatusCode::OK)?.text();
        assert!(streamed.matches("data: {").count() > 2, "{streamed}");
        assert!(streamed.ends_with("data: [DONE]\n\n"), "{streamed}");
        let others = ask(&format!("openclaw/{other}"), false);
        let refused = http::post(&url, Some(&token), &others).await?;
        assert_eq!(refused.status, StatusCode::NOT_FOUND, "{account}");
    }
    Ok(())
}
