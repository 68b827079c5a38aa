//! The handshake of a person's socket: theirs with us, ours with the instance. Neither side's secrets cross.

use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tokio_websockets::{CloseCode, Limits, Message, ServerBuilder, WebSocketStream};
use tower_sso::{Identity, Verify, VerifyError};
use tracing::{debug, info};

use super::credential::Credential;
use super::end::End;
use super::place::Places;
use super::relay::Relay;
use crate::clock;
use crate::environment::{EnvironmentError, Environments, NO_SANDBOX};
use crate::instance::{DialError, Person};
use crate::protocol::{
    Challenge, Connect, ErrorShape, Owner, Policy, error_response, hello_ok, hello_ok_of_cell,
};
use crate::rpc::{Forward, RunCharge};
use crate::shutdown::Shutdown;
use crate::sign_in::{SignIn, scope};
use crate::stack::Parts;
use crate::telemetry::trace::{Role, Span};
use crate::telemetry::{Connecting, Counted, context};

/// Largest message before sign-in, as the instance has it.
const MAX_FIRST_MESSAGE: usize = 64 << 10;

/// Largest message afterwards: the instance's `policy.maxPayload`, less what we add to a frame.
const MAX_MESSAGE: usize = (25 << 20) - 4_096;

/// How long a client may take to send its `connect`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Most messages of a client before its `connect` that are no frames: pings, which are answered.
const MAX_OTHER_MESSAGES: usize = 16;

/// How long a client may take to answer our close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// What sockets are served with.
#[derive(Clone)]
#[non_exhaustive]
pub struct Sockets {
    /// Where people work.
    pub environments: Environments,
    /// What ends what a socket was opened with.
    pub sign_in: SignIn,
    /// Credentials that may stand in `connect`.
    pub verifier: Arc<dyn Verify>,
    /// The layers through which every frame passes.
    pub layers: Parts,
    /// Tells them to go.
    pub shutdown: Shutdown,
    /// The sockets that are open; a server that stops waits for them.
    pub tasks: TaskTracker,
    places: Places,
}

/// Serves an upgraded connection until it ends. `credential` is what the upgrade request was verified by, if it had one;
/// `address` is where the client is.
///
/// # Cancel safety
///
/// Dropping the future closes both connections.
pub async fn serve<C>(
    sockets: Sockets,
    io: C,
    credential: Option<Credential>,
    address: Option<IpAddr>,
) where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let _counted = Counted::new(metrics::gauge!("gateway_connections"));
    let limits = Limits::default().max_payload_len(Some(MAX_FIRST_MESSAGE));
    let client = ServerBuilder::new().limits(limits).serve(io);
    match open(&sockets, client, credential, address).await {
        Ok((mut client, close)) => {
            if let Some(close) = close {
                let _ = timeout(CLOSE_TIMEOUT, client.send(close)).await;
            }
            let _ = timeout(CLOSE_TIMEOUT, client.close()).await;
        }
        Err(ClientGone) => debug!("client left during the handshake"),
    }
}

/// The client ended its connection; there is nobody to answer.
struct ClientGone;

impl From<tokio_websockets::Error> for ClientGone {
    fn from(_: tokio_websockets::Error) -> Self {
        Self
    }
}

type Ended<C> = Result<(WebSocketStream<C>, Option<Message>), ClientGone>;

