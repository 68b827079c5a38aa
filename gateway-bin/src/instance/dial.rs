//! Connections to an instance.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::Uri;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, ORIGIN};
use serde::Deserialize;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_websockets::{ClientBuilder, Limits, Message, WebSocketStream};

use super::device::Device;
use crate::clock;
use crate::config::{Instance, InstanceAuth, Secret};
use crate::protocol::{HelloView, PROTOCOL_VERSION};
use crate::telemetry::context;

/// A WebSocket to an instance.
pub type Socket = WebSocketStream<TcpStream>;

/// Largest message of an instance: its own `policy.maxPayload` is 25 MiB, its answers may be a little larger.
const MAX_INSTANCE_MESSAGE: usize = 32 << 20;

/// How long TCP, upgrade and handshake may take together; the instance's own limit for `connect` is 15 s.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Handshakes for people at a time; an instance does one after the other.
const MAX_HANDSHAKES: usize = 8;

/// How long the turn of a handshake may take to come.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(30);

/// Sent for clients without an address of their own, and for those on our own host: the instance refuses loopback
/// addresses there. TEST-NET-1 (RFC 5737) is nobody's.
const NO_ADDRESS: &str = "192.0.2.1";

/// What a person may do in a pool.
const READ_WRITE: &str = "operator.read,operator.write";

/// What a person may do in their own cell: there they answer what their agent asks, and give it the approvals that it
/// needs. Never administer it.
const IN_CELL: &str = "operator.approvals,operator.questions,operator.read,operator.write";

/// What we call ourselves, by id, mode and platform: as a browser does, and as a program.
const BROWSER: [&str; 3] = ["webchat-ui", "webchat", "web"];
const BACKEND: [&str; 3] = ["gateway-client", "backend", "linux"];

/// Dials one instance.
#[derive(Debug)]
pub struct Dialer {
    address: String,
    uri: String,
    sign_in: SignIn,
    /// What a person is allowed.
    scopes: &'static str,
    /// Of the administration channel.
    password: Secret,
    /// Handshakes at a time.
    handshakes: Semaphore,
}

/// How a connection for a person is opened.
#[derive(Debug)]
enum SignIn {
    /// The instance is told by headers who it is for.
    TrustedProxy {
        origin: HeaderValue,
        user_header: HeaderName,
        headers: Vec<(HeaderName, HeaderValue)>,
        device: Arc<Device>,
    },
    /// By the instance's password: it has one person only, and knows nobody by name.
    Password {
        /// The password as HTTP has it.
        bearer: HeaderValue,
        /// Without a key of its own a connection makes no session that the page asks for.
        device: Arc<Device>,
    },
}

/// For whom a connection is opened.
#[derive(Debug)]
#[non_exhaustive]
pub struct Person<'a> {
    /// The name under which the instance knows the user.
    pub user: &'a str,
    /// Where the user's connection comes from.
    pub address: Option<IpAddr>,
    /// Capabilities asked for.
    pub caps: &'a [&'static str],
    /// The client's own name for its connection.
    pub instance_id: Option<&'a str>,
}

/// Why there is no connection.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DialError {
    /// Nobody answers, or not in time.
    #[error("instance is not reachable")]
    Unreachable(#[source] Option<Box<dyn std::error::Error + Send + Sync>>),
    /// The instance is starting.
    #[error("instance is starting")]
    Starting {
        /// When to try again.
        retry_after: Duration,
    },
    /// The instance lets the person in and allows nothing: they have not the role of a slot.
    #[error("instance allows this person nothing")]
    Unbound,
    /// The instance does not want us: its configuration and ours do not fit.
    #[error("instance refused the connection: {0}")]
    Refused(String),
}

/// Bounds what a request or a connection may do.
const SCOPES: HeaderName = HeaderName::from_static("x-openclaw-scopes");

#[derive(Deserialize)]
struct Challenge {
    payload: ChallengePayload,
}

#[derive(Deserialize)]
struct ChallengePayload {
    nonce: String,
}

#[derive(Deserialize)]
struct ConnectResponse {
    ok: bool,
    payload: Option<HelloView>,
    error: Option<ConnectRefusal>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConnectRefusal {
    code: String,
    message: String,
    retry_after_ms: Option<u64>,
}

// === impl Person ===

impl<'a> Person<'a> {
    /// A person without capabilities and of unknown address.
    #[must_use]
    pub fn new(user: &'a str) -> Self {
        Self {
            user,
            address: None,
            caps: &[],
            instance_id: None,
        }
    }
}

// === impl SignIn ===

impl SignIn {
    fn new(instance: &Instance, password: &Secret, device: Arc<Device>) -> Result<Self, String> {
        let sensitive = |value: &str, key: &dyn Fn() -> String| {
            let mut value = HeaderValue::from_str(value).map_err(|_| key())?;
            value.set_sensitive(true);
            Ok::<_, String>(value)
        };
        let InstanceAuth::TrustedProxy {
            user_header,
            headers,
            ..
        } = &instance.auth
        else {
            let bearer = format!("Bearer {}", password.expose());
            let key = || "auth.password: does not fit a header".to_owned();
            return Ok(Self::Password {
                bearer: sensitive(&bearer, &key)?,
                device,
            });
        };
        let header = |name: &str| {
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("auth.headers: `{name}`"))
        };
        let headers = headers
            .iter()
            .map(|(name, value)| {
                let key = || format!("auth.headers.{name}");
                Ok((header(name)?, sensitive(value.expose(), &key)?))
            })
            .collect::<Result<_, String>>()?;
        Ok(Self::TrustedProxy {
            origin: HeaderValue::from_str(&instance.origin).map_err(|_| "origin")?,
            user_header: header(user_header)?,
            headers,
            device,
        })
    }
}

