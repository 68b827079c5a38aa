//! An answer as it comes, part by part.

use std::time::Duration;

use bytes::Bytes;
use gateway_tests::{
    error::{Error, Result},
    gateway::Gateway,
};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;
use tokio::time::{sleep, timeout};

/// The first turn of a new agent has taken a minute on a machine that was busy with builds.
const LIMIT: Duration = Duration::from_secs(180);

/// An answer of which the head is there. Dropped, its connection is closed.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    _client: Client<HttpConnector, Full<Bytes>>,
}

/// Asks with a token, and waits for the head of the answer; again where the instance is too busy, as an SDK does.
pub(crate) async fn ask(
    gateway: &Gateway,
    path: &str,
    token: &str,
    body: &Value,
) -> Result<Answer> {
    let mut answer = ask_once(gateway, path, token, body).await?;
    for _ in 0..5 {
        if answer.status != StatusCode::SERVICE_UNAVAILABLE {
            break;
        }
        sleep(Duration::from_secs(2)).await;
        answer = ask_once(gateway, path, token, body).await?;
    }
    Ok(answer)
}

async fn ask_once(gateway: &Gateway, path: &str, token: &str, body: &Value) -> Result<Answer> {
    let url = gateway.url(path);
    let client = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::post(&url)
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body.to_string())))
        .map_err(broken)?;
    let answer = timeout(LIMIT, client.request(request)).await;
    let answer = answer.map_err(|_| Error::Late(LIMIT, url.clone()))?;
    let (head, body) = answer.map_err(broken)?.into_parts();
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body,
        _client: client,
    })
}

fn broken(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Connection {
        peer: "the gateway".to_owned(),
        source: error.into(),
    }
}

// === impl Answer ===

impl Answer {
    /// The next part; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<String>> {
        let frame = timeout(LIMIT, self.body.frame()).await;
        let frame = frame.map_err(|_| Error::Late(LIMIT, "a part".to_owned()))?;
        match frame {
            None => Ok(None),
            Some(Ok(frame)) => {
                let data = frame.into_data().unwrap_or_default();
                Ok(Some(String::from_utf8_lossy(&data).into_owned()))
            }
            Some(Err(error)) => Err(broken(error)),
        }
    }

    /// Reads on until `words` come by, and answers what was read.
    pub(crate) async fn until(&mut self, words: &str) -> Result<String> {
        let mut read = String::new();
        while !read.contains(words) {
            match self.next().await? {
                Some(part) => read.push_str(&part),
                None => return Err(broken(read)),
            }
        }
        Ok(read)
    }

    /// The answer of a run that went well, which comes in one piece.
    pub(crate) async fn whole(mut self) -> Result<Value> {
        let text = self.rest().await?.concat();
        match serde_json::from_str(&text) {
            Ok(answer) if self.status == StatusCode::OK => Ok(answer),
            _ => Err(broken(format!("{}: {text}", self.status))),
        }
    }

    /// All that is still to come, in parts.
    pub(crate) async fn rest(&mut self) -> Result<Vec<String>> {
        let mut parts = Vec::new();
        while let Some(part) = self.next().await? {
            parts.push(part);
        }
        Ok(parts)
    }
}
