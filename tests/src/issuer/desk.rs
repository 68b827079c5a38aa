//! What a test asks of the issuer beside the protocol (`node/issuer-desk.mjs`).

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::IssuerClient;
use crate::{
    error::{Error, Result},
    http as client,
};

/// A request that the issuer got.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct IssuerRequest {
    /// The method.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The status it was answered with; `None` before.
    pub status: Option<u16>,
    /// The client that made it, where one did.
    pub client_id: Option<String>,
    /// `grant_type` of a token request.
    pub grant_type: Option<String>,
    /// The error code it was answered with, such as `invalid_grant`.
    pub error: Option<String>,
}

/// How the issuer misbehaves at one path. All of it may be left out.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Behaviour {
    /// Milliseconds before a request is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before_ms: Option<u64>,
    /// Milliseconds between what a request does and its answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<u64>,
    /// A request is not done, and is answered with this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// How many requests; one unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
}

/// A client of the issuer.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct RegisteredClient {
    /// `client_id`.
    #[serde(rename = "client_id")]
    pub id: String,
    /// `client_secret`.
    #[serde(rename = "client_secret")]
    pub secret: String,
}

/// Whether a client was told by back-channel logout.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Told {
    /// The client.
    pub client_id: String,
    /// The session that ended, as the client knows it.
    pub sid: String,
    /// Why it could not be told, if it could not.
    pub failed: Option<String>,
}

impl IssuerClient {
    /// Registers a confidential client for the gateway at a base URL, whose paths are the usual ones:
    /// `/auth/callback`, `/auth/backchannel-logout`, and `/auth/signed-out` after sign-out. `rest` is put over that:
    /// standard metadata, or `access_token_ttl` and `access_token_format` of `node/issuer.mjs`.
    ///
    /// # Errors
    ///
    /// [`Error::Unexpected`] with the issuer's refusal.
    pub async fn register(&self, gateway: &str, rest: &Value) -> Result<RegisteredClient> {
        let mut metadata = json!({
            "application_type": "native",
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "redirect_uris": [format!("{gateway}/auth/callback")],
            "post_logout_redirect_uris": [format!("{gateway}/auth/signed-out")],
            "backchannel_logout_uri": format!("{gateway}/auth/backchannel-logout"),
            "backchannel_logout_session_required": true,
        });
        if let (Some(metadata), Some(rest)) = (metadata.as_object_mut(), rest.as_object()) {
            metadata.extend(rest.clone());
        }
        let answer = client::post(&format!("{}/reg", self.url), None, &metadata).await?;
        read(answer.expect_status(StatusCode::CREATED)?.json()?)
    }

    /// All requests since it started, the oldest first, at most 20,000; not those of this `impl`, but
    /// for [`register`](Self::register).
    ///
    /// # Errors
    ///
    /// No answer.
    pub async fn requests(&self) -> Result<Vec<IssuerRequest>> {
        let answer = client::get(&format!("{}/test/requests", self.url), None).await?;
        read(answer.expect_status(StatusCode::OK)?.json()?)
    }

    /// How many requests a path has had.
    ///
    /// # Errors
    ///
    /// As [`requests`](Self::requests).
    pub async fn count(&self, path: &str) -> Result<usize> {
        let requests = self.requests().await?;
        Ok(requests.iter().filter(|one| one.path == path).count())
    }

    /// How many token requests of this type a client has made.
    ///
    /// # Errors
    ///
    /// As [`requests`](Self::requests).
    pub async fn count_grants(&self, client_id: &str, grant_type: &str) -> Result<usize> {
        let is_one = |one: &&IssuerRequest| {
            one.client_id.as_deref() == Some(client_id)
                && one.grant_type.as_deref() == Some(grant_type)
        };
        Ok(self.requests().await?.iter().filter(is_one).count())
    }

    /// Makes the next requests of a path misbehave. Nothing set: it behaves.
    ///
    /// # Errors
    ///
    /// No answer.
    pub async fn behave(&self, path: &str, behaviour: Behaviour) -> Result<()> {
        let mut question = json!(behaviour);
        question["path"] = json!(path);
        self.ask("behaviour", &question).await.map(|_| ())
    }

    /// Signs with new keys from now on, and publishes no others. Sessions and refresh tokens stay.
    ///
    /// # Errors
    ///
    /// No answer.
    pub async fn rotate_keys(&self) -> Result<()> {
        self.ask("rotate", &json!({})).await.map(|_| ())
    }

    /// A token of any content, signed with the issuer's current key for `alg` (RS256 or ES256).
    /// `header` is put over what signing needs: `alg` and `kid`.
    ///
    /// # Errors
    ///
    /// [`Error::Unexpected`] with the issuer's refusal.
    pub async fn sign(&self, alg: &str, header: &Value, claims: &Value) -> Result<String> {
        let question = json!({"alg": alg, "header": header, "claims": claims});
        let answer = self.ask("sign", &question).await?;
        let token = answer["token"].as_str().map(str::to_owned);
        token.ok_or_else(|| Error::unexpected("answer", answer.to_string()))
    }

    /// Ends all sessions of `account` at the issuer, with the refresh tokens that were given in them, as
    /// an administrator does, and tells clients by back-channel logout before it answers.
    ///
    /// # Errors
    ///
    /// No answer.
    pub async fn end_sessions(&self, account: &str) -> Result<Vec<Told>> {
        read(
            self.ask("end-sessions", &json!({"account": account}))
                .await?,
        )
    }

    async fn ask(&self, name: &str, question: &Value) -> Result<Value> {
        let answer = client::post(&format!("{}/test/{name}", self.url), None, question).await?;
        answer.expect_status(StatusCode::OK)?.json()
    }
}

fn read<T: serde::de::DeserializeOwned>(answer: Value) -> Result<T> {
    let shown = answer.to_string();
    serde_json::from_value(answer).map_err(|_| Error::unexpected("answer", shown))
}
