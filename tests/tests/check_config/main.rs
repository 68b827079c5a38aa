//! `gateway check-config` before the real servers: what works is said to, each thing that does not is named with what to do
//! about it, and whatever is found, nothing is changed.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

mod broken;
mod said;

use std::fs;

use gateway_tests::{
    error::Result,
    gateway::{Config, Gateway},
    kit::Kit,
    other_issuer::OtherIssuer,
    redis::Redis,
};
use serde_json::{Value, json};

use crate::said::{changes, check, content, postgres, secrets, tables, with_line};

#[tokio::test]
async fn what_works_is_said_to_and_nothing_is_made() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let redis = Redis::start(dir.path()).await?;
    let database = kit.database().await?;
    let kept = dir.path().join("gateway");
    fs::create_dir(&kept).expect("a directory");
    let config = Config::new(&kit, &kept)?;
    let text = config.sharing_store(&database, Some(&redis.url()))?.text;
    let before = content(&kept);
    let said = check(&text, &[]).await;
    assert_eq!(said.code, Some(0), "{said:#?}");
    for (state, about, says) in [
        ("ok", "server.public", "is free"),
        ("ok", "server.egress", "is free"),
        ("ok", "server.admin", "is free"),
        ("ok", "server.socket", "can be made"),
        ("ok", "issuer corp", "people can sign in"),
        ("ok", "store.path", "is made at the start"),
        (
            "ok",
            "store.database_url",
            "its tables are made at the start",
        ),
        ("note", "store.redis_url", "writes nothing to a disk"),
        ("ok", "workspace.root", "is made when somebody comes"),
        (
            "ok",
            "instance pool-1",
            "is configured as it must be (OpenClaw 20",
        ),
        ("ok", "provider openai", "its key was not tried"),
    ] {
        assert!(said.has(state, about, says), "{about}: {said:#?}");
    }
    assert_eq!(changes(&before, &content(&kept)), [""; 0]);
    assert_eq!(tables(&database).await, 0);
    let is_empty = "if redis.call('DBSIZE') == 0 then return redis.status_reply('EMPTY') end return 'not empty'";
    redis.command(&["EVAL", is_empty, "0"]).await?;
    for secret in secrets(&kit, &database, &redis.url()) {
        assert!(!said.text.contains(&secret), "{secret}: {said:#?}");
    }

    // The same as data.
    let said = check(&text, &["--json"]).await;
    let answer: Value = serde_json::from_str(&said.text).expect("JSON");
    assert_eq!(answer["state"], "ok");
    let checks = answer["checks"].as_array().expect("checks");
    assert!(
        checks
            .iter()
            .any(|check| check["about"] == "instance pool-1" && check["state"] == "ok")
    );

    // Of tables of another version it is said what would become of them.
    let schema = |version: u32| {
        format!(
            "DROP TABLE IF EXISTS gateway_schema; CREATE TABLE gateway_schema (version BIGINT NOT NULL); \
                 INSERT INTO gateway_schema VALUES ({version})"
        )
    };
    postgres(&database, &schema(1)).await;
    let older = check(&text, &[]).await;
    assert_eq!(older.code, Some(0), "{older:#?}");
    assert!(
        older.has(
            "note",
            "store.database_url",
            "of version 1 and would be migrated"
        ),
        "{older:#?}"
    );
    postgres(&database, &schema(999)).await;
    let newer = check(&text, &[]).await;
    assert_eq!(newer.code, Some(1), "{newer:#?}");
    assert!(
        newer.has("wrong", "store.database_url", "use the newer gateway"),
        "{newer:#?}"
    );
    assert_eq!(tables(&database).await, 1, "nothing is migrated");

    // Counters must not be thrown away.
    redis
        .command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"])
        .await?;
    let evicting = check(&text, &[]).await;
    assert_eq!(evicting.code, Some(1), "{evicting:#?}");
    let says = "maxmemory-policy is allkeys-lru; set `maxmemory-policy noeviction` in redis.conf";
    assert!(
        evicting.has("wrong", "store.redis_url", says),
        "{evicting:#?}"
    );
    Ok(())
}

