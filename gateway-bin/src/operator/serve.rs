use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tower_sso::Identity;
use tracing::{debug, warn};

use super::listener::OperatorListener;
use super::{Process, operator};
use crate::server::{HttpService, serve_connection};
use crate::telemetry::context::InContext;

/// The superuser.
const ROOT: u32 = 0;

/// The whole answer to who is neither us nor root.
const STRANGER: &[u8] = b"HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Longest pause after an `accept` that failed for want of a descriptor or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

// === impl OperatorListener ===

impl OperatorListener {
    /// Serves every connection with a clone of `service`, which finds an [`Identity`] with the role of administrators in
    /// each request's extensions. After `stop` the socket is gone, and connections that are open finish what they are
    /// at.
    pub async fn serve(self, service: impl HttpService, stop: CancellationToken) {
        let connections = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = stop.cancelled() => break,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(%error, "connection was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some((identity, process)) = admit(&stream) else {
                // What does not fit into the socket's buffer at once is not worth waiting for.
                let _ = stream.try_write(STRANGER);
                continue;
            };
            let identity = Arc::new(identity);
            let identified = service
                .clone()
                .map_request(move |mut request: Request<Incoming>| {
                    request.extensions_mut().insert(Arc::clone(&identity));
                    request.extensions_mut().insert(process);
                    request
                });
            connections.spawn(serve_connection(
                stream,
                InContext::new(identified),
                stop.clone(),
            ));
        }
        drop(self);
        connections.close();
        connections.wait().await;
    }
}

/// Who has connected, if it is us or root. The mode of the socket lets nobody else connect, unless somebody has changed
/// it.
fn admit(stream: &UnixStream) -> Option<(Identity, Process)> {
    let (uid, process) = match stream.peer_cred() {
        Ok(peer) => (peer.uid(), Process(peer.pid())),
        Err(error) => {
            debug!(%error, "connection ended before it was served");
            return None;
        }
    };
    if uid != ROOT && uid != rustix::process::geteuid().as_raw() {
        warn!(uid, "somebody else came to the operator's socket");
        return None;
    }
    Some((operator(uid), process))
}
