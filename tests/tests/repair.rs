//! Somebody with the instance's password changes what the gateway has set up there: whoever comes next finds it put right.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

use std::{fs, time::Duration};

use futures_util::future::try_join_all;
use gateway_tests::{
    error::{Error, Result},
    gateway::{Config, Gateway},
    kit::Kit,
    openclaw::OpenClaw,
    person::Person,
    secret,
    ws::Ws,
};
use serde_json::{Value, json};
use tokio::time::sleep;

/// How long a change takes to be heard of: the instance announces it when it is in force.
const HEARD: Duration = Duration::from_secs(1);

/// An instance of its own, and its administrator, who is not the gateway.
struct World {
    instance: OpenClaw,
    operator: Ws,
}

impl World {
    async fn config(&mut self) -> Result<Value> {
        let mut answer = self.operator.call("config.get", json!({})).await?;
        let hash = answer["hash"].take();
        let mut config = answer["sourceConfig"].take();
        config["hash"] = hash;
        Ok(config)
    }

    /// Changes the configuration; `lists` are those that become shorter. What closes all connections closes this one.
    async fn patch(&mut self, patch: &Value, lists: &[&str]) -> Result<()> {
        let before = self.config().await?;
        let params =
            json!({"raw": patch.to_string(), "baseHash": before["hash"], "replacePaths": lists});
        match self.operator.call("config.patch", params).await {
            Ok(_) => {}
            Err(Error::Closed { .. }) => {}
            Err(error) => return Err(error),
        }
        sleep(HEARD).await;
        self.connect().await?;
        Ok(())
    }

    async fn connect(&mut self) -> Result<()> {
        let scopes = ["operator.admin", "operator.read", "operator.write"];
        self.operator = self.instance.operator(&scopes).await?.0;
        Ok(())
    }

    /// The profile of somebody, and their role.
    async fn profile(&mut self, user: &str) -> Result<(String, String)> {
        let answer = self.operator.call("users.list", json!({})).await?;
        let mut profiles = answer["profiles"].as_array().into_iter().flatten();
        let theirs = profiles.find(|profile| profile["emails"][0] == user);
        let theirs = theirs.expect("a profile");
        let text = |name: &str| theirs[name].as_str().unwrap_or_default().to_owned();
        Ok((text("id"), text("role")))
    }

    async fn set_role(&mut self, user: &str, role: &Value) -> Result<()> {
        let (id, _) = self.profile(user).await?;
        let params = json!({"profileId": id, "role": role});
        self.operator.call("users.setRole", params).await?;
        sleep(HEARD).await;
        Ok(())
    }
}

/// What of a configuration is the gateway's.
fn ours(config: &Value) -> Value {
    json!({
        "agents": config["agents"]["entries"], "ownership": config["agents"]["ownership"],
        "providers": config["models"]["providers"], "tools": config["tools"],
        "roles": config["gateway"]["roles"],
    })
}

async fn works(person: &Person) -> Result<()> {
    let turn = person.open().await?.turn("hello").await?;
    assert_eq!(turn.state, "final", "{turn:?}");
    Ok(())
}

