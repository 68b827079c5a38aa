//! What operators do by the socket of a running `gateway serve`, whose instance, issuer and provider are not there.

#![expect(
    clippy::unwrap_used,
    reason = "a gateway that does not start is a failed test"
)]

mod commands;
mod fixture;

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::time::Duration;

use gateway::api;
use gateway::store::Store;
use http::Method;
use serde_json::{Value, json};
use tower_quota::Terms;
use tower_usage::sqlite::{LedgerOptions, SqliteLedger};
use tower_usage::{Operation, Sink, UsageRecord};

use crate::fixture::{Fixture, READY_LIMIT, command};

#[tokio::test]
async fn quotas_are_set_shown_granted_and_reset_by_the_socket() {
    let mut fixture = Fixture::new();
    let (code, said) = fixture.refusal(&["show", "alice"]).await;
    let nobody = format!(
        "no gateway listens at {}; is `gateway serve` running?",
        fixture.socket().display()
    );
    assert!(code == Some(1) && said.contains(&nobody), "{said}");
    fixture.start().await;
    let file = fs::symlink_metadata(fixture.socket()).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!(file.permissions().mode() & 0o7777, 0o600);
    let none = fixture.say(&["list"]).await;
    assert_eq!(none, "nobody has anything beside their plan\n");

    let odd = "corp|a/b ?#%é";
    fixture
        .say(&["set", odd, "calls/day=0", "time-zone=Europe/Berlin"])
        .await;
    let shown = fixture
        .say(&["set", odd, "plan=pro", "calls/hour=unlimited"])
        .await;
    assert!(shown.contains("calls/day   0"), "as before: {shown}");
    assert!(shown.contains("cost/month  $10.00"), "{shown}");
    let listed = fixture.say(&["list"]).await;
    let line = format!("{odd}  pro   Europe/Berlin  calls/day=0 calls/hour=unlimited  -");
    assert!(listed.contains(&line), "{listed}");
    let explained = fixture.say(&["explain", odd]).await;
    let sentence =
        "a run would be refused now:\n  Daily call limit exceeded (0 / 0 calls). Resets at ";
    assert!(explained.contains(sentence), "{explained}");

    let granted = fixture
        .say(&["grant", odd, "calls/day=3", "--for", "7d"])
        .await;
    assert!(granted.contains("calls/day  3       20"), "{granted}");
    let explained = fixture.json(&["explain", odd]).await;
    assert_eq!(explained["run"]["allowed"], true);
    let version = fixture.json(&["show", odd]).await["version"].as_u64();
    let reset = fixture.json(&["reset", odd]).await;
    assert_eq!(
        reset["version"].as_u64(),
        version.map(|version| version + 1)
    );
    assert_eq!(
        (&reset["plan"], &reset["timeZone"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(
        fixture.json(&["list"]).await["quotas"],
        Value::Array(vec![])
    );

    // What the gateway refuses, and what is not even sent.
    let (code, said) = fixture.refusal(&["set", odd, "plan=none"]).await;
    assert_eq!(code, Some(1));
    assert!(
        said.contains("plan: must be one that the configuration has"),
        "{said}"
    );
    for (arguments, named) in [
        (
            &["set", odd, "tokens/day=1", "tokens/day=2"][..],
            "tokens/day is named twice",
        ),
        (&["set", odd, "tokens/week=1"], "<CHANGE>"),
        (&["list", "--config", "none.toml"], "cannot read none.toml"),
    ] {
        let (code, said) = fixture.refusal(arguments).await;
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(named), "{said}");
    }
    assert_eq!(
        fixture.json(&["list"]).await["quotas"],
        Value::Array(vec![])
    );
    let by = format!("by=operator:{}", rustix::process::geteuid().as_raw());
    assert!(fixture.log().contains(&by), "{}", fixture.log());
    fixture.stop().await;
    assert!(!fixture.socket().exists());
}

#[tokio::test]
async fn of_several_who_change_the_same_quota_nobody_is_forgotten_and_a_crash_forgets_nothing() {
    let mut fixture = Fixture::new();
    fixture.start().await;
    let set = async |change| fixture.say(&["set", "alice", change]).await;
    tokio::join!(
        set("tokens/minute=1"),
        set("tokens/hour=2"),
        set("calls/minute=3"),
        set("plan=pro"),
    );
    let before = fixture.json(&["show", "alice"]).await;
    assert_eq!(before["limits"].as_array().map(Vec::len), Some(3));
    assert_eq!(before["plan"], "pro");

    fixture.kill().await;
    assert!(fixture.socket().exists(), "nobody has removed it");
    let (code, said) = fixture.refusal(&["list"]).await;
    assert!(
        code == Some(1) && said.contains("no gateway listens at"),
        "{said}"
    );
    fixture.start().await;
    let after = fixture.json(&["show", "alice"]).await;
    assert_eq!(
        (&after["plan"], &after["limits"]),
        (&before["plan"], &before["limits"])
    );
    let file = fs::symlink_metadata(fixture.socket()).unwrap();
    assert_eq!(file.permissions().mode() & 0o7777, 0o600);
}

#[tokio::test]
async fn who_has_used_everything_goes_on_after_a_reset_of_what_is_used() {
    let mut fixture = Fixture::new();
    let ledger = SqliteLedger::open(fixture.dir.path().join("gateway.db"), LedgerOptions::new());
    let ledger = ledger.unwrap();
    let mut record = UsageRecord::new("alice".into(), Operation::Run);
    record.tokens.input = Some(1_000);
    ledger.admit().expect("an empty ledger has room");
    ledger.record(record);
    ledger.close().await.unwrap();
    drop(ledger);
    fixture.start().await;
    let explained = fixture.say(&["explain", "alice"]).await;
    let sentence = "Daily token limit exceeded (1000 / 500 tokens).";
    assert!(explained.contains(sentence), "{explained}");

    for again in [false, true] {
        let reset = fixture.json(&["reset", "alice", "--used"]).await;
        let tokens = &reset["standing"][0];
        assert_eq!(tokens["dimension"], "tokens");
        assert_eq!(
            (&tokens["limit"], &tokens["used"], &tokens["remaining"]),
            (&1_500.into(), &1_000.into(), &500.into()),
            "again: {again}"
        );
        let grants = reset["grants"].as_array().unwrap();
        assert_eq!(grants.len(), 2, "tokens and calls: {reset}");
        assert_eq!(grants[0]["expiresAt"], tokens["resetsAt"]);
    }
    let explained = fixture.say(&["explain", "alice"]).await;
    assert!(explained.contains("a run would begin now"), "{explained}");
}

#[tokio::test]
async fn everybody_is_listed_however_many_they_are() {
    let mut fixture = Fixture::new();
    let store = Store::open(&fixture.dir.path().join("gateway.db")).unwrap();
    let users: Vec<String> = (0..401).map(|n| format!("user-{n:03}&é")).collect();
    for user in &users {
        let terms = Terms::default().plan("pro");
        store
            .put_terms(&user.as_str().into(), &terms)
            .await
            .unwrap();
    }
    drop(store);
    fixture.start().await;
    let listed = fixture.json(&["list"]).await;
    let listed = listed["quotas"].as_array().into_iter().flatten();
    assert!(listed.map(|quota| &quota["user"]).eq(&users));
}

/// Alice, with everything that somebody may lose.
const ALICE: &str = "
    INSERT INTO oauth_users (user_id, provider, provider_user_id, created_at, updated_at, last_login_at)
        VALUES ('alice', 'corp', 'alice', 0, 0, 0);
    INSERT INTO assignments (user_id, instance, slot, created_at) VALUES ('alice', 'pool-1', 1, 0);
    INSERT INTO virtual_keys (key_id, user_id, hash, created_at) VALUES ('key', 'alice', zeroblob(32), 0);
    INSERT INTO quota_alerts (id, subject, alert_type, threshold, window_start, used, amount, state, triggered_at)
        VALUES ('alert', 'alice', 'daily_tokens', 80, 0, 1, 2, 'triggered', 0);";

/// Acts on rows of the store, how they are asked for, and what is noted as their before and after.
fn acts_on_rows() -> Vec<(Method, &'static str, Option<Value>, Value, Value)> {
    let instance = json!({
        "url": "http://127.0.0.1:2", "mode": "pool", "user": null, "capacity": 150, "sandboxUser": null,
    });
    let said = json!({
        "name": "two", "url": "http://127.0.0.1:2", "auth": {"kind": "trusted-proxy", "password": "canary"},
    });
    let drained = |is: bool| json!({ "drained": is });
    let state = |state: &str, note: Option<&str>| json!({ "state": state, "note": note });
    let (post, delete) = (Method::POST, Method::DELETE);
    vec![
        (
            post.clone(),
            "/api/admin/instances/pool-1/drain",
            None,
            drained(false),
            drained(true),
        ),
        (
            post.clone(),
            "/api/admin/instances/pool-1/resume",
            None,
            drained(true),
            drained(false),
        ),
        (
            post.clone(),
            "/api/admin/instances",
            Some(said),
            Value::Null,
            instance.clone(),
        ),
        (
            delete.clone(),
            "/api/admin/instances/two",
            None,
            instance,
            Value::Null,
        ),
        (
            delete.clone(),
            "/api/admin/users/alice/assignment?instance=pool-1",
            None,
            json!({"instance": "pool-1", "slot": 1}),
            Value::Null,
        ),
        (
            delete,
            "/api/admin/users/alice/virtual-key",
            None,
            json!({"inForce": 1}),
            json!({"inForce": 0}),
        ),
        (
            post.clone(),
            "/api/admin/alerts/alert/acknowledge",
            None,
            state("triggered", None),
            state("acknowledged", None),
        ),
        (
            post,
            "/api/admin/alerts/alert/resolve",
            Some(json!({"note": "seen"})),
            state("acknowledged", None),
            state("resolved", Some("seen")),
        ),
    ]
}

#[tokio::test]
async fn d8_72_an_act_on_rows_is_noted_with_its_change_and_not_done_without_its_note() {
    let mut fixture = Fixture::new();
    drop(Store::open(&fixture.dir.path().join("gateway.db")).unwrap());
    fixture.sql(ALICE);
    fixture.start().await;
    let full = "CREATE TRIGGER is_full BEFORE INSERT ON admin_audit BEGIN SELECT RAISE(ABORT, 'full'); END;";
    let uid = rustix::process::geteuid().as_raw().to_string();
    let here = format!("unix:{}", std::process::id());
    for (method, path, body, before, after) in acts_on_rows() {
        let count = fixture.acts("").await.len();
        fixture.sql(full);
        let refused = fixture.ask(method.clone(), path, body.as_ref()).await;
        assert_eq!(refused, Err("unavailable".to_owned()), "{path}");
        fixture.sql("DROP TRIGGER is_full;");
        assert_eq!(fixture.acts("").await.len(), count, "{path}");

        let done = fixture.ask(method.clone(), path, body.as_ref()).await;
        assert!(done.is_ok(), "{path}: {done:?}");
        let rows = fixture.acts("").await;
        assert_eq!(rows.len(), count + 1, "{path}");
        let row = &rows[count];
        assert_eq!((&row["before"], &row["after"]), (&before, &after), "{path}");
        assert_eq!(
            (&row["result"], &row["code"]),
            (&json!("done"), &Value::Null)
        );
        assert_eq!(row["who"], json!({"kind": "operator", "id": uid}));
        assert_eq!(row["address"], here);
        assert!(!row.to_string().contains("canary"), "{row}");
        if path.contains("alice") || path.contains("alert") {
            assert_eq!(row["user"], "alice", "{path}");
        }
    }
    fixture.stop().await;
}

#[tokio::test]
async fn d8_72_every_act_leaves_a_row_also_if_it_is_refused() {
    let mut fixture = Fixture::new();
    fixture.start().await;
    let acts: Vec<_> = api::routes()
        .into_iter()
        .filter(|route| route.act.is_some())
        .collect();
    assert!(acts.len() > 20, "{acts:?}");
    for route in acts {
        let action = route.act.unwrap();
        let (user, name) = ("nobody|a/b?", "no such");
        let path = route.path.replace("{user_id}", "nobody%7Ca%2Fb%3F");
        let open = path.find('{').map(|at| (at, path.find('}').unwrap() + 1));
        let path = match open {
            Some((at, end)) => format!("{}no%20such{}", &path[..at], &path[end..]),
            None => path,
        };
        let answer = fixture.ask(route.method.clone(), &path, None).await;
        let rows = fixture.acts(&format!("?action={action}")).await;
        let row = rows
            .last()
            .unwrap_or_else(|| panic!("{route:?}: {answer:?}"));
        let expected = match &answer {
            Ok(_) => "done",
            Err(code) if code == "unavailable" || code == "not_ready" => "failed",
            Err(_) => "refused",
        };
        assert_eq!(row["result"], expected, "{route:?}: {answer:?}");
        assert_eq!(
            row["code"].as_str(),
            answer.as_ref().err().map(String::as_str),
            "{route:?}"
        );
        if route.path.contains("{user_id}") {
            assert_eq!(row["user"], user);
        } else if open.is_some() {
            assert_eq!(row["object"], name);
        }
    }
    for wrong in [
        "?limit=0",
        "?limit=501",
        "?before=x",
        "?from=2026",
        "?to=x",
        "?whom=x",
    ] {
        let path = format!("/api/admin/audit{wrong}");
        let refused = fixture.ask(Method::GET, &path, None).await;
        assert_eq!(refused, Err("invalid_request".to_owned()), "{wrong}");
    }
    fixture.stop().await;
}

#[tokio::test]
async fn the_description_of_the_api_has_what_only_operators_may_do() {
    let mut fixture = Fixture::new();
    fixture.start().await;
    let described = fixture.ask(Method::GET, "/openapi.json", None).await;
    let described = described.unwrap();
    let paths = &described["paths"];
    assert!(paths["/api/admin/log"]["put"].is_object());
    assert!(paths["/api/admin/users"]["get"].is_object());
    assert!(paths["/api/keys"].is_null(), "{described}");
    fixture.stop().await;
}

#[tokio::test]
async fn what_was_done_is_listed_and_exported_and_a_signal_is_an_act_too() {
    let mut fixture = Fixture::new();
    fixture.start().await;
    fixture.say(&["set", "alice", "calls/day=3"]).await;
    fixture
        .say(&["grant", "alice", "calls/day=3", "--for", "7d"])
        .await;
    let file = fixture.dir.path().join("gateway.toml");
    let dearer = fs::read_to_string(&file).unwrap();
    let dearer = dearer.replacen("output = \"1.00\"", "output = \"2.00\"", 1);
    fs::write(&file, dearer).unwrap();
    fixture.signal(rustix::process::Signal::HUP);
    let reloaded = async {
        while fixture.acts("?who=SIGHUP").await.len() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(READY_LIMIT, reloaded).await.unwrap();
    fs::write(
        fixture.dir.path().join("gateway.toml"),
        "[server]\nsocket = \"gateway.sock\"\nx = 1",
    )
    .unwrap();
    fixture.signal(rustix::process::Signal::HUP);
    let refused = async {
        while fixture.acts("?who=SIGHUP").await.len() < 4 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(READY_LIMIT, refused).await.unwrap();
    let reloads = fixture.acts("?action=configuration.reload").await;
    let told: Vec<_> = reloads
        .iter()
        .map(|row| (&row["result"], &row["code"]))
        .collect();
    let (begun, none) = (json!("begun"), Value::Null);
    let expected = [
        (&begun, &none),
        (&json!("done"), &none),
        (&begun, &none),
        (&json!("refused"), &json!("invalid_configuration")),
    ];
    assert_eq!(told, expected);
    let (before, after) = (&reloads[1]["before"], &reloads[1]["after"]);
    for name in ["instances", "logFilter", "masterKeys"] {
        assert_eq!(before[name], after[name]);
    }
    assert_eq!(after["instances"], json!({"pool-1": "http://127.0.0.1:1"}));
    assert_eq!(after["logFilter"], "info");
    assert_eq!(after["masterKeys"].as_array().map(Vec::len), Some(1));
    assert_eq!(after["prices"]["models"], 1);
    let digests = [before, after].map(|state| state["prices"]["sha256"].as_str().unwrap());
    assert_eq!(digests.map(str::len), [64, 64]);
    assert_ne!(digests[0], digests[1], "another price is another digest");
    assert_eq!(reloads[3]["after"], *after, "nothing has changed");

    let mut of_alice = fixture.acts("?user=alice").await.into_iter();
    let set: Vec<_> = of_alice.by_ref().take(2).collect();
    assert_eq!(
        (&set[0]["result"], &set[1]["result"]),
        (&json!("begun"), &json!("done"))
    );
    assert_eq!(set[0]["act"], set[1]["act"]);
    assert_eq!(set[1]["before"]["limits"], json!([]));
    assert_eq!(set[1]["after"]["limits"][0]["limit"], 3);
    let granted = of_alice.last().unwrap();
    assert_eq!(granted["action"], "quota.grant");
    assert_eq!(granted["before"], set[1]["after"]);
    assert_eq!(granted["after"]["grants"][0]["amount"], 3);

    let audit = async |arguments: &[&str]| {
        let run = command(fixture.dir.path())
            .arg("audit")
            .args(arguments)
            .args(["--socket", "gateway.sock"])
            .output();
        let done = run.await.unwrap();
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        String::from_utf8(done.stdout).unwrap()
    };
    let listed = audit(&["list", "--user", "alice", "--limit", "1"]).await;
    assert!(
        listed.lines().count() == 2 && listed.contains("quota.grant  alice"),
        "{listed}"
    );
    let exported = audit(&["export", "--json"]).await;
    let rows: Vec<Value> = exported
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rows.len(), 8);
    let mut ids: Vec<_> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
    ids.dedup();
    assert!(ids.is_sorted_by(|a, b| a > b), "{ids:?}");
}
