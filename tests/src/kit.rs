//! The servers that all tests of one run share.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    install::Install,
    issuer::{Issuer, IssuerClient},
    openclaw::OpenClaw,
    postgres::{Postgres, create_database},
    provider::{Provider, ProviderClient},
    redis::Redis,
};

/// The variable that names the file.
pub const VARIABLE: &str = "GATEWAY_TEST_KIT";

/// The file's name in the kit's directory.
pub const FILE: &str = "kit.json";

/// The file with the URL of Postgres and nothing else.
pub const POSTGRES_FILE: &str = "postgres.url";

/// The file with the URL of Redis and nothing else.
pub const REDIS_FILE: &str = "redis.url";

/// The directory of the pool instances, one after the other, in the kit's directory.
const INSTANCES: &str = "openclaw";

/// The provider's key that the gateway is configured with.
const PROVIDER_KEY: &str = "sk-test-gateway-0123456789abcdef";

/// A second key that the provider accepts, for a user who brings their own.
const USER_KEY: &str = "sk-test-own-fedcba9876543210";

/// What a test has to know of the shared servers.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Kit {
    /// What is installed, to start further instances and issuers.
    pub install: Install,
    /// The issuer's URL.
    pub issuer: String,
    /// The model provider's base URL, without `/v1`.
    pub provider: String,
    /// The key that the gateway presents to the provider.
    pub provider_key: String,
    /// Another key that the provider accepts.
    pub user_key: String,
    /// The base URL of the pool instance.
    pub openclaw: String,
    /// The password of its administration channel.
    pub openclaw_password: String,
    /// Where it keeps everything.
    pub openclaw_dir: PathBuf,
    /// The URL of Postgres, `postgres://…`, of a user who may make databases.
    pub postgres: String,
    /// The URL of Redis, `redis://…`.
    pub redis: String,
}

/// The running servers. Dropping it kills them.
#[derive(Debug)]
pub struct Servers {
    dir: PathBuf,
    kit: Kit,
    openclaw: OpenClaw,
    issuer: Issuer,
    provider: Provider,
    postgres: Postgres,
    redis: Redis,
}

impl Kit {
    /// The kit that `tests/run` has started.
    ///
    /// # Errors
    ///
    /// [`Error::NoKit`], which says how to start it.
    pub fn from_env() -> Result<Self> {
        let path =
            env::var_os(VARIABLE).ok_or_else(|| Error::NoKit(format!("{VARIABLE} is not set")))?;
        Self::read(&PathBuf::from(path))
    }

    /// The kit that a file describes.
    ///
    /// # Errors
    ///
    /// [`Error::NoKit`] when the file is not there or is none.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            fs::read(path).map_err(|error| Error::NoKit(format!("{}: {error}", path.display())))?;
        serde_json::from_slice(&text)
            .map_err(|error| Error::NoKit(format!("{}: {error}", path.display())))
    }

    /// As [`read`](Self::read) finds it, in the kit's directory.
    fn write(&self, dir: &Path) -> Result<()> {
        let path = dir.join(FILE);
        let text = serde_json::to_vec_pretty(self).map_err(|error| Error::File {
            path: path.clone(),
            source: error.into(),
        })?;
        write(&path, &text)
    }

    /// The shared issuer.
    #[must_use]
    pub fn issuer(&self) -> IssuerClient {
        IssuerClient::new(&self.issuer)
    }

    /// A new database on the shared Postgres, by its URL.
    ///
    /// # Errors
    ///
    /// As [`create_database`].
    pub async fn database(&self) -> Result<String> {
        create_database(&self.postgres).await
    }

    /// The shared provider's record.
    #[must_use]
    pub fn provider(&self) -> ProviderClient {
        ProviderClient::new(&self.provider)
    }
}

impl Servers {
    /// Starts all of them in `dir`, and writes [`FILE`] there once they are ready. Before that,
    /// [`POSTGRES_FILE`] and [`REDIS_FILE`] are written as soon as they hold true: tests of one crate
    /// need not wait for OpenClaw.
    ///
    /// # Errors
    ///
    /// What the servers say, [`Error::File`].
    pub async fn start(install: Install, dir: &Path) -> Result<Self> {
        let provider = Provider::start([PROVIDER_KEY, USER_KEY]).await?;
        let password = crate::secret::random()?;
        let instance = dir.join(INSTANCES).join("1");
        let (postgres, redis, issuer, openclaw) = tokio::try_join!(
            start_postgres(dir),
            start_redis(dir),
            Issuer::start(install.clone(), dir),
            OpenClaw::start(install.clone(), &instance, &password),
        )?;
        let kit = Kit {
            install,
            issuer: issuer.url(),
            provider: provider.url(),
            provider_key: PROVIDER_KEY.to_owned(),
            user_key: USER_KEY.to_owned(),
            openclaw: openclaw.url(),
            openclaw_password: password,
            openclaw_dir: instance,
            postgres: postgres.url(),
            redis: redis.url(),
        };
        kit.write(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
            kit,
            openclaw,
            issuer,
            provider,
            postgres,
            redis,
        })
    }

    /// Another OpenClaw in place of the one that is there, and another [`FILE`] once it is ready. It knows nobody: with the
    /// people of many tests an instance becomes slow.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn renew_openclaw(&mut self) -> Result<()> {
        self.openclaw.stop().await?;
        let before = self.kit.openclaw_dir.file_name();
        let before = before.and_then(|name| name.to_str()?.parse::<u32>().ok());
        let name = before.map_or(1, |before| before + 1).to_string();
        let instance = self.dir.join(INSTANCES).join(name);
        let install = self.kit.install.clone();
        self.openclaw = OpenClaw::start(install, &instance, &self.kit.openclaw_password).await?;
        self.kit.openclaw = self.openclaw.url();
        self.kit.openclaw_dir = instance;
        self.kit.write(&self.dir)
    }

    /// Stops them, OpenClaw in an orderly way.
    ///
    /// # Errors
    ///
    /// [`Error::Run`] when one cannot be waited for.
    pub async fn stop(mut self) -> Result<()> {
        let (openclaw, issuer, postgres, redis) = tokio::join!(
            self.openclaw.stop(),
            self.issuer.kill(),
            self.postgres.stop(),
            self.redis.kill(),
        );
        drop(self.provider);
        openclaw.and(issuer).and(postgres).and(redis)
    }
}

async fn start_postgres(dir: &Path) -> Result<Postgres> {
    let server = Postgres::start(dir).await?;
    write(&dir.join(POSTGRES_FILE), server.url().as_bytes())?;
    Ok(server)
}

async fn start_redis(dir: &Path) -> Result<Redis> {
    let server = Redis::start(dir).await?;
    write(&dir.join(REDIS_FILE), server.url().as_bytes())?;
    Ok(server)
}

// Written beside and moved, so that nobody reads half a file.
fn write(path: &Path, text: &[u8]) -> Result<()> {
    let file = |source| Error::File {
        path: path.to_owned(),
        source,
    };
    let draft = path.with_extension("draft");
    fs::write(&draft, text).map_err(file)?;
    fs::rename(&draft, path).map_err(file)
}
