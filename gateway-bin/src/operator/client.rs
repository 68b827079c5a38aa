use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// How long a request may take unless more is given.
const TIME: Duration = Duration::from_secs(10);

/// Longest answer, in bytes.
const MAX_ANSWER: usize = 16 << 20;

/// Asks a gateway by its socket.
#[derive(Debug)]
pub struct OperatorClient {
    path: PathBuf,
    time: Duration,
}

/// Why a request was not answered well.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// There is no socket, or one that a gateway has left that was killed.
    #[error("no gateway listens at {}; is `gateway serve` running?", path.display())]
    NobodyListens {
        /// The path.
        path: PathBuf,
    },
    /// The socket cannot be used.
    #[error("cannot connect to {}: {source}", path.display())]
    Connect {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The gateway refused.
    #[error("{message}")]
    Refused {
        /// What is wrong, for machines.
        code: String,
        /// And in words.
        message: String,
    },
    /// The connection ended before the answer did.
    #[error("connection lost: {0}")]
    Lost(Box<dyn std::error::Error + Send + Sync>),
    /// It is of another version, or no gateway.
    #[error("the answer is not one of a gateway of this version")]
    Answer,
    /// What it answered cannot be written.
    #[error("cannot write: {0}")]
    Write(io::Error),
    /// No answer in time.
    #[error("the gateway did not answer within {} seconds", .0.as_secs())]
    Timeout(Duration),
}

// === impl OperatorClient ===

impl OperatorClient {
    /// A client of the gateway that listens on this socket.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            time: TIME,
        }
    }

    /// Sets how long a request may take from the connection to the end of the answer. Default: 10 seconds.
    #[must_use]
    pub fn within(self, time: Duration) -> Self {
        Self { time, ..self }
    }

    /// Sends one request, and answers what the gateway does; null if that is nothing.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    ///
    /// # Cancel safety
    ///
    /// A request whose future is dropped may be carried out all the same.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, ClientError> {
        let answered = timeout(self.time, self.exchange(method, path, body)).await;
        let (status, answer) = answered.unwrap_or(Err(ClientError::Timeout(self.time)))?;
        if !status.is_success() {
            return Err(refused(status, &answer));
        }
        match answer.is_empty() {
            true => Ok(Value::Null),
            false => serde_json::from_slice(&answer).map_err(|_| ClientError::Answer),
        }
    }

    /// Asks for something large and writes it as it comes; its length. No part of it may take longer than the time that is
    /// set.
    ///
    /// # Errors
    ///
    /// [`ClientError`]; a part may be written then.
    ///
    /// # Cancel safety
    ///
    /// A part may be written if the future is dropped.
    pub async fn download(&self, path: &str, mut into: impl io::Write) -> Result<u64, ClientError> {
        let late = |_| ClientError::Timeout(self.time);
        let answer = timeout(self.time, self.send(Method::GET, path, None));
        let answer = answer.await.map_err(late)??;
        let status = answer.status();
        let mut body = answer.into_body();
        if !status.is_success() {
            let body = Limited::new(body, MAX_ANSWER).collect();
            let answer = timeout(self.time, body).await.map_err(late)?;
            return Err(refused(
                status,
                &answer.map_err(ClientError::Lost)?.to_bytes(),
            ));
        }
        let mut length = 0;
        while let Some(frame) = timeout(self.time, body.frame()).await.map_err(late)? {
            let frame = frame.map_err(|error| ClientError::Lost(error.into()))?;
            if let Some(bytes) = frame.data_ref() {
                into.write_all(bytes).map_err(ClientError::Write)?;
                length += bytes.len() as u64;
            }
        }
        into.flush().map_err(ClientError::Write)?;
        Ok(length)
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let answer = self.send(method, path, body).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        Ok((status, body.map_err(ClientError::Lost)?.to_bytes()))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, ClientError> {
        let lost = |error: hyper::Error| ClientError::Lost(error.into());
        let stream = self.connect().await?;
        let (mut requests, connection) = handshake(TokioIo::new(stream)).await.map_err(lost)?;
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "localhost");
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = request.body(Full::new(Bytes::from(body)));
        let request = request.map_err(|error| ClientError::Lost(error.into()))?;
        requests.send_request(request).await.map_err(lost)
    }

    async fn connect(&self) -> Result<UnixStream, ClientError> {
        // Relative to where the command runs: the message is to say where that is.
        let path = || std::path::absolute(&self.path).unwrap_or_else(|_| self.path.clone());
        let connected = UnixStream::connect(&self.path).await;
        connected.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NobodyListens { path: path() }
            }
            _ => ClientError::Connect {
                path: path(),
                source,
            },
        })
    }
}

fn refused(status: StatusCode, answer: &[u8]) -> ClientError {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let text = |pointer: &str| answer.pointer(pointer).and_then(Value::as_str);
    ClientError::Refused {
        code: text("/error/code").unwrap_or_default().to_owned(),
        message: match text("/error/message") {
            Some(message) => message.to_owned(),
            None => format!("the gateway refuses with {status}"),
        },
    }
}

/// A text as one segment of a path or one value of a query: percent-encoded but for what is unreserved (RFC 3986 §2.3).
#[must_use]
pub fn percent_encoded(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().fold(String::new(), |mut encoded, byte| {
        match is_plain(byte) {
            true => encoded.push(char::from(byte)),
            false => encoded.push_str(&format!("%{byte:02X}")),
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_id_stays_one_segment() {
        assert_eq!(percent_encoded("google|a.b_c-1~"), "google%7Ca.b_c-1~");
        assert_eq!(
            percent_encoded("../x?y#z%20 ü"),
            "..%2Fx%3Fy%23z%2520%20%C3%BC"
        );
    }

    #[tokio::test]
    async fn who_is_not_there_or_does_not_answer_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.sock");
        let client = OperatorClient::new(&path);
        let ask = async || {
            let answer = client.request(Method::GET, "/api/admin/quotas", None).await;
            answer.unwrap_err().to_string()
        };
        let nobody = format!(
            "no gateway listens at {}; is `gateway serve` running?",
            path.display()
        );
        assert_eq!(ask().await, nobody);
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        tokio::time::pause();
        assert_eq!(ask().await, "the gateway did not answer within 10 seconds");
        drop(listener);
        assert_eq!(ask().await, nobody, "left by one that was killed");
    }
}
