//! What `gateway dev` puts around the gateway, so that it runs with nothing installed: an OpenID provider, an instance and
//! a model. They speak the real protocols, on loopback only, and say that they are a demo. `gateway serve` reaches none of
//! this.

mod instance;
mod issuer;
mod model;
mod openclaw;

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use axum::Router;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::net::TcpListener;

pub use self::instance::DemoInstance;
pub use self::issuer::{ACCOUNTS, AUDIENCE, CLIENT, Issuer};
pub use self::model::{MODEL, routes as model_routes};
pub use self::openclaw::{OpenClaw, OpenClawError};

/// A listener on loopback, at a free port.
///
/// # Errors
///
/// There is none.
pub async fn listen() -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Serves `routes` until the future is dropped.
pub fn serve(listener: TcpListener, routes: Router) -> impl Future<Output = ()> + Send {
    crate::server::serve(
        listener,
        None,
        tower::util::MapRequest::new(routes, |request: http::Request<hyper::body::Incoming>| {
            request.map(axum::body::Body::new)
        }),
        crate::shutdown::Shutdown::new(),
    )
}

/// A random secret as text.
///
/// # Errors
///
/// The system has no randomness.
pub fn secret() -> io::Result<String> {
    let mut random = [0; 24];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| io::Error::other("no randomness"))?;
    Ok(URL_SAFE_NO_PAD.encode(random))
}