// === impl Dialer ===

impl Dialer {
    /// A dialer for a configured instance.
    ///
    /// # Errors
    ///
    /// The key that cannot be used, and why. [`config::load`](crate::config::load) has refused most of that before.
    pub fn new(instance: &Instance, device: Arc<Device>) -> Result<Self, String> {
        let uri: Uri = instance
            .url
            .parse()
            .map_err(|_| "url: not a URL".to_owned())?;
        let authority = uri.authority().ok_or("url: has no host")?;
        let port = authority.port_u16().unwrap_or(80);
        let (InstanceAuth::TrustedProxy {
            password: Some(password),
            ..
        }
        | InstanceAuth::Password {
            password: Some(password),
            ..
        }) = &instance.auth
        else {
            return Err("auth.password: is missing".to_owned());
        };
        let is_cell = instance.owner().is_some();
        Ok(Self {
            address: format!("{}:{port}", authority.host()),
            uri: format!("ws://{authority}{}", uri.path()),
            sign_in: SignIn::new(instance, password, device)?,
            scopes: if is_cell { IN_CELL } else { READ_WRITE },
            password: password.clone(),
            handshakes: Semaphore::new(MAX_HANDSHAKES),
        })
    }

    /// `host:port` of the instance.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The headers of a request in the name of `user`, who is at `address`; without a user, in nobody's.
    pub(crate) fn headers(
        &self,
        user: Option<&str>,
        address: Option<IpAddr>,
    ) -> Result<HeaderMap, DialError> {
        let mut headers = self.identifying(user, address)?;
        if let Some(trace) = context::trace() {
            trace.put(&mut headers);
        }
        Ok(headers)
    }

    fn identifying(
        &self,
        user: Option<&str>,
        address: Option<IpAddr>,
    ) -> Result<HeaderMap, DialError> {
        let (user_header, ours) = match &self.sign_in {
            SignIn::TrustedProxy {
                user_header,
                headers,
                ..
            } => (user_header, headers),
            // It takes who names an address for a proxy that it does not know.
            SignIn::Password { bearer, .. } => {
                let bearer = user.map(|_| (AUTHORIZATION, bearer.clone()));
                return Ok(bearer.into_iter().collect());
            }
        };
        let address = match address {
            Some(address) if !address.to_canonical().is_loopback() => {
                address.to_canonical().to_string()
            }
            _ => NO_ADDRESS.to_owned(),
        };
        let mut headers: HeaderMap = ours.iter().cloned().collect();
        if let Some(user) = user {
            headers.insert(user_header.clone(), header_value(user)?);
        }
        headers.insert(
            HeaderName::from_static("x-forwarded-for"),
            header_value(&address)?,
        );
        headers.insert(SCOPES, HeaderValue::from_static(READ_WRITE));
        Ok(headers)
    }

    /// Opens a connection on which everything is done in the name of `person`, with no more than they need.
    ///
    /// # Errors
    ///
    /// See [`DialError`]; at the latest after forty seconds, ten of them for the handshake itself.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes what it opened.
    pub async fn connect(&self, person: &Person<'_>) -> Result<(Socket, HelloView), DialError> {
        // A crowd waits here, where nothing runs out, and not in the instance.
        let place = timeout(QUEUE_TIMEOUT, self.handshakes.acquire()).await;
        let _place = place.map_err(|_| DialError::Unreachable(None))?;
        let (socket, hello) = self.handshake_for(person).await?;
        if !hello.may_write() {
            return Err(DialError::Unbound);
        }
        Ok((socket, hello))
    }

    async fn handshake_for(&self, person: &Person<'_>) -> Result<(Socket, HelloView), DialError> {
        let scopes: Vec<&str> = self.scopes.split(',').collect();
        let client = |[id, mode, platform]: [&str; 3]| {
            let mut client = serde_json::json!({
                "id": id, "version": env!("CARGO_PKG_VERSION"), "platform": platform, "mode": mode,
            });
            if let (Some(id), Some(client)) = (person.instance_id, client.as_object_mut()) {
                client.insert("instanceId".to_owned(), id.into());
            }
            client
        };
        match &self.sign_in {
            SignIn::TrustedProxy { origin, device, .. } => {
                let mut headers = self.headers(Some(person.user), person.address)?;
                headers.insert(ORIGIN, origin.clone());
                headers.insert(SCOPES, HeaderValue::from_static(self.scopes));
                let connected = self.handshake(headers, |nonce| {
                    serde_json::json!({
                        "minProtocol": PROTOCOL_VERSION, "maxProtocol": PROTOCOL_VERSION,
                        "client": client(BROWSER),
                        "role": "operator", "scopes": scopes, "caps": person.caps,
                        "device": device.sign(BROWSER, self.scopes, clock::now_ms(), nonce),
                    })
                });
                connected.await
            }
            SignIn::Password { device, .. } => {
                let connected = self.handshake(HeaderMap::new(), |nonce| {
                    serde_json::json!({
                        "minProtocol": PROTOCOL_VERSION, "maxProtocol": PROTOCOL_VERSION,
                        "client": client(BACKEND),
                        "role": "operator", "scopes": scopes, "caps": person.caps,
                        "auth": { "password": self.password.expose() },
                        "device": device.sign(BACKEND, self.scopes, clock::now_ms(), nonce),
                    })
                });
                connected.await
            }
        }
    }

