//! What there was of people at a time: by request, and by schedule of one of several gateways.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use ::http::StatusCode;
use gateway_tests::{
    error::Result,
    gateway::{Config, Gateway, command},
    http,
    kit::Kit,
    person::Person,
    secret,
};
use serde_json::{Value, json};
use tokio::{
    process::Command,
    time::{Instant, sleep},
};
use tokio_postgres::NoTls;

/// What `gateway users` answers, if it does what it says.
async fn users(dir: &Path, arguments: &[&str]) -> Option<Value> {
    let arguments = [&["users"], arguments, &["--json"]].concat();
    let said = command(dir, &arguments).await.expect("it runs").json();
    said.inspect_err(|error| println!("{error}")).ok()
}

/// The snapshots of one taking, by type.
fn by_type(answer: &Value) -> BTreeMap<String, Value> {
    let snapshots = answer["snapshots"].as_array().into_iter().flatten();
    let typed = snapshots.map(|snapshot| {
        let what = snapshot["type"].as_str().expect("a type");
        (what.to_owned(), snapshot["data"].clone())
    });
    typed.collect()
}

#[tokio::test]
async fn d4_42_a_snapshot_counts_what_is_there_and_goes_through_no_link() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (dir, mut config) = (dir.path(), Config::new(&kit, dir.path())?);
    let key = "[workspace]\nsnapshot_every = \"0\"\nmaster_key_file = \"master\"\n";
    config.text = config.text.replacen("[workspace]\n", key, 1);
    fs::write(dir.join("master"), secret::hex_key()?).expect("a master key");
    let gateway = Gateway::start(config, dir).await?;
    let mark = secret::mark()?;
    let alice = &*format!("alice-{mark}");
    let person = Person::sign_in(&kit, alice, &gateway).await?;
    let mut hers = person.open().await?;
    assert_eq!(hers.turn("hello").await?.state, "final");

    let elsewhere = dir.join("elsewhere");
    fs::create_dir(&elsewhere).expect("a directory");
    fs::write(elsewhere.join("large"), vec![0; 1 << 20]).expect("a file of somebody else");
    let workspace = dir.join("users").join(alice).join("workspace");
    fs::write(workspace.join(format!("name-{mark}.md")), "12345").expect("a file");
    std::os::unix::fs::symlink(&elsewhere, workspace.join("link")).expect("a link");

    let taken = users(dir, &["snapshot", alice]).await.expect("a snapshot");
    let found = by_type(&taken);
    assert_eq!(found.len(), 4, "{taken}");
    let (files, keys) = (&found["workspace_files"], &found["api_keys"]);
    assert_eq!(files["state"], "whole");
    assert_eq!(files["workspace"]["links"], 1, "{files}");
    let bytes = files["total"]["bytes"].as_u64().expect("a number");
    assert!((5..1 << 20).contains(&bytes), "{files}");
    assert_eq!(keys["virtualKeys"], json!({"inForce": 1, "ended": 0}));
    assert_eq!(keys["providerKeys"], json!([]));
    let limits = found["quota_status"]["limits"].as_array().expect("limits");
    let tokens = limits.iter().find(|limit| limit["dimension"] == "tokens");
    assert!(
        tokens.expect("tokens")["used"].as_u64() > Some(0),
        "{limits:?}"
    );
    let sandbox = &found["sandbox_status"];
    assert_eq!(
        (&sandbox["state"], &sandbox["hasSandbox"]),
        (&json!("ready"), &json!(false))
    );

    // Later there is more.
    let own_key = format!("sk-own-{mark}");
    fs::write(workspace.join("more.md"), "1234567890").expect("a file");
    let put = ::http::Request::put(gateway.url("/api/openclaw/provider-key"))
        .header("authorization", format!("Bearer {}", person.token))
        .header("content-type", "application/json");
    let body = json!({"provider": "openai", "key": own_key}).to_string();
    let put = http::send(put, body);
    put.await?.expect_status(StatusCode::NO_CONTENT)?;
    let again = by_type(&users(dir, &["snapshot", alice]).await.expect("a snapshot"));
    let grown = again["workspace_files"]["workspace"]["files"].as_u64();
    assert!(grown > files["workspace"]["files"].as_u64());
    assert_eq!(again["api_keys"]["providerKeys"], json!(["openai"]));

    let listed = users(dir, &["snapshots", alice]).await.expect("a list");
    assert_eq!(listed["snapshots"].as_array().map(Vec::len), Some(8));
    assert_eq!(
        by_type(&json!({"snapshots": &listed["snapshots"].as_array().expect("a list")[4..]})),
        found
    );
    let text = listed.to_string();
    for secret in [&*mark, "ocg-vk-", "sk-"] {
        let text = text.replace(alice, "");
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    let archive = dir.join("alice.tar");
    let output = archive.to_str().expect("a path");
    assert!(
        users(dir, &["export", alice, "--output", output])
            .await
            .is_some()
    );
    let out = Command::new("tar")
        .arg("-xOf")
        .arg(&archive)
        .arg("snapshots/snapshots-000001.jsonl")
        .output();
    let out = out.await.expect("tar").stdout;
    let lines = String::from_utf8(out).expect("text");
    assert_eq!(lines.lines().count(), 8);

    // She herself may not, and what is wrong is named.
    let path = format!("/api/admin/users/{alice}/snapshots");
    assert_eq!(person.fetch(&path).await?.status, StatusCode::FORBIDDEN);
    assert_eq!(
        person.post(&path, &json!({})).await?.status,
        StatusCode::FORBIDDEN
    );
    let admin = Person::sign_in(&kit, "admin", &gateway).await?;
    for wrong in ["after=x", "limit=0", "limit=201", "page=1"] {
        let refused = admin.fetch(&format!("{path}?{wrong}")).await?;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
    let mut seen = Vec::new();
    let mut next = String::new();
    loop {
        let page = admin.get(&format!("{path}?limit=3{next}")).await?;
        seen.extend(page["snapshots"].as_array().expect("a page").clone());
        match page["next"].as_str() {
            Some(after) => next = format!("&after={after}"),
            None => break,
        }
    }
    assert_eq!(json!(seen), listed["snapshots"]);
    assert!(users(dir, &["snapshot", "nobody"]).await.is_none());
    assert!(users(dir, &["snapshots", "nobody"]).await.is_none());

    assert!(users(dir, &["delete", alice]).await.is_some());
    assert!(users(dir, &["snapshot", alice]).await.is_none());
    let left = admin.get(&path).await?;
    assert_eq!(left["snapshots"], json!([]), "they went with her");
    Ok(())
}

/// When something was taken of each person, in milliseconds.
type Times = BTreeMap<String, Vec<i64>>;

async fn times(database: &tokio_postgres::Client) -> Times {
    let all = "SELECT user_id, created_at FROM user_environment_snapshots
               WHERE snapshot_type = 'workspace_files' ORDER BY created_at";
    let mut times = Times::new();
    for row in database.query(all, &[]).await.expect("rows") {
        times.entry(row.get(0)).or_default().push(row.get(1));
    }
    times
}

/// Waits until there is enough.
async fn wait(database: &tokio_postgres::Client, enough: impl Fn(&Times) -> bool) -> Times {
    let deadline = Instant::now() + Duration::from_secs(40);
    loop {
        let times = times(database).await;
        if enough(&times) {
            return times;
        }
        assert!(Instant::now() < deadline, "{times:?}");
        sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn of_two_gateways_one_takes_snapshots_by_schedule_and_the_other_goes_on() -> Result<()> {
    let kit = Kit::from_env()?;
    let url = kit.database().await?;
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a temporary directory"));
    let mut first = Config::new(&kit, dirs[0].path())?.sharing_store(&url, None)?;
    let keys = "[workspace]\nsnapshot_every = \"2s\"\nsnapshot_keep = \"6s\"\n";
    first.text = first.text.replacen("[workspace]\n", keys, 1);
    let second = first.replica(dirs[1].path())?;
    let (database, connection) = tokio_postgres::connect(&url, NoTls)
        .await
        .expect("Postgres");
    tokio::spawn(connection);
    let mut gateways = [
        Gateway::start(first, dirs[0].path()).await?,
        Gateway::start(second, dirs[1].path()).await?,
    ];
    let people = 30;
    let user = "INSERT INTO oauth_users (user_id, provider, provider_user_id, created_at, updated_at, last_login_at)
                SELECT 'user-' || n, 'corp', 'user-' || n, 0, 0, 0 FROM generate_series(1, $1) n";
    database.execute(user, &[&people]).await.expect("people");

    let all = |count: usize| {
        move |times: &Times| times.len() == 30 && times.values().all(|times| times.len() >= count)
    };
    let seen = wait(&database, all(2)).await;
    for (user, times) in &seen {
        for pair in times.windows(2) {
            assert!(pair[1] - pair[0] >= 2_000, "{user} twice: {times:?}");
        }
    }
    // Old ones go.
    let first_of_all = seen["user-1"][0];
    wait(&database, |times| !times["user-1"].contains(&first_of_all)).await;

    // Whichever had it gives it back when it ends: one of these had.
    for gateway in &mut gateways {
        gateway.kill().await?;
        let row = database.query_one("SELECT (extract(epoch FROM now()) * 1000)::bigint", &[]);
        let ended: i64 = row.await.expect("the time").get(0);
        wait(&database, |times| {
            let after = |times: &Vec<i64>| times.iter().any(|at| *at > ended + 500);
            times.len() == 30 && times.values().all(after)
        })
        .await;
        gateway.start_again().await?;
    }
    Ok(())
}
