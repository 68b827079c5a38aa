//! How do I allow each user so many calls a day, with hyper and nothing else?
//!
//! One layer around one handler. The layer sets a call aside before the handler runs and refuses when none is left;
//! the handler says that the call was used.

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tower::{Service, ServiceBuilder};
use tower_quota::{
    Charge, Dimension, Limit, Limits, MemoryStore, QuotaLayer, QuotaStore, Reservation,
    ResponseBody, Window,
};

#[cfg(test)]
mod tests;

/// Whose call it is: what whoever knows the user leaves in the request.
#[derive(Clone)]
struct User(Arc<str>);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let plan = Limits::new([Limit::at_most(Dimension::Calls, Window::Day, 3)])?;
    let service = service(Arc::new(MemoryStore::new(plan)));

    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    loop {
        let (stream, peer) = listener.accept().await?;
        // Here every address is a user. Where people sign in, a layer outside of the quota knows who they are.
        let user = User(peer.ip().to_string().into());
        let service = ServiceBuilder::new()
            .map_request(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(user.clone());
                request
            })
            .service(service.clone());
        let service = TowerToHyperService::new(service);
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

/// The handler in its layer. Clones share the store, so that connections share the counters.
fn service<B: Send + 'static>(
    store: Arc<dyn QuotaStore>,
) -> impl Service<
    Request<B>,
    Response = Response<ResponseBody<String>>,
    Error = Infallible,
    Future: Send,
> + Clone {
    ServiceBuilder::new()
        .layer(QuotaLayer::new(charge, store))
        .service_fn(hello)
}

/// One call of the user. `None` passes without a charge: see what `hello` does then.
fn charge<B>(request: &Request<B>) -> Option<Charge> {
    let User(user) = request.extensions().get()?;
    Some(Charge::new(Arc::clone(user)).exactly(Dimension::Calls, 1))
}

async fn hello<B>(request: Request<B>) -> Result<Response<String>, Infallible> {
    // Nothing is reserved for nobody.
    let Some(reservation) = request.extensions().get::<Reservation>() else {
        let mut response = Response::new("who are you?\n".to_owned());
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        return Ok(response);
    };
    // The call is used. A reservation that is dropped without this, as when a handler fails, is given back.
    if let Err(error) = reservation.settle(reservation.held()).await {
        eprintln!("a call was not counted: {error}");
    }
    Ok(Response::new("hello\n".to_owned()))
}
