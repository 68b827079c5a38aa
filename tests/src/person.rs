//! Somebody who works through the gateway.

use std::time::Duration;

use ::http::StatusCode;
use serde_json::{Value, json};

use crate::{
    error::{Error, Result},
    gateway::Gateway,
    http,
    kit::Kit,
    secret,
    ws::Ws,
};

/// The longest wait for what the gateway does in the background.
const SETTLES: Duration = Duration::from_secs(60);

/// A person with a token, and the gateway they use it at.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Person {
    /// The token.
    pub token: String,
    api: String,
    socket: String,
}

/// An open socket of a person.
#[derive(Debug)]
#[non_exhaustive]
pub struct Socket {
    /// The socket, after the handshake.
    pub ws: Ws,
    /// The payload of `hello-ok`.
    pub hello: Value,
}

/// How a turn ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Turn {
    /// The run.
    pub run_id: String,
    /// `final`, `error` or `aborted`.
    pub state: String,
    /// The reply, or what went wrong.
    pub text: String,
}

// === impl Turn ===

impl Turn {
    /// The end of a run as the history has it: a reply of the agent, which says why it stopped.
    #[must_use]
    pub fn of_history(run_id: &str, reply: &Value) -> Self {
        let state = match reply["stopReason"].as_str() {
            Some("stop") => "final",
            Some("aborted") => "aborted",
            _ => "error",
        };
        let text = reply["content"][0]["text"].as_str().unwrap_or_default();
        Self {
            run_id: run_id.to_owned(),
            state: state.to_owned(),
            text: text.to_owned(),
        }
    }
}

// === impl Person ===

impl Person {
    /// Signs `account` in, for use at `gateway`.
    ///
    /// # Errors
    ///
    /// What the sign-in says.
    pub async fn sign_in(kit: &Kit, account: &str, gateway: &Gateway) -> Result<Self> {
        let token = kit.issuer().token(account).await?;
        Ok(Self::with_token(token, gateway))
    }

    /// Somebody who has that token.
    #[must_use]
    pub fn with_token(token: String, gateway: &Gateway) -> Self {
        Self {
            token,
            api: gateway.url(""),
            socket: gateway.ws_url("/ws"),
        }
    }

    /// The same person, who reaches the gateway at another `http://` URL: that of a proxy before it.
    #[must_use]
    pub fn through(self, url: &str) -> Self {
        Self {
            api: url.to_owned(),
            socket: format!("{}/ws", url.replacen("http", "ws", 1)),
            ..self
        }
    }

    /// `GET` of an API route, as JSON.
    ///
    /// # Errors
    ///
    /// Any status but 200.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.fetch(path)
            .await?
            .expect_status(StatusCode::OK)?
            .json()
    }

    /// `GET` of an API route, whatever the status and whatever is answered.
    ///
    /// # Errors
    ///
    /// No answer.
    pub async fn fetch(&self, path: &str) -> Result<http::Response> {
        http::get(&format!("{}{path}", self.api), Some(&self.token)).await
    }

    /// `POST` of an API route, whatever the status.
    ///
    /// # Errors
    ///
    /// No answer.
    pub async fn post(&self, path: &str, body: &Value) -> Result<http::Response> {
        http::post(&format!("{}{path}", self.api), Some(&self.token), body).await
    }

    /// Opens a socket with the token as bearer.
    ///
    /// # Errors
    ///
    /// A refused upgrade or handshake.
    pub async fn open(&self) -> Result<Socket> {
        self.open_with(connect_params(&json!({}))).await
    }

    /// As [`open`](Self::open), with the client's own parameters of `connect`.
    ///
    /// # Errors
    ///
    /// A refused upgrade or handshake.
    pub async fn open_with(&self, params: Value) -> Result<Socket> {
        let bearer = format!("Bearer {}", self.token);
        let ws = Ws::connect(&self.socket, &[("authorization", &bearer)]).await?;
        Socket::over(ws, params).await
    }

    /// Waits until `path` answers something that `settled` accepts.
    ///
    /// # Errors
    ///
    /// [`Error::Late`] with the last answer after a minute.
    pub async fn wait_for(
        &self,
        path: &str,
        settled: impl Fn(&Value) -> bool + Send,
    ) -> Result<Value> {
        let deadline = tokio::time::Instant::now() + SETTLES;
        loop {
            let answer = self.get(path).await?;
            if settled(&answer) {
                return Ok(answer);
            }
            if tokio::time::Instant::now() > deadline {
                return Err(Error::Late(SETTLES, format!("{path} says {answer}")));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// The parameters of a client's `connect`, with `auth` in them.
#[must_use]
pub fn connect_params(auth: &Value) -> Value {
    json!({
        "minProtocol": 4, "maxProtocol": 4,
        "client": {"id": "cli", "version": "1.0.0", "platform": "linux", "mode": "cli"},
        "role": "operator", "scopes": ["operator.admin", "operator.read", "operator.write"],
        "caps": [], "auth": auth,
    })
}

// === impl Socket ===

impl Socket {
    /// Makes the handshake of a client on a connection that was just opened.
    ///
    /// # Errors
    ///
    /// A refused handshake.
    pub async fn over(mut ws: Ws, params: Value) -> Result<Self> {
        ws.event("connect.challenge").await?;
        let hello = ws.call("connect", params).await?;
        Ok(Self { ws, hello })
    }

    /// Sends a message in the main session and waits for the end of its run.
    ///
    /// # Errors
    ///
    /// A refusal of the message, and what the socket says.
    pub async fn turn(&mut self, message: &str) -> Result<Turn> {
        let run_id = self.start(message).await?;
        self.end_of(&run_id).await
    }

    /// Sends a message in the main session and answers the run's id.
    ///
    /// # Errors
    ///
    /// A refusal, and what the socket says.
    pub async fn start(&mut self, message: &str) -> Result<String> {
        let started = self.ws.call("chat.send", send_params(message)?).await?;
        if started["status"] != "started" {
            return Err(Error::unexpected("chat.send", started.to_string()));
        }
        Ok(started["runId"].as_str().unwrap_or_default().to_owned())
    }

    /// Waits for the end of a run.
    ///
    /// # Errors
    ///
    /// What the socket says.
    pub async fn end_of(&mut self, run_id: &str) -> Result<Turn> {
        let ended = |frame: &Value| {
            let payload = &frame["payload"];
            frame["event"] == "chat"
                && payload["runId"] == run_id
                && matches!(
                    payload["state"].as_str(),
                    Some("final" | "error" | "aborted")
                )
        };
        let frame = self.ws.find(ended).await?;
        let payload = &frame["payload"];
        let text = match payload["errorMessage"].as_str() {
            Some(message) => message,
            None => payload["message"]["content"][0]["text"]
                .as_str()
                .unwrap_or_default(),
        };
        Ok(Turn {
            run_id: run_id.to_owned(),
            state: payload["state"].as_str().unwrap_or_default().to_owned(),
            text: text.to_owned(),
        })
    }
}

/// The parameters of a `chat.send` in the main session.
///
/// # Errors
///
/// The system has no randomness.
pub fn send_params(message: &str) -> Result<Value> {
    let key = secret::random()?;
    Ok(json!({"sessionKey": "main", "message": message, "idempotencyKey": key}))
}
