//! How do I let people sign in with GitHub, with hyper and nothing else?
//!
//! Whatever is below `/auth` goes to the sign-in service; everything else goes through the layer, which knows from the
//! cookie who is asking.

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::fs;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::{Either, Full};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_sso::client::HyperClient;
use tower_sso::login::{Login, LoginError, Provider, Providers};
use tower_sso::session::{MemoryStore, SealingKeys, SessionCookie, Sessions};
use tower_sso::{HttpClient, Identity, ResponseBody, SsoLayer};

#[cfg(test)]
mod tests;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let github = Provider::github().client(&env::var("CLIENT_ID")?, &env::var("CLIENT_SECRET")?);
    let keys = SealingKeys::new([fs::read(env::var("SEALING_KEY_FILE")?)?])?;
    let service = service(Arc::new(HyperClient::new()?), github, keys)?;

    println!("listening on http://localhost:3000");
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

type Page = Response<Either<Full<Bytes>, ResponseBody<String>>>;

/// Sign-in below `/auth`, and the handler in its layer.
fn service<B: Body<Data: Send> + Send + 'static>(
    client: Arc<dyn HttpClient>,
    provider: Provider,
    keys: SealingKeys,
) -> Result<
    impl Service<Request<B>, Response = Page, Error = Infallible, Future: Send> + Clone,
    LoginError,
> {
    let providers = Providers::new(client, [provider])?;
    let sessions = Sessions::new(Arc::new(MemoryStore::new()), keys.clone());
    let login = Login::new(sessions.clone(), keys, providers, "http://localhost:3000")?;
    let sso = SsoLayer::new(Arc::new(sessions))
        .source(SessionCookie::new())
        .reject_with(login.redirect_to_sign_in());
    let pages = ServiceBuilder::new().layer(sso).service(service_fn(hello));
    let login = login.service();
    Ok(service_fn(move |request: Request<B>| {
        let (login, pages) = (login.clone(), pages.clone());
        async move {
            Ok(if request.uri().path().starts_with("/auth/") {
                login.oneshot(request).await?.map(Either::Left)
            } else {
                pages.oneshot(request).await?.map(Either::Right)
            })
        }
    }))
}

async fn hello<B>(request: Request<B>) -> Result<Response<String>, Infallible> {
    let identity = request.extensions().get::<Arc<Identity>>();
    let user = identity.map_or("nobody", |identity| &**identity.user_id());
    Ok(Response::new(format!("hello, {user}\n")))
}
