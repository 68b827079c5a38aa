//! An instance that goes away, or refuses, between the directory and the agent.

use std::{fs, time::Duration};

use gateway_tests::{error::Result, person::Person};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{doors::refuses_to_initialize, world::World};

/// How long something may take that takes a moment.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long somebody may be kept waiting by an instance that has gone away.
const AT_ONCE: Duration = Duration::from_secs(10);

pub(crate) async fn tried(world: &mut World) -> Result<()> {
    goes_away_before_it_has_the_agent(world).await?;
    world.say("it went away before it had the agent");
    goes_away_when_it_has_the_agent(world).await?;
    world.say("it went away when it had the agent");
    refuses_the_agent(world).await?;
    world.say("it refused the agent");
    Ok(())
}

/// The directory is there, and the instance is not.
async fn goes_away_before_it_has_the_agent(world: &mut World) -> Result<()> {
    let (person, user) = world.newcomer("before").await?;
    let agents = world.agents().await?;
    let profile = world.profile(&user);
    let cut = async {
        wait_until(|| profile.exists()).await;
        world.link.cut();
    };
    let (refused, ()) = tokio::join!(refused_at_once(world, &person), cut);
    refused?;
    assert_eq!(world.agents().await?, agents, "it was too late");
    assert_ne!(world.stored(&user), Some(true));
    all_refuse_but_the_page(world, &person).await?;
    world.link.mend();
    come_again(world, &person, &user).await
}

/// The instance has the agent, and nobody has heard of it.
async fn goes_away_when_it_has_the_agent(world: &mut World) -> Result<()> {
    let (person, user) = world.newcomer("after").await?;
    let agents = world.agents().await?;
    let config = world.instance.dir().join("openclaw.json");
    let directory = world.root.join(&user).display().to_string();
    let cut = async {
        wait_until(|| fs::read_to_string(&config).is_ok_and(|text| text.contains(&directory)))
            .await;
        world.link.cut();
    };
    let (refused, ()) = tokio::join!(refused_at_once(world, &person), cut);
    refused?;
    let has_it =
        async || Ok::<_, gateway_tests::error::Error>(world.agents().await?.len() > agents.len());
    let deadline = Instant::now() + PATIENCE;
    while !has_it().await? && Instant::now() < deadline {
        sleep(Duration::from_millis(100)).await;
    }
    assert!(has_it().await?, "the instance has the agent");
    assert_eq!(world.stored(&user), Some(false), "begun, and not whole");
    world.link.mend();
    come_again(world, &person, &user).await?;
    assert_eq!(
        world.agents().await?.len(),
        agents.len() + 1,
        "and no second one"
    );
    Ok(())
}

/// Somebody has written into the instance's configuration what it does not take: it takes nothing else either.
async fn refuses_the_agent(world: &mut World) -> Result<()> {
    let (person, user) = world.newcomer("refused").await?;
    let agents = world.agents().await?;
    let path = world.instance.dir().join("openclaw.json");
    let whole = fs::read_to_string(&path).expect("a configuration");
    let mut broken: Value = serde_json::from_str(&whole).expect("JSON");
    broken["gateway"]["port"] = json!("nowhere");
    let before = world.gateway.log()?.len();
    fs::write(&path, broken.to_string()).expect("another configuration");
    let refused = refused_at_once(world, &person).await;
    fs::write(&path, whole).expect("the configuration");
    refused?;
    assert_ne!(world.stored(&user), Some(true));
    let status = person.fetch("/api/openclaw/status").await?.text();
    assert!(!status.contains(r#""status":"ready""#), "{status}");
    assert_eq!(world.agents().await?, agents);
    let (log, _) = world.log_since(before)?;
    assert!(log.contains("instance will not take it"), "{log}");
    come_again(world, &person, &user).await
}

async fn refused_at_once(world: &World, person: &Person) -> Result<()> {
    let begun = Instant::now();
    refuses_to_initialize(world, person, "in between").await?;
    let took = begun.elapsed();
    assert!(took < AT_ONCE, "it took {took:?}");
    Ok(())
}

/// The page is the instance's.
async fn all_refuse_but_the_page(world: &World, person: &Person) -> Result<()> {
    let page = person.fetch("/").await?;
    assert_eq!(page.status, 503);
    assert!(page.header("retry-after").is_some());
    refuses_to_initialize(world, person, "away").await
}

/// Somebody comes until they are let in, as a page does by itself.
async fn come_again(world: &mut World, person: &Person, user: &str) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while person
        .post("/api/openclaw/initialize", &json!({}))
        .await?
        .status
        != 200
    {
        assert!(Instant::now() < deadline, "{user} is not let in");
        sleep(Duration::from_millis(200)).await;
    }
    world.let_in(person, user).await
}

async fn wait_until(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() && Instant::now() < deadline {
        sleep(Duration::from_millis(1)).await;
    }
}