    /// Opens the administration channel: the shared password, no identity.
    ///
    /// # Errors
    ///
    /// See [`DialError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes what it opened.
    pub async fn connect_admin(&self) -> Result<Socket, DialError> {
        let connected = self.handshake_for_admin().await;
        connected.map(|(socket, _)| socket)
    }

    /// What the instance says to the administration channel at its beginning; nothing is left open.
    ///
    /// # Errors
    ///
    /// See [`DialError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes what it opened.
    pub async fn hello_admin(&self) -> Result<HelloView, DialError> {
        let connected = self.handshake_for_admin().await;
        connected.map(|(_, hello)| hello)
    }

    async fn handshake_for_admin(&self) -> Result<(Socket, HelloView), DialError> {
        let connected = self.handshake(HeaderMap::new(), |_| {
            serde_json::json!({
                "minProtocol": PROTOCOL_VERSION, "maxProtocol": PROTOCOL_VERSION,
                "client": {
                    "id": "gateway-client", "version": env!("CARGO_PKG_VERSION"), "platform": "linux", "mode": "backend",
                },
                "role": "operator", "scopes": ["operator.admin", "operator.read", "operator.write"], "caps": [],
                "auth": { "password": self.password.expose() },
            })
        });
        connected.await
    }

    async fn handshake(
        &self,
        mut headers: HeaderMap,
        params: impl Fn(&str) -> serde_json::Value,
    ) -> Result<(Socket, HelloView), DialError> {
        if let Some(trace) = context::trace() {
            trace.put(&mut headers);
        }
        timeout(HANDSHAKE_TIMEOUT, self.try_handshake(headers, params))
            .await
            .unwrap_or(Err(DialError::Unreachable(None)))
    }

    async fn try_handshake(
        &self,
        headers: HeaderMap,
        params: impl Fn(&str) -> serde_json::Value,
    ) -> Result<(Socket, HelloView), DialError> {
        let stream = TcpStream::connect(&self.address)
            .await
            .map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let mut builder = ClientBuilder::new()
            .uri(&self.uri)
            .map_err(unreachable)?
            .limits(Limits::default().max_payload_len(Some(MAX_INSTANCE_MESSAGE)));
        for (name, value) in &headers {
            builder = builder
                .add_header(name.clone(), value.clone())
                .map_err(unreachable)?;
        }
        let (mut socket, _) = builder.connect_on(stream).await.map_err(unreachable)?;

        let challenge: Challenge = read_json(&mut socket).await?;
        let connect = serde_json::json!({
            "type": "req", "id": "connect", "method": "connect", "params": params(&challenge.payload.nonce),
        });
        socket
            .send(Message::text(connect.to_string()))
            .await
            .map_err(unreachable)?;
        let response: ConnectResponse = read_json(&mut socket).await?;
        match (response.ok, response.payload, response.error) {
            (true, Some(hello), _) => Ok((socket, hello)),
            (_, _, Some(error)) if error.code == "UNAVAILABLE" => Err(DialError::Starting {
                retry_after: Duration::from_millis(
                    error.retry_after_ms.unwrap_or(500).clamp(100, 60_000),
                ),
            }),
            (_, _, Some(error)) => Err(DialError::Refused(error.message)),
            _ => Err(DialError::Refused(
                "its answer to connect has no payload".to_owned(),
            )),
        }
    }
}

async fn read_json<T: for<'de> Deserialize<'de>>(socket: &mut Socket) -> Result<T, DialError> {
    loop {
        let message = socket
            .next()
            .await
            .ok_or(DialError::Unreachable(None))?
            .map_err(unreachable)?;
        if let Some(text) = message.as_text() {
            return serde_json::from_str(text).map_err(|_| {
                DialError::Refused("it does not speak protocol version 4".to_owned())
            });
        }
        if let Some((_, reason)) = message.as_close() {
            return Err(DialError::Refused(reason.to_owned()));
        }
    }
}

fn header_value(value: &str) -> Result<HeaderValue, DialError> {
    HeaderValue::from_str(value)
        .map_err(|_| DialError::Refused("the user's name does not fit a header".to_owned()))
}

fn unreachable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> DialError {
    DialError::Unreachable(Some(error.into()))
}

#[cfg(test)]
mod tests;