async fn open<C>(
    sockets: &Sockets,
    mut client: WebSocketStream<C>,
    credential: Option<Credential>,
    address: Option<IpAddr>,
) -> Ended<C>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    // Whoever has not come in until then comes again, elsewhere.
    let leave = sockets.shutdown.wave();
    let challenge = Challenge.frame(&uuid::Uuid::new_v4().to_string(), clock::now_ms());
    client.send(Message::text(challenge)).await?;
    let first = timeout(CONNECT_TIMEOUT, first_message(&mut client));
    let connect = match leave.run_until_cancelled(first).await {
        Some(Ok(message)) => Connect::parse(&message?),
        Some(Err(_)) => {
            return Ok((
                client,
                Some(close(
                    CloseCode::POLICY_VIOLATION,
                    "connect did not come in time",
                )),
            ));
        }
        None => return Ok((client, End::Shutdown.close())),
    };
    let connecting = Connecting::begin();
    let mut span = Span::begin("connect", Role::Server, context::trace());
    if let Some(own) = span.context() {
        context::set_trace(Some(own));
        span.fail("no connection");
    }
    let connect = match connect {
        Ok(connect) => connect,
        Err((id, error)) => {
            return refuse(client, id.as_deref(), &error, CloseCode::POLICY_VIOLATION).await;
        }
    };

    let credential = match credential {
        Some(credential) => credential,
        None => match identify(sockets, &connect, address).await {
            Ok(identity) => Credential::new(identity, Some(sockets.sign_in.clone())),
            Err((error, code)) => return refuse(client, Some(&connect.id), &error, code).await,
        },
    };
    let mut credential = credential.at(address);
    let identity = Arc::clone(credential.identity());
    if !sockets.sign_in.allows(&identity, scope::CHAT) {
        let error = ErrorShape::new("FORBIDDEN", "this key is not for conversations");
        let code = CloseCode::POLICY_VIOLATION;
        return refuse(client, Some(&connect.id), &error, code).await;
    }
    let Some(_place) = sockets.places.take(identity.user_id()) else {
        let error = ErrorShape::unavailable("you have too many connections; close some", 5_000);
        return refuse(
            client,
            Some(&connect.id),
            &error,
            CloseCode::SERVICE_OVERLOAD,
        )
        .await;
    };
    // Whose sign-in has ended makes nothing anew: perhaps they were deleted.
    let ended = poll_fn(|cx| Poll::Ready(credential.poll_end(cx))).await;
    if let Poll::Ready(end) = ended {
        return Ok((client, end.close()));
    }
    let opening = sockets.environments.open(&identity);
    let environment = match leave.run_until_cancelled(opening).await {
        None => return Ok((client, End::Shutdown.close())),
        Some(Ok(environment)) => environment,
        Some(Err(error)) => {
            let (error, code) = environment_refusal(&error);
            return refuse(client, Some(&connect.id), &error, code).await;
        }
    };
    let (workspace, upstream) = (&environment.workspace, &environment.upstream);
    let mut person = Person::new(workspace.name().as_str());
    person.address = address;
    person.caps = &connect.caps;
    person.instance_id = connect.instance_id.as_deref();
    let connected = match upstream.dialer.connect(&person).await {
        // Somebody else's administrator, or a backup, has taken the role away.
        Err(DialError::Unbound) => match environment.bind().await {
            Ok(()) => upstream.dialer.connect(&person).await,
            Err(error) => {
                let (error, code) = environment_refusal(&error);
                return refuse(client, Some(&connect.id), &error, code).await;
            }
        },
        connected => connected,
    };
    let (instance, hello) = match connected {
        Ok(connected) => {
            upstream.health.succeeded();
            connected
        }
        Err(error) => {
            if matches!(error, DialError::Unreachable(_)) {
                upstream.health.failed();
            }
            let (error, code) = dial_refusal(&error);
            return refuse(client, Some(&connect.id), &error, code).await;
        }
    };

    // It took its time until here.
    let ended = poll_fn(|cx| Poll::Ready(credential.poll_end(cx))).await;
    if let Poll::Ready(end) = ended {
        return Ok((client, end.close()));
    }

    let agent: Arc<str> = workspace.slot().unwrap_or_default().into();
    let owner = Owner::new(Arc::clone(&agent), workspace.name().as_str())
        .with_extended(environment.extended_chat());
    client.limits_mut().set_max_payload_len(Some(MAX_MESSAGE));
    let policy = upstream.policy();
    let hello = match policy {
        Policy::Pool => hello_ok(&connect.id, &hello, &owner, MAX_MESSAGE),
        Policy::Cell => hello_ok_of_cell(&connect.id, &hello, &owner, MAX_MESSAGE),
    };
    client.send(Message::text(hello)).await?;
    connecting.opened();
    span.succeed();
    // A cell is called after its person.
    span.text("gateway.instance", || match upstream.is_cell() {
        true => "cell".to_owned(),
        false => upstream.name.to_string(),
    });
    drop(span);
    let _open = upstream.sockets.open();
    info!(agent = &*agent, "socket open");

    let gate = upstream.gate.clone();
    let (queue, outgoing) = mpsc::unbounded_channel();
    let stack = sockets.layers.frames(
        // Only egress can refuse what the page begins all the same.
        RunCharge::new(connect.is_page && environment.uses_egress()),
        Forward::new(queue, gate.clone()),
    );
    let relay = Relay::new(client, instance, stack, outgoing, credential, owner, gate)
        .under(policy)
        .stopped_by(upstream.removed.clone())
        .leaving_on(leave);
    let (client, end) = relay.run().await;
    info!(agent = &*agent, ?end, "socket closed");
    // The relay has told the client.
    Ok((client, None))
}

