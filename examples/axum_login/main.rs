//! How do I let people sign in to my axum server with their browsers?
//!
//! One layer around the pages, which sends whoever is not signed in to `/auth/login`; one service that serves `/auth`;
//! and between them the sessions, in cookies that scripts cannot read.

use std::env;
use std::error::Error;
use std::fs;
use std::sync::Arc;

use axum::response::Html;
use axum::routing::get;
use axum::{Extension, Router};
use tower_sso::client::HyperClient;
use tower_sso::login::{Login, Provider, Providers};
use tower_sso::session::{MemoryStore, SealingKeys, SessionCookie, Sessions};
use tower_sso::{HttpClient, Identity, SsoLayer};

#[cfg(test)]
mod tests;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // A provider that does not answer, and why a sign-in was refused, is told through `tracing`.
    tracing_subscriber::fmt().init();
    let provider = Provider::oidc(&var("ISSUER")?)
        .client(&var("CLIENT_ID")?, &var("CLIENT_SECRET")?)
        .primary(true);
    // 32 random bytes. Servers that share it, and a store, share what browsers keep.
    let keys = SealingKeys::new([fs::read(var("SEALING_KEY_FILE")?)?])?;

    let origin = var("ORIGIN").unwrap_or_else(|_| "http://localhost:3000".to_owned());
    let app = app(Arc::new(HyperClient::new()?), provider, keys, &origin)?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on {origin}");
    Ok(axum::serve(listener, app).await?)
}

fn app(
    client: Arc<dyn HttpClient>,
    provider: Provider,
    keys: SealingKeys,
    origin: &str,
) -> Result<Router, Box<dyn Error>> {
    let providers = Providers::new(client, [provider])?;
    // In memory: everybody signs in again after a restart. Other stores are features.
    let sessions = Sessions::new(Arc::new(MemoryStore::new()), keys.clone())
        .refresh_with(Arc::new(providers.clone()));
    let login = Login::new(sessions.clone(), keys, providers, origin)?;

    let sso = SsoLayer::new(Arc::new(sessions))
        .source(SessionCookie::new())
        .reject_with(login.redirect_to_sign_in());
    Ok(Router::new()
        .route("/", get(hello))
        .layer(sso)
        .route_service("/auth/{*rest}", login.service()))
}

async fn hello(Extension(identity): Extension<Arc<Identity>>) -> Html<String> {
    let name = identity.name().unwrap_or(identity.user_id());
    let name = name.replace('&', "&amp;").replace('<', "&lt;");
    let sign_out = r#"<form method="post" action="/auth/logout"><button>Sign out</button></form>"#;
    Html(format!(
        "<!doctype html><title>Hello</title><p>Hello, {name}</p>{sign_out}"
    ))
}

fn var(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("{name}: {error}"))
}