#[tokio::test]
async fn an_agent_that_somebody_changed_is_repaired_before_its_owner_is_let_in() -> Result<()> {
    let mut kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let folder = dir.path().join("instance");
    fs::create_dir(&folder).expect("a directory");
    let instance = OpenClaw::start(kit.install.clone(), &folder, &secret::random()?).await?;
    kit.openclaw = instance.url();
    kit.openclaw_password = instance.password().to_owned();
    let mut config = Config::new(&kit, dir.path())?;
    let capacity = "mode = \"pool\"\ncapacity = 6";
    config.text = config.text.replacen("mode = \"pool\"", capacity, 1);
    let gateway = Gateway::start(config, dir.path()).await?;
    let mark = secret::mark()?;
    let names = ["alice", "bob", "carol"].map(|name| format!("{name}-{mark}"));
    let people = try_join_all(
        names
            .iter()
            .map(|name| Person::sign_in(&kit, name, &gateway)),
    );
    let people = people.await?;
    // One after the other, so that it is known who has which slot.
    for person in &people {
        person.open().await?;
    }
    let (operator, _) = instance.operator(&["operator.admin"]).await?;
    let mut world = World { instance, operator };
    world.connect().await?;
    let whole = world.config().await?;
    let (alice, agent) = (&people[0], "slot-001");
    let entry = |change: Value| json!({"agents": {"entries": {agent: change}}});
    let provider = |change: Value| json!({"models": {"providers": {"slot-001-openai": change}}});
    let mine = json!({"baseUrl": "http://127.0.0.1:9/v1", "api": "openai-completions", "apiKey": "x", "models": [{"id": "m", "name": "m"}]});
    let (tools, policy, models) = (
        "agents.entries.slot-001.tools.allow",
        "agents.entries.slot-001.modelPolicy.allow",
        "models.providers.slot-001-openai.models",
    );
    let anybody = json!({"agents": "*", "scopes": ["operator.read"]});
    for (patch, lists) in [
        (
            entry(json!({
                "tools": {"allow": ["read", "exec", "process"], "fs": {"workspaceOnly": false}}, "workspace": "/",
                "modelPolicy": {"allow": ["slot-001-openai/*", "slot-002-openai/*"]},
                "subagents": {"allowAgents": ["*"]}, "sandbox": {"mode": "off"},
            })),
            &[tools][..],
        ),
        (
            entry(json!({"modelPolicy": null, "model": {"primary": "slot-002-openai/test-small"}})),
            &[policy],
        ),
        (json!({"tools": {"toolSearch": true}}), &[]),
        (
            json!({"models": {"providers": {
                "slot-001-mine": mine,
                "slot-001-openai": {"baseUrl": "http://127.0.0.1:9/v1", "models": mine["models"]},
            }}}),
            &[],
        ),
        (
            json!({"gateway": {"roles": {"default": "slot-003", "definitions": {
                agent: {"agents": [agent, "slot-002"], "sessions": {"others": "write"}}, "nobody": anybody,
            }}}}),
            &["gateway.roles.definitions.nobody.agents"],
        ),
        // What it calls models with has to be made anew.
        (provider(Value::Null), &[models]),
        (provider(json!({"apiKey": null})), &[]),
    ] {
        world.patch(&patch, lists).await?;
        let changed = world.config().await?;
        assert_ne!(ours(&changed), ours(&whole), "{patch}");
        alice.open().await?;
        world.connect().await?;
        assert_eq!(ours(&world.config().await?), ours(&whole), "{patch}");
    }

    for wrong in [json!("slot-002"), json!("nobody"), Value::Null] {
        world.set_role(&names[0], &wrong).await?;
        assert_ne!(world.profile(&names[0]).await?.1, agent);
        alice.open().await?;
        assert_eq!(world.profile(&names[0]).await?.1, agent, "{wrong}");
    }

    // Where nothing is changed nothing is written, and a crowd is put right by one patch.
    works(alice).await?;
    let writes = |log: &str| log.matches("agents made").count();
    let before = writes(&gateway.log()?);
    for _ in 0..2 {
        for person in &people {
            person.open().await?;
        }
    }
    assert_eq!(writes(&gateway.log()?), before);
    world.connect().await?;
    let entries = ["slot-001", "slot-002", "slot-003"];
    let entries = entries.map(|agent| (agent.to_owned(), json!({"workspace": "/"})));
    let patch = json!({"agents": {"entries": serde_json::Map::from_iter(entries)}});
    world.patch(&patch, &[]).await?;
    try_join_all(people.iter().map(Person::open)).await?;
    assert_eq!(writes(&gateway.log()?), before + 1);
    world.connect().await?;
    assert_eq!(ours(&world.config().await?), ours(&whole));
    try_join_all(people.iter().map(works)).await?;
    world.instance.stop().await
}