#[tokio::test]
async fn what_the_running_gateway_has_is_in_nobodys_way() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = Config::new(&kit, dir.path())?;
    let text = config.text.clone();
    let mut gateway = Gateway::start(config, dir.path()).await?;
    let said = check(&text, &[]).await;
    assert_eq!(said.code, Some(0), "{said:#?}");
    let process = format!(
        "the gateway that runs, process {}",
        gateway.process().id().as_raw_nonzero()
    );
    for about in [
        "server.public",
        "server.egress",
        "server.admin",
        "server.socket",
    ] {
        assert!(said.has("ok", about, &process), "{about}: {said:#?}");
    }
    let file = format!("{process}, with tables of this version");
    assert!(said.has("ok", "store.path", &file), "{said:#?}");

    // Another one cannot have the same.
    let socket = dir.path().join("other.sock");
    let other = text.replacen(
        "[server]\n",
        &format!("[server]\nsocket = \"{}\"\n", socket.display()),
        1,
    );
    let said = check(&other, &[]).await;
    assert_eq!(said.code, Some(1), "{said:#?}");
    for about in ["server.public", "server.egress", "server.admin"] {
        assert!(
            said.has("wrong", about, "taken by another process"),
            "{about}: {said:#?}"
        );
    }
    assert!(
        said.has("wrong", "store.path", "is another gateway's"),
        "{said:#?}"
    );

    gateway.kill().await?;
    let before = content(dir.path());
    let said = check(&text, &[]).await;
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(said.has("ok", "store.path", "can be opened"), "{said:#?}");
    assert_eq!(changes(&before, &content(dir.path())), [""; 0]);
    gateway.start_again().await?;
    // What one leaves that was killed is in nobody's way either.
    gateway.kill9().await?;
    let before = content(dir.path());
    let said = check(&text, &[]).await;
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(said.has("ok", "store.path", "can be opened"), "{said:#?}");
    assert_eq!(changes(&before, &content(dir.path())), [""; 0]);
    Ok(())
}

#[tokio::test]
async fn an_issuer_is_asked_for_all_that_is_needed_of_it() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let issuer = OtherIssuer::start(&kit.install, dir.path()).await?;
    // It has a key from its first token on.
    issuer
        .mint("RS256", &json!({}), &json!({"sub": "a"}))
        .await?;
    let text = Config::new(&kit, dir.path())?.text;
    let (ours, its) = (
        format!("\"{}\"", kit.issuer),
        format!("\"{}\"", issuer.url()),
    );
    let text = text.replacen(&ours, &its, 1);
    let said = check(&text, &[]).await;
    assert!(
        said.has("ok", "issuer corp", "people can sign in"),
        "{said:#?}"
    );
    for (patch, says) in [
        (
            json!({"issuer": format!("{}/", issuer.url())}),
            "with a slash at the end (as Auth0 does)",
        ),
        (
            json!({"issuer": "https://elsewhere.example"}),
            "it calls itself `https://elsewhere.example`",
        ),
        (json!({"jwks_uri": null}), "names no `jwks_uri`"),
        (
            json!({"jwks_uri": format!("{}/userinfo", issuer.url())}),
            "/userinfo",
        ),
        (
            json!({"token_endpoint": null}),
            "names no `token_endpoint`, so that nobody can sign in",
        ),
    ] {
        issuer.change("discovery", &patch).await?;
        let said = check(&text, &[]).await;
        assert_eq!(said.code, Some(1), "{patch}: {said:#?}");
        assert!(said.has("wrong", "issuer corp", says), "{patch}: {said:#?}");
    }
    issuer.fail("discovery", 503, &json!({})).await?;
    let said = check(&text, &[]).await;
    assert!(
        said.has("wrong", "issuer corp", "answers with status 503"),
        "{said:#?}"
    );
    Ok(())
}

#[tokio::test]
async fn the_file_alone_can_be_checked_and_one_that_is_wrong_ends_with_2() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let text = Config::new(&kit, dir.path())?.text;
    let nowhere = with_line(&text, "path = ", "path = \"/no/such/gateway.db\"");
    let said = check(&nowhere, &["--offline"]).await;
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(!said.text.contains("store.path:"), "{said:#?}");

    let wrong = text.replacen("[server]\n", "[server]\npublik = 1\n", 1);
    for arguments in [&[][..], &["--offline"]] {
        let said = check(&wrong, arguments).await;
        assert_eq!(said.code, Some(2), "{said:#?}");
        assert!(
            said.text.contains("line 2") && said.text.contains("publik"),
            "{said:#?}"
        );
    }
    let said = check(&wrong, &["--json"]).await;
    assert_eq!(said.code, Some(2), "{said:#?}");
    let answer: Value = serde_json::from_str(&said.text).expect("JSON");
    assert_eq!(answer["state"], "wrong");
    let says = answer["checks"][0]["says"].as_str().expect("a sentence");
    assert!(says.contains("publik"), "{says}");
    Ok(())
}
