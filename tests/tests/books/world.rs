//! A gateway between the shared OpenClaw and a provider that nobody else calls.

use std::{path::Path, time::Duration};

use gateway_tests::{
    error::Result,
    gateway::{Config, Gateway},
    http,
    kit::Kit,
    person::Person,
    provider::{Api, ModelCall, Provider},
    secret,
};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// The metric of the model calls that are refused for want of quota.
pub(crate) const REFUSED: &str = r#"gateway_refusals_total{plane="egress",reason="quota"}"#;

/// Everything that the provider writes down has come through this gateway.
pub(crate) struct World {
    pub(crate) kit: Kit,
    pub(crate) gateway: Gateway,
    pub(crate) provider: Provider,
    pub(crate) api: Api,
    dir: TempDir,
}

/// Somebody whose messages all hold their name.
pub(crate) struct Somebody {
    pub(crate) name: String,
    pub(crate) person: Person,
    /// Their agent, of which all calls are theirs, even those that do not hold their name.
    pub(crate) agent: String,
}

impl World {
    /// Agents call models by `api` unless another one is chosen.
    pub(crate) async fn start(
        api: Api,
        edit: impl FnOnce(&mut Config, &Path) + Send,
    ) -> Result<Self> {
        let mut kit = Kit::from_env()?;
        let provider = Provider::start([kit.provider_key.clone(), kit.user_key.clone()]).await?;
        kit.provider = provider.url();
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut config = Config::new(&kit, dir.path())?.with_every_api(&kit, dir.path())?;
        if api == Api::Messages {
            put_anthropic_first(&mut config.text);
        }
        edit(&mut config, dir.path());
        let gateway = Gateway::start(config, dir.path()).await?;
        Ok(Self {
            kit,
            gateway,
            provider,
            api,
            dir,
        })
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Somebody new.
    pub(crate) async fn person(&self, name: &str) -> Result<Somebody> {
        let name = format!("books-{name}-{}", secret::mark()?);
        let person = Person::sign_in(&self.kit, &name, &self.gateway).await?;
        let socket = person.open().await?;
        let agent = &socket.hello["snapshot"]["sessionDefaults"]["defaultAgentId"];
        let agent = agent.as_str().expect("an agent").to_owned();
        Ok(Somebody {
            name,
            person,
            agent,
        })
    }

    /// What the provider has written down of somebody's calls.
    pub(crate) async fn calls(&self, somebody: &Somebody) -> Result<Vec<ModelCall>> {
        let mut calls = self.provider.client().calls().await?;
        calls.retain(|call| somebody.has_made(call));
        Ok(calls)
    }

    /// Waits until the provider has answered to its end what somebody, or their agent, asks with `text` in it.
    pub(crate) async fn answered(&self, somebody: &Somebody, text: &str) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let calls = self.calls(somebody).await?;
            let mut answered = calls.iter().filter(|call| call.last_user.contains(text));
            if answered.any(|call| call.finished) {
                return Ok(());
            }
            assert!(Instant::now() < deadline, "{text}: {calls:#?}");
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until a metric has come to a value.
    pub(crate) async fn metric_becomes(&self, name: &str, value: u64) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.metric(name).await? != value {
            assert!(Instant::now() < deadline, "{name} is not {value}");
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Makes the gateway read another configuration, and waits for what it says of it.
    pub(crate) async fn reload(&mut self, config: Config, result: &str) -> Result<()> {
        let name = format!(r#"gateway_config_reloads_total{{result="{result}"}}"#);
        let before = self.metric(&name).await?;
        self.gateway.reload(config)?;
        self.metric_becomes(&name, before + 1).await
    }

    /// The value of a metric, by its name with labels; none is 0.
    pub(crate) async fn metric(&self, name: &str) -> Result<u64> {
        let metrics = http::get(&self.gateway.admin_url("/metrics"), None)
            .await?
            .text();
        let mut lines = metrics.lines().filter_map(|line| line.strip_prefix(name));
        let value = lines.next().and_then(|value| value.trim().parse().ok());
        Ok(value.unwrap_or_default())
    }

    /// The provider was asked for nothing else.
    pub(crate) async fn everything_is_somebodys(&self, all: &[&Somebody]) -> Result<()> {
        let mut calls = self.provider.client().calls().await?;
        calls.retain(|call| !all.iter().any(|one| one.has_made(call)));
        assert!(calls.is_empty(), "{calls:#?}");
        Ok(())
    }
}

// === impl Somebody ===

impl Somebody {
    fn has_made(&self, call: &ModelCall) -> bool {
        let agent = format!("Runtime: agent={} ", self.agent);
        call.last_user.contains(&self.name) || call.last_user.contains(&agent)
    }
}

/// The first model of the first provider is everybody's default.
fn put_anthropic_first(config: &mut String) {
    let table = |name: &str| format!("[[provider]]\nname = \"{name}\"");
    let place = |config: &str, name| config.find(&table(name)).expect("a provider");
    let moved = config.split_off(place(config, "anthropic"));
    let first = place(config, "openai");
    config.insert_str(first, &format!("{moved}\n"));
}
