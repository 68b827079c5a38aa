//! OpenClaw's own part of a backup.

use std::fs;

use gateway_tests::{
    error::Result,
    gateway::{Config, Gateway},
    kit::Kit,
    ledger::settled,
    openclaw::OpenClaw,
    person::Person,
    secret,
};
use serde_json::json;

use crate::world::{archive, counted, destroy, gateway, run, unpack};

#[tokio::test]
async fn an_openclaw_that_was_copied_while_it_was_stopped_has_its_conversations_again() -> Result<()>
{
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let backup = tempfile::tempdir().expect("a temporary directory");
    let (dir, name) = (dir.path(), "openclaw-1");
    let own = dir.join(name);
    let password = secret::random()?;
    let mut openclaw = OpenClaw::start(kit.install.clone(), &own, &password).await?;
    let mut config = Config::new(&kit, dir)?;
    for (shared, own) in [
        (&kit.openclaw, openclaw.url()),
        (&kit.openclaw_password, password),
    ] {
        config.text = config.text.replacen(shared.as_str(), &own, 1);
    }
    let mut running = Gateway::start(config, dir).await?;
    let alice = format!("alice-{}", secret::mark()?);
    let person = Person::sign_in(&kit, &alice, &running).await?;
    let mut socket = person.open().await?;
    assert_eq!(socket.turn("keep this in mind").await?.state, "final");
    settled(dir, &alice, 1).await?;

    // In the order of deploy/BACKUP.md.
    openclaw.stop().await?;
    let (whole, copy) = (
        backup.path().join("openclaw-1.tar").display().to_string(),
        backup.path().join("gateway-1.db").display().to_string(),
    );
    let base = dir.display().to_string();
    run(
        "tar",
        &["--numeric-owner", "-C", &base, "-cpf", &whole, name],
    )
    .await;
    archive(dir, &backup.path().join("users.tar")).await;
    gateway(dir, &["backup", "--to", &copy]).await;
    running.kill9().await?;
    destroy(dir);
    fs::remove_dir_all(&own).expect("OpenClaw's directory");

    run("tar", &["--numeric-owner", "-C", &base, "-xpf", &whole]).await;
    unpack(dir, &backup.path().join("users.tar")).await;
    fs::copy(&copy, dir.join("gateway.db")).expect("a copy");
    openclaw.start_again().await?;
    running.start_again().await?;
    let mut socket = person.open().await?;
    let history = socket
        .ws
        .call("chat.history", json!({"sessionKey": "main"}))
        .await?;
    assert!(
        history.to_string().contains("keep this in mind"),
        "{history}"
    );
    assert_eq!(socket.turn("and this").await?.state, "final");
    assert_eq!(counted(&settled(dir, &alice, 2).await?), (2, 2));
    // It ends with 1 where they differ.
    gateway(dir, &["usage", "reconcile", &alice]).await;
    Ok(())
}
