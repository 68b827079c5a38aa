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
    provider::{Provider, ProviderClient},
};

/// The variable that names the file.
pub const VARIABLE: &str = "GATEWAY_TEST_KIT";

/// The file's name in the kit's directory.
pub const FILE: &str = "kit.json";

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
}

/// The running servers. Dropping it kills them.
#[derive(Debug)]
pub struct Servers {
    openclaw: OpenClaw,
    issuer: Issuer,
    provider: Provider,
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

    /// The shared issuer.
    #[must_use]
    pub fn issuer(&self) -> IssuerClient {
        IssuerClient::new(&self.issuer)
    }

    /// The shared provider's record.
    #[must_use]
    pub fn provider(&self) -> ProviderClient {
        ProviderClient::new(&self.provider)
    }
}

impl Servers {
    /// Starts provider, issuer and OpenClaw in `dir`, and writes [`FILE`] there once all are ready.
    ///
    /// # Errors
    ///
    /// What the servers say, [`Error::File`].
    pub async fn start(install: Install, dir: &Path) -> Result<Self> {
        let provider = Provider::start([PROVIDER_KEY, USER_KEY]).await?;
        let password = crate::secret::random()?;
        let instance = dir.join("openclaw");
        let (issuer, openclaw) = tokio::try_join!(
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
        };
        kit.write(&dir.join(FILE))?;
        Ok(Self {
            openclaw,
            issuer,
            provider,
        })
    }

    /// Stops them, OpenClaw in an orderly way.
    ///
    /// # Errors
    ///
    /// [`Error::Run`] when one cannot be waited for.
    pub async fn stop(mut self) -> Result<()> {
        let (openclaw, issuer) = tokio::join!(self.openclaw.stop(), self.issuer.kill());
        drop(self.provider);
        openclaw.and(issuer)
    }
}

impl Kit {
    // Written beside and moved, so that nobody reads half a file.
    fn write(&self, path: &Path) -> Result<()> {
        let file = |source| Error::File {
            path: path.to_owned(),
            source,
        };
        let draft = path.with_extension("draft");
        let text = serde_json::to_vec_pretty(self).map_err(|error| file(error.into()))?;
        fs::write(&draft, text).map_err(file)?;
        fs::rename(&draft, path).map_err(file)
    }
}
