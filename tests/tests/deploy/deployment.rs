//! All that `deploy/` describes, running at once.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::future::try_join_all;
use gateway_tests::{
    browser::Browser,
    error::Result,
    gateway::{Config, Gateway},
    http,
    issuer::RegisteredClient,
    kit::Kit,
    nginx::Nginx,
    person::Person,
    redis::Redis,
    secret,
    tls::Tunnel,
};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::json;
use tempfile::TempDir;
use tokio::{process::Command, time::Instant};

use crate::{
    configuration::make_secrets, egress::Egress, instance::Instance, prometheus::Prometheus,
    shipped,
};

/// How long a machine may take that has much to do.
const PATIENCE: Duration = Duration::from_secs(120);

/// nginx with TLS, two gateways, Redis, a database of their own, and two OpenClaws: each with the file that is shipped for
/// it, in which addresses, paths, the issuer and the models are other ones.
pub(crate) struct Deployment {
    pub(crate) kit: Kit,
    pub(crate) nginx: Nginx,
    pub(crate) gateways: [Gateway; 2],
    /// `openclaw-1` and `openclaw-2`, unless that was stopped.
    instances: Vec<Instance>,
    /// A way through nginx by TLS, for clients that know none.
    pub(crate) tunnel: Tunnel,
    /// A word that nobody else says to a model.
    pub(crate) mark: String,
    dirs: [PathBuf; 2],
    _egress: Egress,
    _redis: Redis,
    dir: TempDir,
}

// === impl Deployment ===

impl Deployment {
    /// Starts all of it; answers when everybody could come.
    pub(crate) async fn start() -> Result<Self> {
        raise_limits();
        let kit = Kit::from_env()?;
        let dir = tempfile::tempdir().expect("a temporary directory");
        make_secrets(dir.path()).await?;
        let redis = Redis::start_with(dir.path(), &shipped("redis/redis.conf")).await?;
        let below = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir(&path).expect("a directory");
            path
        };
        let dirs = ["gateway-1", "gateway-2"].map(below);
        let mut configs = [Config::new(&kit, &dirs[0])?, Config::new(&kit, &dirs[1])?];
        let nginx = Nginx::start(dir.path(), configs.each_ref().map(|own| own.public)).await?;
        let tunnel = nginx.tls(&["http/1.1"])?.tunnel().await?;
        let egress = Egress::start(configs.each_ref().map(|own| own.egress)).await;

        let web = json!({"application_type": "web"});
        let client = kit.issuer().register(&tunnel.secure_url(""), &web).await?;
        for (name, value) in [
            ("database_url", &kit.database().await?),
            ("redis_url", &redis.url()),
            ("oidc_client_secret", &client.secret),
            ("provider_key", &kit.provider_key),
        ] {
            put(&secrets(dir.path()).join(name), value);
        }
        let instance = async |name: &str| {
            let password = secrets(dir.path()).join(name.replace('-', "_") + "_password");
            Instance::start(&kit.install, &below(name), &password).await
        };
        let (one, two) = tokio::try_join!(instance("openclaw-1"), instance("openclaw-2"))?;
        let instances = [one, two];
        for (config, own) in configs.iter_mut().zip(&dirs) {
            let urls = instances.each_ref().map(|instance| &*instance.url);
            let addresses = [tunnel.secure_url(""), egress.url()];
            config.text = configuration(config, &client, addresses, urls, [dir.path(), own]);
        }
        is_as_it_must_be(&configs[0], dir.path()).await;
        let [one, two] = configs;
        let (one, two) =
            tokio::try_join!(Gateway::start(one, &dirs[0]), Gateway::start(two, &dirs[1]),)?;
        Ok(Self {
            kit,
            nginx,
            gateways: [one, two],
            instances: instances.into(),
            tunnel,
            mark: secret::mark()?,
            dirs,
            _egress: egress,
            _redis: redis,
            dir,
        })
    }

    /// Starts a Prometheus with the shipped files that looks at both gateways.
    pub(crate) async fn prometheus(&self) -> Result<Prometheus> {
        let admin = self.gateways.each_ref().map(|own| own.config().admin);
        Prometheus::start(self.dir.path(), &admin).await
    }

    /// A browser that gets through nginx, by TLS.
    pub(crate) fn browser(&self) -> Browser {
        Browser::behind(&self.tunnel)
    }

    /// What a browser opens.
    pub(crate) fn url(&self, path: &str) -> String {
        self.tunnel.secure_url(path)
    }

    /// Somebody with a token, whose programs get through nginx by TLS. No account of another test is called so.
    pub(crate) async fn person(&self, name: &str) -> Result<Person> {
        let person = Person::sign_in(&self.kit, &self.account(name), &self.gateways[0]).await?;
        Ok(person.through(&self.tunnel.url("")))
    }

    /// What somebody of that name is called here.
    pub(crate) fn account(&self, name: &str) -> String {
        self.mark.replacen("mark", name, 1)
    }

    /// What somebody says, which tells them from others in what the provider writes down.
    pub(crate) fn message(&self, name: &str, rest: &str) -> String {
        format!("{} {name}: {rest}", self.mark)
    }

    /// Where the gateways have their ledgers.
    pub(crate) fn ledgers(&self) -> [&Path; 2] {
        self.dirs.each_ref().map(PathBuf::as_path)
    }

    /// How many sockets each gateway has.
    pub(crate) async fn sockets(&self) -> Result<[u64; 2]> {
        let mut all = [0; 2];
        for (gateway, sockets) in self.gateways.iter().zip(&mut all) {
            let metrics = http::get(&gateway.admin_url("/metrics"), None)
                .await?
                .text();
            let open = metrics.lines().filter_map(|line| {
                let labelled = line.strip_prefix("gateway_instance_connections{")?;
                labelled.rsplit(' ').next()?.parse::<u64>().ok()
            });
            *sockets = open.sum();
        }
        Ok(all)
    }

    /// Stops an instance, which must end well; answers its name.
    pub(crate) async fn stop_an_instance(&mut self) -> Result<&'static str> {
        let last = self.instances.pop().expect("both run");
        last.stop().await?;
        Ok("openclaw-2")
    }

    /// Stops the instances that run, which must end well.
    pub(crate) async fn stop(self) -> Result<()> {
        let Self {
            gateways,
            instances,
            ..
        } = self;
        drop(gateways);
        try_join_all(instances.into_iter().map(Instance::stop))
            .await
            .map(drop)
    }
}

