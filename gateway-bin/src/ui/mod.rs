//! OpenClaw's own page, for whoever is signed in: the few paths that it is made of, from the instance, and nothing else.
//!
//! The page's socket is the person's own ([`crate::socket`]), its configuration is rewritten so that it opens the person's
//! agent, and what it loads besides is the same for everybody.

mod page;
mod proxy;
mod socket;
mod waiting;

use axum::Router;
use axum::routing::get;
use tower_sso::login::RedirectToSignIn;

use crate::api::Api;
use crate::stack::Parts;

pub use self::proxy::Pages;
pub use self::socket::page_socket;

/// The routes of the page. Whoever is not signed in is sent to where they can.
pub fn routes(layers: &Parts, redirect: RedirectToSignIn) -> Router<Api> {
    Router::new()
        .route("/", get(page::page))
        .route("/chat", get(page::page))
        .route("/chat/{*rest}", get(page::page))
        .route("/new", get(page::page))
        .route("/assets/{*rest}", get(page::file))
        .route("/file-icons/{*rest}", get(page::file))
        .route("/fonts/{*rest}", get(page::file))
        .route("/apple-touch-icon.png", get(page::file))
        .route("/favicon-32.png", get(page::file))
        .route("/favicon.ico", get(page::file))
        .route("/favicon.svg", get(page::file))
        .route("/manifest.webmanifest", get(page::file))
        .route("/sw.js", get(page::file))
        .route("/control-ui-config.json", get(page::configuration))
        .layer(layers.sign_in().reject_with(redirect))
}
