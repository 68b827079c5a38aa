//! People who come while others are at work.

use std::fs;

use gateway_tests::{
    error::Result,
    gateway::{Config, Gateway},
    kit::Kit,
    openclaw::OpenClaw,
    person::Person,
    secret,
};

/// Somebody new makes OpenClaw read its configuration anew, and that ends a run which it is just preparing. Whoever is at
/// work must not notice. On an instance of its own: only the first run of an agent is prepared for so long that the two
/// are sure to meet.
#[tokio::test]
async fn somebody_new_disturbs_nobody_who_is_at_work() -> Result<()> {
    let mut kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let openclaw = dir.path().join("openclaw");
    fs::create_dir(&openclaw).expect("a directory");
    kit.openclaw_password = secret::random()?;
    let instance = OpenClaw::start(kit.install.clone(), &openclaw, &kit.openclaw_password).await?;
    kit.openclaw = instance.url();
    let gateway = Gateway::start(Config::new(&kit, dir.path())?, dir.path()).await?;

    let mut at_work = Person::sign_in(&kit, "alice", &gateway)
        .await?
        .open()
        .await?;
    for newcomer in ["bob", "admin"] {
        let newcomer = Person::sign_in(&kit, newcomer, &gateway).await?;
        let run_id = at_work.start("the first message").await?;
        let (turn, opened) = tokio::join!(at_work.end_of(&run_id), newcomer.open());
        let turn = turn?;
        assert_eq!(turn.state, "final", "{}", turn.text);
        // Who was new is the one at work when the next one comes.
        at_work = opened?;
    }
    let turn = at_work.turn("the first message").await?;
    assert_eq!(turn.state, "final", "{}", turn.text);
    Ok(())
}