/// Who opens the socket, as `connect` says.
async fn identify(
    sockets: &Sockets,
    connect: &Connect,
    address: Option<IpAddr>,
) -> Result<Arc<Identity>, (ErrorShape, CloseCode)> {
    let unauthorized = |message: &'static str, detail| {
        metrics::counter!("gateway_refusals_total", "plane" => "ingress", "reason" => "unauthorized").increment(1);
        (
            ErrorShape::new("INVALID_REQUEST", message).detail(detail),
            CloseCode::POLICY_VIOLATION,
        )
    };
    let Some(auth) = &connect.auth else {
        return Err(unauthorized(
            "unauthorized: sign in first",
            "AUTH_TOKEN_MISSING",
        ));
    };
    sockets
        .verifier
        .verify_from(auth.0.expose(), address)
        .await
        .map_err(|error| match error {
            VerifyError::Unavailable => (
                ErrorShape::unavailable("sign-in cannot be checked right now", 2_000),
                CloseCode::SERVICE_OVERLOAD,
            ),
            _ => unauthorized("unauthorized", "AUTH_UNAUTHORIZED"),
        })
}

fn environment_refusal(error: &EnvironmentError) -> (ErrorShape, CloseCode) {
    match error {
        EnvironmentError::Cell(error) => {
            let after = error.retry_after().unwrap_or_default().as_millis();
            let after = u64::try_from(after).unwrap_or(u64::MAX);
            (
                ErrorShape::unavailable(error.sentence(), after),
                CloseCode::SERVICE_OVERLOAD,
            )
        }
        EnvironmentError::Unavailable { .. } | EnvironmentError::Away(_) => (
            ErrorShape::unavailable("your workspace is not available right now", 2_000),
            CloseCode::SERVICE_OVERLOAD,
        ),
        EnvironmentError::Full => (
            ErrorShape::unavailable("all places here are taken; tell your administrator", 60_000),
            CloseCode::SERVICE_OVERLOAD,
        ),
        EnvironmentError::NoSandbox => (
            ErrorShape::unavailable(NO_SANDBOX, 60_000),
            CloseCode::SERVICE_OVERLOAD,
        ),
        EnvironmentError::InvalidUser { .. } => (
            ErrorShape::new("FORBIDDEN", "your user id cannot have a workspace here"),
            CloseCode::POLICY_VIOLATION,
        ),
    }
}

fn dial_refusal(error: &DialError) -> (ErrorShape, CloseCode) {
    let wait = match error {
        DialError::Starting { retry_after } => {
            u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX)
        }
        DialError::Unreachable(_) => 2_000,
        DialError::Refused(_) | DialError::Unbound => 15_000,
    };
    tracing::warn!(%error, "instance did not take a connection");
    (
        ErrorShape::unavailable("the assistant's gateway is not reachable right now", wait),
        CloseCode::SERVICE_OVERLOAD,
    )
}

/// Answers the request `id`, where it is known, and ends the socket.
async fn refuse<C>(
    mut client: WebSocketStream<C>,
    id: Option<&str>,
    error: &ErrorShape,
    code: CloseCode,
) -> Ended<C>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    match id {
        Some(id) => {
            client
                .send(Message::text(error_response(id, error)))
                .await?;
            let reason = error
                .message
                .get(..error.message.len().min(100))
                .unwrap_or("");
            Ok((client, Some(close(code, reason))))
        }
        None => Ok((
            client,
            Some(close(
                CloseCode::INVALID_FRAME_PAYLOAD_DATA,
                "invalid frame",
            )),
        )),
    }
}

async fn first_message<C>(client: &mut WebSocketStream<C>) -> Result<String, ClientGone>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    for _ in 0..MAX_OTHER_MESSAGES {
        let message = client.next().await.ok_or(ClientGone)??;
        if let Some(text) = message.as_text() {
            return Ok(text.to_owned());
        }
        if message.is_close() {
            return Err(ClientGone);
        }
        if message.is_binary() {
            break;
        }
    }
    Ok(String::new())
}

fn close(code: CloseCode, reason: &str) -> Message {
    Message::close(Some(code), reason)
}

// === impl Sockets ===

impl Sockets {
    /// What sockets need; `shutdown` tells them to go.
    #[must_use]
    pub fn new(
        environments: Environments,
        sign_in: SignIn,
        verifier: Arc<dyn Verify>,
        layers: Parts,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            environments,
            sign_in,
            verifier,
            layers,
            shutdown,
            tasks: TaskTracker::new(),
            places: Places::default(),
        }
    }

    /// Whoever has a socket.
    pub(crate) fn people(&self) -> Vec<Arc<str>> {
        self.places.people()
    }
}

impl std::fmt::Debug for Sockets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sockets").finish_non_exhaustive()
    }
}
