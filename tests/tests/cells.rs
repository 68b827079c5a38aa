//! Somebody with an instance of their own beside a pool: what they can do there, and that nobody else gets there.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]
#![expect(clippy::print_stdout, reason = "the numbers are for people")]

use std::{collections::BTreeSet, fmt::Write, fs, path::Path, time::Duration};

use gateway::protocol::{Cell, ROWS};
use gateway_tests::{
    chromium::run_script,
    error::{Error, Result},
    gateway::{Config, Gateway},
    http,
    issuer::AUDIENCE,
    kit::Kit,
    openclaw::{OpenClaw, USER_HEADER},
    person::{Person, Socket, connect_params},
    secret,
    ws::Ws,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// How long something may take that takes a moment.
const PATIENCE: Duration = Duration::from_secs(90);

/// A gateway before the shared pool and a cell of alice's.
struct World {
    kit: Kit,
    gateway: Gateway,
    cell: OpenClaw,
    admin: Person,
    alice: Person,
    bob: Person,
    /// Her id.
    name: String,
    dir: tempfile::TempDir,
}

impl World {
    async fn start(auth: &str, configured: &Value, affinity: &str) -> Result<Self> {
        let kit = Kit::from_env()?;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mark = secret::mark()?;
        let cell = openclaw(&kit, dir.path(), configured).await?;
        let mut config = Config::new(&kit, dir.path())?;
        let name = format!("alice-{mark}");
        config.text += &section(&cell, &name, auth);
        config.text += affinity;
        let gateway = Gateway::start(config, dir.path()).await?;
        let sign_in = async |account: &str| Person::sign_in(&kit, account, &gateway).await;
        let world = Self {
            admin: sign_in("admin").await?,
            alice: sign_in(&name).await?,
            bob: sign_in(&format!("bob-{mark}")).await?,
            name,
            kit,
            gateway,
            cell,
            dir,
        };
        world.until_ready(true).await?;
        Ok(world)
    }

    /// Waits until the cell is ready, or is not.
    async fn until_ready(&self, is_ready: bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.admin.get("/api/admin/instances").await?;
            let mut instances = answer["instances"].as_array().into_iter().flatten();
            let pool = instances.find(|instance| instance["name"] == "pool-1");
            let cell = instances_named(&answer, "cell-1");
            if cell["ready"] == is_ready && pool.is_some_and(|pool| pool["ready"] == true) {
                assert_eq!(
                    (&cell["mode"], &cell["user"]),
                    (&json!("cell"), &json!(self.name))
                );
                assert_eq!(
                    (&cell["capacity"], &cell["assigned"]),
                    (&json!(1), &json!(1))
                );
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Error::Late(PATIENCE, answer.to_string()));
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Where somebody works, by their agent and instance, once they are let in.
    async fn place(&self, person: &Person) -> Result<(String, String)> {
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
        let status = person.get("/api/openclaw/status").await?;
        let credentials = person.get("/api/openclaw/credentials").await?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok((
            text(&status["instance"]["name"]),
            text(&credentials["sessionKey"]),
        ))
    }

    fn reload(&mut self, change: impl FnOnce(&mut String)) -> Result<()> {
        let mut config = self.gateway.config().clone();
        change(&mut config.text);
        self.gateway.reload(config)
    }

    async fn delete(&self, path: &str) -> Result<http::Response> {
        let url = self.gateway.url(path);
        let delete = ::http::Request::delete(&*url);
        let bearer = format!("Bearer {}", self.admin.token);
        http::send(delete.header("authorization", &*bearer), "").await
    }
}

async fn openclaw(kit: &Kit, dir: &Path, configured: &Value) -> Result<OpenClaw> {
    let dir = dir.join("cell");
    fs::create_dir(&dir).expect("a directory");
    OpenClaw::start_with(kit.install.clone(), &dir, &secret::random()?, configured).await
}

fn section(cell: &OpenClaw, user: &str, auth: &str) -> String {
    let mut section = String::new();
    // Writing to a String does not fail.
    let _ = write!(
        section,
        "\n[[instance]]\nname = \"cell-1\"\nurl = \"{}\"\nmode = \"cell\"\nuser = \"{user}\"\n\
         auth = {{ {auth}, password = \"{}\" }}\n",
        cell.url(),
        cell.password(),
    );
    section
}

/// OpenClaw as it is at home: who knows the password is let in.
fn by_password() -> Value {
    json!({"gateway": {"trustedProxies": null, "auth": {"mode": "password", "trustedProxy": null}}})
}

fn instances_named(answer: &Value, name: &str) -> Value {
    let mut instances = answer["instances"].as_array().into_iter().flatten();
    let named = instances.find(|instance| instance["name"] == name);
    named.cloned().unwrap_or_default()
}

async fn chats(socket: &mut Socket, message: &str) -> Result<()> {
    let turn = socket.turn(message).await?;
    assert_eq!(turn.state, "final", "{}", turn.text);
    assert!(turn.text.contains(message), "{}", turn.text);
    Ok(())
}

/// What is answered to a client whose socket is not opened, and by what it is closed.
async fn refused(gateway: &Gateway, person: &Person) -> Result<(Value, u16)> {
    let bearer = format!("Bearer {}", person.token);
    let mut ws = Ws::connect(&gateway.ws_url("/ws"), &[("authorization", &bearer)]).await?;
    ws.event("connect.challenge").await?;
    let answer = ws.request("connect", connect_params(&json!({}))).await?;
    Ok((answer["error"].clone(), ws.closed().await?.0))
}

fn calls_of(quota: &Value) -> u64 {
    let mut limits = quota["limits"].as_array().into_iter().flatten();
    let calls = limits.find(|limit| limit["dimension"] == "calls");
    calls.map_or(0, |calls| calls["used"].as_u64().unwrap_or(0))
}

/// Who has a cell works in it, and everything about them is as in a pool: what they use, their directory, their agent.
async fn works_there(world: &World) -> Result<Socket> {
    let World { alice, bob, .. } = world;
    assert_eq!(
        world.place(alice).await?,
        ("cell-1".to_owned(), "agent:main:main".to_owned())
    );
    let (his, his_session) = world.place(bob).await?;
    assert!(
        his == "pool-1" && his_session.starts_with("agent:slot-"),
        "{his_session}"
    );
    let mut hers = alice.open().await?;
    let mut others = bob.open().await?;
    let (one, two) = (
        format!("one of {}", world.name),
        format!("two of {}", world.name),
    );
    let (chatted, chats_too) = tokio::join!(chats(&mut hers, &one), chats(&mut others, "his"));
    chatted?;
    chats_too?;
    let ask = json!({"model": "openclaw", "messages": [{"role": "user", "content": two}]});
    let answer = alice.post("/v1/chat/completions", &ask).await?;
    assert!(
        answer.status.is_success() && answer.text().contains(&two),
        "{}",
        answer.text()
    );
    let response = json!({"model": "openclaw/main", "input": two});
    let answer = alice.post("/v1/responses", &response).await?;
    assert!(answer.status.is_success(), "{}", answer.text());
    let models = alice.get("/v1/models").await?.to_string();
    assert!(models.contains("openclaw/main"), "{models}");
    let foreign =
        json!({"model": "openclaw/main", "messages": [{"role": "user", "content": "hi"}]});
    let answer = bob.post("/v1/chat/completions", &foreign).await?;
    assert_eq!(answer.status.as_u16(), 404, "her agent is not his");

    let usage = alice
        .wait_for("/api/usage", |usage| {
            usage["total"]["runs"] == 3 && usage["total"]["estimated"] == 0
        })
        .await?;
    let calls = world.kit.provider().calls_about(&world.name).await?;
    let tokens: u64 = calls
        .iter()
        .map(|call| call.prompt_tokens + call.completion_tokens)
        .sum();
    assert_eq!(
        (calls.len(), &usage["total"]["totalTokens"]),
        (3, &json!(tokens)),
        "{usage}"
    );
    assert_eq!(calls_of(&alice.get("/api/quota").await?), 3);
    let page = alice.get("/control-ui-config.json").await?;
    assert_eq!(page["assistantAgentId"], "main", "{page}");
    let html = alice.fetch("/").await?;
    assert!(
        html.status.is_success() && html.text().contains("<html"),
        "{}",
        html.text()
    );
    // What her agent writes about itself at its first turn is in the directory that is hers.
    let workspace = world
        .dir
        .path()
        .join("users")
        .join(&world.name)
        .join("workspace");
    assert!(
        workspace.join("SOUL.md").is_file(),
        "{}",
        workspace.display()
    );
    Ok(hers)
}

/// The table's column of cells decides what passes, to the last method.
async fn is_gated(world: &World, hers: &mut Socket) -> Result<()> {
    let advertised = hers.hello["features"]["methods"].as_array();
    let advertised: BTreeSet<&str> = advertised
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    assert!(advertised.len() > 200 && advertised.contains("agents.files.get"));
    for row in ROWS.iter().filter(|row| row.cell == Cell::Refuse) {
        assert!(!advertised.contains(row.name), "{}", row.name);
        let refused = hers.ws.request(row.name, json!({})).await?;
        let message = refused["error"]["message"].as_str().unwrap_or_default();
        let expected = match row.name {
            "connect" => "connect is only valid as the first request",
            _ => "this is not available here: ",
        };
        assert!(message.starts_with(expected), "{}: {refused}", row.name);
    }
    for method in ["config.patch", "update.run", "secrets.resolve"] {
        assert!(
            ROWS.iter()
                .any(|row| row.name == method && row.cell == Cell::Refuse),
            "{method}"
        );
    }
    let unknown = hers.ws.request("future.method", json!({})).await?;
    assert_eq!(unknown["ok"], false);
    let of_main = json!({"agentId": "main"});
    for (method, params) in [
        ("agents.files.list", &of_main),
        ("tools.effective", &json!({"sessionKey": "agent:main:main"})),
        ("exec.approval.list", &json!({})),
        ("question.list", &json!({})),
        ("sessions.preview", &json!({"keys": ["agent:main:main"]})),
        ("status", &json!({})),
    ] {
        let answer = hers.ws.request(method, params.clone()).await?;
        assert_eq!(answer["ok"], true, "{method}: {answer}");
    }
    // She may not administer it, whatever she asked for and whatever the table lets pass.
    let created = hers
        .ws
        .request("agents.create", json!({"name": "x", "workspace": "/tmp/x"}))
        .await?;
    assert_eq!(
        created["error"]["details"]["code"], "MISSING_SCOPE",
        "{created}"
    );
    let scopes = hers.hello["auth"]["scopes"].to_string();
    assert!(
        scopes.contains("operator.write") && !scopes.contains("admin"),
        "{scopes}"
    );
    for secret in [
        world.cell.password(),
        "deviceToken",
        "configPath",
        "stateDir",
    ] {
        assert!(!hers.hello.to_string().contains(secret), "{secret}");
    }
    for command in ["/config show", "/restart", "please /exec ask=off"] {
        let params =
            json!({"sessionKey": "main", "message": command, "idempotencyKey": secret::random()?});
        let refused = hers.ws.request("chat.send", params).await?;
        assert_eq!(refused["ok"], false, "{command}: {refused}");
    }
    // Her agent is no administrator's either, however it is asked.
    let effective = hers
        .ws
        .call("tools.effective", json!({"sessionKey": "agent:main:main"}))
        .await?;
    assert!(
        !effective.to_string().contains("\"id\":\"openclaw\""),
        "{effective}"
    );
    // His frames stay in the pool.
    let mut his = world.bob.open().await?;
    for method in ["chat.history", "sessions.describe"] {
        let key = if method == "chat.history" {
            "sessionKey"
        } else {
            "key"
        };
        let refused = his
            .ws
            .request(method, json!({key: "agent:main:main"}))
            .await?;
        assert_eq!(refused["ok"], false, "{refused}");
    }
    Ok(())
}

/// What the instance numbers she gets as it is numbered: nothing is left out.
async fn is_unread(hers: &mut Socket) -> Result<()> {
    let run_id = hers.start("count these").await?;
    let frames = hers.ws.collect_until(|frame| {
        frame["event"] == "chat"
            && frame["payload"]["runId"] == *run_id
            && frame["payload"]["state"] == "final"
    });
    let frames = frames.await?;
    let numbers: Vec<u64> = frames
        .iter()
        .filter_map(|frame| frame["seq"].as_u64())
        .collect();
    assert!(numbers.len() > 5, "{numbers:?}");
    let follow = numbers.windows(2).all(|two| two[1] == two[0] + 1);
    assert!(follow, "{numbers:?}");
    Ok(())
}

/// A socket ends with what it was opened with.
async fn ends(world: &World) -> Result<()> {
    let short = Duration::from_secs(6);
    let token = world
        .kit
        .issuer()
        .token_for(&world.name, AUDIENCE, short)
        .await?;
    let mut expires = Person::with_token(token, &world.gateway).open().await?;
    let mut revoked = world.alice.open().await?;
    let path = format!("/api/admin/users/{}/sessions", world.name);
    // The revocation must not be what ends the one that expires.
    let (code, _) = expires.ws.closed().await?;
    assert_eq!(code, 4401, "expired");
    assert!(world.delete(&path).await?.status.is_success());
    let (code, _) = revoked.ws.closed().await?;
    assert_eq!(code, 4401, "revoked");
    Ok(())
}

/// OpenClaw's own page, before her cell.
async fn is_shown(world: &World) -> Result<()> {
    let url = world.gateway.url("");
    let environment = [("GATEWAY_URL", &*url), ("ALICE", &*world.name)];
    let (limit, dir) = (Duration::from_secs(240), world.dir.path());
    run_script(&world.kit.install, "browser-cell", &environment, dir, limit).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_a_cell_works_in_it_and_nobody_else_does() -> Result<()> {
    let begin = Instant::now();
    let done = |what: &str| println!("{what} after {:?}", begin.elapsed());
    let mut world = World::start("kind = \"password\"", &by_password(), "").await?;
    done("a cell");
    let mut hers = works_there(&world).await?;
    done("worked");
    is_gated(&world, &mut hers).await?;
    done("gated");
    is_unread(&mut world.alice.open().await?).await?;
    is_shown(&world).await?;
    done("shown");
    ends(&world).await?;

    // A token of the second in which she was signed out may be one of before.
    sleep(Duration::from_secs(2)).await;
    // Away: she is told to come again, and does.
    world.alice = Person::sign_in(&world.kit, &world.name, &world.gateway).await?;
    let mut hers = world.alice.open().await?;
    let mut his = world.bob.open().await?;
    world.cell.stop().await?;
    assert_eq!(hers.ws.closed().await?.0, 1012);
    done("stopped");
    world.until_ready(false).await?;
    let (error, code) = refused(&world.gateway, &world.alice).await?;
    assert_eq!(
        (&error["code"], code),
        (&json!("UNAVAILABLE"), 1013),
        "{error}"
    );
    assert!(
        error["retryAfterMs"].as_u64().is_some_and(|wait| wait > 0),
        "{error}"
    );
    let asked = json!({"model": "openclaw", "messages": [{"role": "user", "content": "hi"}]});
    let answer = world.alice.post("/v1/chat/completions", &asked).await?;
    assert_eq!(answer.status.as_u16(), 503, "{}", answer.text());
    chats(&mut his, "undisturbed").await?;
    world.cell.start_again().await?;
    world.until_ready(true).await?;
    assert_eq!(world.place(&world.alice).await?.0, "cell-1");
    let mut hers = world.alice.open().await?;
    chats(&mut hers, "here again").await?;

    done("away and back");

    // Without a cell she is where everybody is, and with one in it again; her place in the pool is kept for her.
    let cell = section(&world.cell, &world.name, "kind = \"password\"");
    let mut his = world.bob.open().await?;
    world.reload(|text| *text = text.replace(&cell, ""))?;
    assert_eq!(hers.ws.closed().await?.0, 1012);
    let in_pool = world.place(&world.alice).await?;
    done("in the pool");
    assert!(
        in_pool.0 == "pool-1" && in_pool.1.starts_with("agent:slot-"),
        "{in_pool:?}"
    );
    let mut in_the_pool = world.alice.open().await?;
    chats(&mut in_the_pool, "in the pool").await?;
    let refused = in_the_pool
        .ws
        .request("agents.files.list", json!({"agentId": "main"}))
        .await?;
    assert_eq!(refused["ok"], false, "a pool's column holds there");
    world.reload(|text| text.push_str(&cell))?;
    world.until_ready(true).await?;
    assert_eq!(world.place(&world.alice).await?.0, "cell-1");
    chats(&mut world.alice.open().await?, "in the cell again").await?;
    let assigned = format!("/api/admin/users/{}/assignment?instance=pool-1", world.name);
    assert_eq!(
        world.delete(&assigned).await?.status.as_u16(),
        204,
        "it was kept"
    );
    chats(&mut his, "still here").await?;

    done("gone and back");

    // Gone: neither a key of hers nor what she said is left in her cell.
    let deleted = world
        .delete(&format!("/api/admin/users/{}", world.name))
        .await?;
    assert!(deleted.status.is_success(), "{}", deleted.text());
    done("deleted");
    let (mut admin, _) = world
        .cell
        .operator(&["operator.admin", "operator.read"])
        .await?;
    let config = admin.call("config.get", json!({})).await?;
    assert_eq!(
        config["config"]["models"]["providers"],
        json!({}),
        "{config}"
    );
    let history = admin
        .call("chat.history", json!({"sessionKey": "main"}))
        .await?;
    let said = history["messages"].to_string();
    assert!(!said.contains("in the cell again"), "{said}");
    assert!(!world.dir.path().join("users").join(&world.name).exists());
    Ok(())
}

/// The same where the cell is told who comes, as one on another host is; and where people are rather in a pool than wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_a_cell_is_in_a_pool_while_it_is_away_where_that_is_preferred() -> Result<()> {
    let auth = format!("kind = \"trusted-proxy\", user_header = \"{USER_HEADER}\"");
    let affinity = "\n[routing]\naffinity = \"preferred\"\n";
    let scopes = json!([
        "operator.read",
        "operator.write",
        "operator.approvals",
        "operator.questions"
    ]);
    let approves =
        json!({"gateway": {"auth": {"trustedProxy": {"deviceAutoApprove": {"scopes": scopes}}}}});
    let mut world = World::start(&auth, &approves, affinity).await?;
    let hers = works_there(&world).await?;
    let scopes = hers.hello["auth"]["scopes"].to_string();
    assert!(
        scopes.contains("approvals") && !scopes.contains("admin"),
        "{scopes}"
    );
    drop(hers);

    world.cell.stop().await?;
    world.until_ready(false).await?;
    let (instance, session) = world.place(&world.alice).await?;
    assert!(
        instance == "pool-1" && session.starts_with("agent:slot-"),
        "{session}"
    );
    chats(&mut world.alice.open().await?, "meanwhile").await?;
    world.cell.start_again().await?;
    world.until_ready(true).await?;
    assert_eq!(world.place(&world.alice).await?.0, "cell-1");
    chats(&mut world.alice.open().await?, "at home").await?;
    Ok(())
}
