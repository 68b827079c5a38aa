//! Listeners: plain hyper servers, with TLS where there is a certificate, that stop when they are told to.

mod answers;
mod certificate;
mod http2;
mod send_timeout;
mod tls;

use std::convert::Infallible;
use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::response::IntoResponse;
use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::{ServiceExt, service_fn};
use tower_service::Service;
use tracing::{debug, warn};

pub use self::certificate::{Certificate, CertificateError};
use self::tls::Begun;
pub use self::tls::Tls;
use crate::api::{ApiError, PeerAddress};
use crate::shutdown::Shutdown;
use crate::telemetry::context::InContext;

/// How long a client may take to send its request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);

/// Most connections of one listener; those beyond are told so at once.
const MAX_CONNECTIONS: usize = 16_384;

/// A connection's place among those that a listener takes; in the extensions of each request. Whoever goes on with the
/// connection after an upgrade keeps it.
#[derive(Clone, Debug)]
pub struct ConnectionPlace(
    #[expect(dead_code, reason = "to have it is what it is for")] Arc<OwnedSemaphorePermit>,
);

/// What answers the requests of a connection, each by a clone, and never fails otherwise than by an answer that says so.
pub trait HttpService:
    Service<
        Request<Incoming>,
        Response = Response<Self::Body>,
        Error = Infallible,
        Future: Send + 'static,
    > + Clone
    + Send
    + 'static
{
    /// Of an answer.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + 'static;
}

impl<S, B> HttpService for S
where
    S: Service<
            Request<Incoming>,
            Response = Response<B>,
            Error = Infallible,
            Future: Send + 'static,
        > + Clone
        + Send
        + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + 'static,
{
    type Body = B;
}

/// The whole answer to a connection too many.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n";

/// Longest pause after an `accept` that failed for want of a descriptor or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Binds a listener.
///
/// # Errors
///
/// The address cannot be bound; the error names it.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
    })
}

/// Serves every connection of `listener` with a clone of `service`. Once `shutdown` has begun each answer is the last one of
/// its connection, so that whoever keeps connections opens the next one elsewhere. At its end no connection is accepted, and
/// those that are open finish what they are at.
pub async fn serve<S>(listener: TcpListener, tls: Option<Tls>, service: S, shutdown: Shutdown)
where
    S: HttpService,
{
    let stop = shutdown.end();
    let connections = TaskTracker::new();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            refused("full");
            // What does not fit into the socket's buffer at once is not worth waiting for. By TLS nothing can be said
            // without a handshake, which is what there is no room for.
            if tls.is_none() {
                let _ = stream.try_write(FULL);
            }
            continue;
        };
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "connection ended before it was served");
            continue;
        }
        let place = ConnectionPlace(Arc::new(place));
        let own = place.clone();
        let service = service
            .clone()
            .map_request(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(PeerAddress(peer));
                request.extensions_mut().insert(own.clone());
                request
            });
        let (tls, shutdown) = (tls.clone(), shutdown.clone());
        connections.spawn(async move {
            let _place = place;
            match tls {
                Some(tls) => serve_tls(stream, &tls, service, shutdown).await,
                None => serve_http1(stream, service, shutdown).await,
            }
        });
    }
    connections.close();
    connections.wait().await;
}

fn refused(reason: &'static str) {
    metrics::counter!("gateway_refusals_total", "plane" => "listener", "reason" => reason)
        .increment(1);
}

async fn serve_tls<S>(stream: TcpStream, tls: &Tls, service: S, shutdown: Shutdown)
where
    S: HttpService,
{
    let stop = shutdown.end();
    let Some(begun) = stop.run_until_cancelled(tls.accept(stream)).await else {
        return;
    };
    match begun {
        Ok(Begun::Tls(stream, true)) => {
            let passed = stream.get_ref().0.passed();
            http2::serve(stream, &passed, InContext::new(service), &shutdown).await;
        }
        Ok(Begun::Tls(stream, false)) => serve_http1(stream, service, shutdown).await,
        Ok(Begun::Clear(stream)) => {
            refused("tls");
            let service = service_fn(async |_| Ok::<_, Infallible>(in_clear()));
            serve_connection(stream, service, stop).await;
        }
        Err(error) => {
            refused("tls");
            debug!(%error, "connection ended in its handshake");
        }
    }
}

/// The answer to whoever comes without TLS where it is spoken.
fn in_clear() -> Response<axum::body::Body> {
    let message = "this port speaks TLS: ask by https://";
    let refusal = ApiError::new(StatusCode::BAD_REQUEST, "tls_required", message);
    let close = HeaderValue::from_static("close");
    ([(CONNECTION, close)], refusal).into_response()
}

async fn serve_http1<I, S>(stream: I, service: S, shutdown: Shutdown)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: HttpService,
{
    let stop = shutdown.end();
    let service = service.map_response(move |response| last_of_its_connection(response, &shutdown));
    serve_connection(stream, InContext::new(service), stop).await;
}

/// Says to whoever keeps connections that this one is not used again, once the gateway ends.
fn last_of_its_connection<B>(mut response: Response<B>, shutdown: &Shutdown) -> Response<B> {
    if shutdown.has_begun() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    response
}

/// Serves one connection by HTTP/1.1 until it ends, or, after `stop`, until it has finished what it is at.
pub(crate) async fn serve_connection<I, S>(stream: I, service: S, stop: CancellationToken)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: HttpService,
{
    let mut builder = Builder::new();
    // A limit on time without a timer would panic.
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    let connection = builder
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "connection ended");
    }
}
