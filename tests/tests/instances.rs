//! Instances that administrators add and remove while two gateways run.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::{fs, path::Path, time::Duration};

use gateway_tests::{
    error::Result,
    gateway::{Config, Gateway, command},
    kit::Kit,
    openclaw::USER_HEADER,
    person::{Person, Socket},
    port, secret,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tokio_postgres::NoTls;

/// What `gateway instances` prints, or why it does not do it.
async fn instances(dir: &Path, arguments: &[&str]) -> std::result::Result<String, String> {
    let arguments = [&["instances"], arguments].concat();
    command(dir, &arguments).await.expect("it runs").done()
}

/// Opens a socket as soon as somebody is let in.
async fn opens(person: &Person) -> Result<Socket> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match person.open().await {
            Err(_) if Instant::now() < deadline => sleep(Duration::from_millis(500)).await,
            opened => return opened,
        }
    }
}

async fn chats(socket: &mut Socket) -> Result<()> {
    assert_eq!(socket.turn("hello").await?.state, "final");
    Ok(())
}

#[tokio::test]
async fn an_instance_is_added_and_removed_at_every_gateway_and_others_notice_nothing() -> Result<()>
{
    let kit = Kit::from_env()?;
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a temporary directory"));
    let dir = dirs[0].path();
    let database = kit.database().await?;
    let mut first = Config::new(&kit, dir)?.sharing_store(&database, None)?;
    // The only one of the file is away.
    let away = format!("http://{}", port::free_address()?);
    let at = |url: &str| format!("url = \"{url}\"\nmode = \"pool\"");
    first.text = first.text.replacen(&at(&kit.openclaw), &at(&away), 1);
    let master = dir.join("master");
    fs::write(&master, secret::hex_key()?).expect("a master key");
    let key = format!("[workspace]\nmaster_key_file = \"{}\"\n", master.display());
    first.text = first.text.replacen("[workspace]\n", &key, 1);
    let second = first.replica(dirs[1].path())?;
    let mut here = Gateway::spawn(first, dir)?;
    let there = Gateway::spawn(second, dirs[1].path())?;
    let deadline = Instant::now() + Duration::from_secs(60);
    while instances(dir, &["list"]).await.is_err() {
        assert!(Instant::now() < deadline, "the gateway does not run");
        sleep(Duration::from_millis(200)).await;
    }
    let mark = secret::mark()?;
    let admin = Person::sign_in(&kit, "admin", &here).await?;
    let alice = Person::sign_in(&kit, &format!("alice-{mark}"), &there).await?;
    assert!(alice.open().await.is_err(), "there is nowhere to go");
    assert!(alice.get("/api/admin/instances").await.is_err());

    let password = dir.join("password");
    fs::write(&password, &kit.openclaw_password).expect("the password");
    let password = password.to_str().expect("a path");
    let add = |name: &'static str, url: String| {
        let arguments = [
            "add",
            name,
            &url,
            "--user-header",
            USER_HEADER,
            "--password-file",
            password,
        ];
        let arguments = arguments.map(str::to_owned);
        async move { instances(dir, &arguments.each_ref().map(String::as_str)).await }
    };
    for (name, url, why) in [
        ("pool-1", kit.openclaw.clone(), "already"),
        ("pool-2", format!("{away}/"), "`pool-1` has this URL"),
        (
            "pool-2",
            "https://example.com".to_owned(),
            "`instance.pool-2.url`",
        ),
        ("pool-2", "nowhere".to_owned(), "`instance.pool-2.url`"),
    ] {
        let refused = add(name, url.clone()).await.expect_err("it is refused");
        assert!(refused.contains(why), "{url}: {refused}");
    }
    let auth = json!({"kind": "trusted-proxy", "password_file": "/etc/passwd"});
    for (wrong, why) in [
        (
            json!({"name": "x", "url": kit.openclaw, "auth": auth}),
            "password_file",
        ),
        (
            json!({"name": "x", "url": kit.openclaw, "auth": {"kind": "trusted-proxy"}}),
            "auth.password",
        ),
        (
            json!({"name": "", "url": kit.openclaw, "auth": {"kind": "trusted-proxy", "password": "x"}}),
            "name",
        ),
        (json!({"name": "x", "url": kit.openclaw, "more": 1}), "more"),
    ] {
        let refused = admin.post("/api/admin/instances", &wrong).await?;
        assert_eq!(refused.status.as_u16(), 400, "{}", refused.text());
        assert!(refused.text().contains(why), "{}", refused.text());
    }

    assert_eq!(
        add("pool-2", kit.openclaw.clone()).await.as_deref(),
        Ok("added\n")
    );
    let mut hers = opens(&alice).await?;
    chats(&mut hers).await?;
    let refused = add("pool-3", kit.openclaw.clone())
        .await
        .expect_err("it is refused");
    assert!(refused.contains("`pool-2` has this URL"), "{refused}");

    // Another one comes and goes, and the gateway that was asked starts again.
    let nobodys = format!("http://{}", port::free_address()?);
    assert!(add("pool-3", nobodys).await.is_ok());
    sleep(Duration::from_secs(2)).await;
    chats(&mut hers).await?;
    assert_eq!(
        instances(dir, &["remove", "pool-3"]).await.as_deref(),
        Ok("removed\n")
    );
    here.restart().await?;
    let shown = admin.get("/api/admin/instances").await?;
    let shown = shown["instances"].as_array().expect("a list");
    let added: Vec<_> = shown
        .iter()
        .map(|one| (&one["name"], &one["added"]))
        .collect();
    assert_eq!(
        added,
        [
            (&json!("pool-1"), &json!(false)),
            (&json!("pool-2"), &json!(true))
        ]
    );
    chats(&mut hers).await?;

    for (name, why) in [
        ("pool-1", "stands in the configuration file"),
        ("pool-2", "1 people have a place there"),
        ("pool-3", "no instance of that name"),
    ] {
        let refused = instances(dir, &["remove", name])
            .await
            .expect_err("it is refused");
        assert!(refused.contains(why), "{refused}");
    }
    assert!(
        instances(dir, &["remove", "pool-2", "--force"])
            .await
            .is_ok()
    );
    let (code, _) = hers.ws.closed().await?;
    assert_eq!(code, 1012);
    assert!(alice.open().await.is_err(), "her place is away");
    assert!(add("pool-2", kit.openclaw.clone()).await.is_ok());
    let mut hers = opens(&alice).await?;
    chats(&mut hers).await?;

    let (client, connection) = tokio_postgres::connect(&database, NoTls)
        .await
        .expect("Postgres");
    tokio::spawn(connection);
    let row = client.query_one(
        "SELECT sealed FROM added_instances WHERE name = 'pool-2'",
        &[],
    );
    let sealed: Vec<u8> = row.await.expect("a row").get(0);
    let is_in = |bytes: &[u8]| {
        let mut windows = bytes.windows(kit.openclaw_password.len());
        windows.any(|window| window == kit.openclaw_password.as_bytes())
    };
    assert!(!is_in(&sealed));
    let shown: Value = admin.get("/api/admin/instances").await?;
    assert!(!is_in(shown.to_string().as_bytes()));
    for gateway in [&here, &there] {
        assert!(!is_in(gateway.log()?.as_bytes()));
    }
    Ok(())
}
