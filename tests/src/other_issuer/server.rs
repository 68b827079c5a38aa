//! The provider's process.

use std::{net::SocketAddr, path::Path, time::Duration};

use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    error::{Error, Result},
    http as client,
    install::Install,
    issuer::IssuerRequest,
    port::free_address,
    process::Process,
};

const READY_LIMIT: Duration = Duration::from_secs(60);

/// The program, beside this crate's sources. It says what can be asked.
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/node/other-issuer.mjs");

/// A running oauth2-mock-server. Dropping it kills it.
///
/// It is there in less than a second, and each test that changes what it says starts its own.
#[derive(Debug)]
pub struct OtherIssuer {
    address: SocketAddr,
    process: Process,
}

impl OtherIssuer {
    /// Starts one that logs into the directory `dir`; answers when it is ready.
    ///
    /// # Errors
    ///
    /// [`Error::File`], [`Error::Run`], [`Error::NotReady`] with the end of its log.
    pub async fn start(install: &Install, dir: &Path) -> Result<Self> {
        let address = free_address()?;
        let mut command = install.command();
        command.arg(PROGRAM);
        command.arg("--modules").arg(&install.modules);
        command.arg("--port").arg(address.port().to_string());
        let log = dir.join("other-issuer.log");
        let process = Process::spawn("the other issuer", command, log)?;
        let mut issuer = Self { address, process };
        let url = format!("{}/.well-known/openid-configuration", issuer.url());
        issuer.process.ready(&url, READY_LIMIT).await?;
        Ok(issuer)
    }

    /// Its name in tokens, and the URL its discovery document is below: `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its process, for signals.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// A token of any content, signed with its key for `alg` (RS256, PS256, ES256, EdDSA …), which it
    /// publishes from then on, and may sign with when somebody signs in. `kid` and `typ` are there
    /// unless `header` has others.
    ///
    /// # Errors
    ///
    /// [`Error::Unexpected`] with its refusal.
    pub async fn mint(&self, alg: &str, header: &Value, claims: &Value) -> Result<String> {
        let question = json!({"alg": alg, "header": header, "claims": claims});
        let answer = self.ask("mint", &question).await?;
        let token = answer["token"].as_str().map(str::to_owned);
        token.ok_or_else(|| Error::unexpected("answer", answer.to_string()))
    }

    /// Puts `patch` over what it says from then on; a member that is null removes one. `what` is `discovery`,
    /// `redirect`, `id_token`, `id_token_header`, `access_token`, `access_token_header`, `token`,
    /// `userinfo` or `introspection`. An empty patch ends a change.
    ///
    /// # Errors
    ///
    /// No answer.
    pub async fn change(&self, what: &str, patch: &Value) -> Result<()> {
        let question = json!({"what": what, "patch": patch});
        self.ask("change", &question).await.map(|_| ())
    }

    /// As [`change`](Self::change), for `discovery`, `token`, `userinfo` and `introspection`, with another
    /// status.
    ///
    /// # Errors
    ///
    /// No answer.
    pub async fn fail(&self, what: &str, status: u16, patch: &Value) -> Result<()> {
        let question = json!({"what": what, "patch": patch, "status": status});
        self.ask("change", &question).await.map(|_| ())
    }

    /// All requests since it started, by method and path.
    ///
    /// # Errors
    ///
    /// No answer.
    pub async fn requests(&self) -> Result<Vec<IssuerRequest>> {
        let answer = self.ask("requests", &json!({})).await?;
        let shown = answer.to_string();
        serde_json::from_value(answer).map_err(|_| Error::unexpected("answer", shown))
    }

    async fn ask(&self, name: &str, question: &Value) -> Result<Value> {
        let url = format!("{}/test/{name}", self.url());
        let answer = client::post(&url, None, question).await?;
        answer.expect_status(StatusCode::OK)?.json()
    }
}