/// The shipped `gateway.toml`, of one gateway: what people and instances reach it at; where the instances are; the
/// directories of all of this and of its own.
fn configuration(
    own: &Config,
    client: &RegisteredClient,
    [public_url, egress_url]: [String; 2],
    instances: [&str; 2],
    [dir, ledger]: [&Path; 2],
) -> String {
    let quoted = |path: PathBuf| format!("\"{}\"", path.display());
    let mut text = shipped("gateway/gateway.toml");
    // What says of an issuer and of models how they are is about others here.
    let issuer = section(&own.text, "\n[[issuer]]", "\n[roles]");
    let issuer: Vec<_> = issuer
        .lines()
        .filter(|line| !line.starts_with("client_"))
        .collect();
    let issuer = format!(
        "\n{}\nclient_id = \"{}\"\nclient_secret_file = \"/run/secrets/oidc_client_secret\"\n",
        issuer.join("\n").trim(),
        client.id
    );
    let providers = section(&own.text, "\n[[provider]]", "\n[plan.default]");
    let prices = section(&own.text, "\n[[price]]", "");
    for (begin, end, new) in [
        ("\n[[issuer]]", "\n[roles]", issuer),
        (
            "\n[[instance]]\nname = \"openclaw-3\"",
            "\n[[provider]]",
            String::new(),
        ),
        (
            "\n[[provider]]",
            "\n[plan.default]",
            format!("{providers}{prices}"),
        ),
    ] {
        let old = section(&text, begin, end).to_owned();
        text = text.replacen(&old, &new, 1);
    }
    for (old, new) in [
        ("\"0.0.0.0:3000\"", format!("\"{}\"", own.public)),
        ("\"0.0.0.0:3001\"", format!("\"{}\"", own.admin)),
        ("\"0.0.0.0:3002\"", format!("\"{}\"", own.egress)),
        ("https://openclaw.example.com", public_url),
        ("http://egress:3002", egress_url),
        ("172.30.0.10/32", "127.0.0.1/32".to_owned()),
        ("http://openclaw-1:18789", instances[0].to_owned()),
        ("http://openclaw-2:18789", instances[1].to_owned()),
        (
            "\"/var/lib/gateway/gateway.db\"",
            quoted(ledger.join("gateway.db")),
        ),
        ("\"/data/openclaw-users\"", quoted(dir.join("users"))),
        ("/run/secrets", secrets(dir).display().to_string()),
    ] {
        assert!(text.contains(old), "gateway.toml has no {old}");
        text = text.replace(old, &new);
    }
    text
}

/// From where `begin` is until before `end`; without an end, all that is left.
fn section<'a>(text: &'a str, begin: &str, end: &str) -> &'a str {
    let start = text
        .find(begin)
        .unwrap_or_else(|| panic!("{begin} is missing"));
    let rest = &text[start..];
    match rest.find(end) {
        Some(length) if !end.is_empty() => &rest[..length],
        _ => rest,
    }
}

fn secrets(dir: &Path) -> PathBuf {
    dir.join("secrets")
}

/// Puts a secret in the place of what is there, which nobody may write to.
fn put(path: &Path, secret: &str) {
    fs::remove_file(path).expect("it is there");
    fs::write(path, format!("{secret}\n")).expect("a secret");
}

/// `check-config` has nothing to say about the instances, once they have time to answer it.
async fn is_as_it_must_be(config: &Config, dir: &Path) {
    let path = dir.join("checked.toml");
    fs::write(&path, &config.text).expect("a configuration");
    let binary = env::var_os("GATEWAY_BIN").expect("tests/run says which binary");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut command = Command::new(&binary);
        command.env_clear().arg("check-config").arg("--config");
        let output = command.arg(&path).output().await.expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout);
        let wrong = String::from_utf8_lossy(&output.stderr);
        let is_late = ["does not answer", "still starting", "is not ready"];
        if is_late.into_iter().any(|late| said.contains(late)) && Instant::now() < deadline {
            continue;
        }
        assert!(output.status.success(), "{said}{wrong}");
        for instance in ["openclaw-1", "openclaw-2"] {
            let well = format!("ok     instance {instance}: is configured as it must be");
            assert!(said.contains(&well), "{said}");
            let note = format!("note   instance {instance}");
            assert!(!said.contains(&note), "{said}");
        }
        return;
    }
}

/// Two hundred sockets through a tunnel are many files.
fn raise_limits() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // What is too little shows itself.
    let _ = setrlimit(Resource::Nofile, limit);
}
