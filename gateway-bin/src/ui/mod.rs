//! OpenClaw's own page, for whoever is signed in: the few paths that it is made of, from the instance, and nothing else.
//!
//! The page's socket is the person's own ([`crate::socket`]), its configuration is rewritten so that it opens the person's
//! agent, and what it loads besides is the same for everybody.

mod page;
mod proxy;
mod socket;
mod waiting;

use axum::routing::get;

use crate::api::{Access, Routes};

pub use self::proxy::Pages;
pub use self::socket::page_socket;

/// The routes of the page.
pub(crate) fn routes() -> Routes {
    Routes::new(Access::Person)
        .page("/", get(page::page))
        .page("/chat", get(page::page))
        .page("/chat/{*rest}", get(page::page))
        .page("/new", get(page::page))
        .page("/assets/{*rest}", get(page::file))
        .page("/file-icons/{*rest}", get(page::file))
        .page("/fonts/{*rest}", get(page::file))
        .page("/apple-touch-icon.png", get(page::file))
        .page("/favicon-32.png", get(page::file))
        .page("/favicon.ico", get(page::file))
        .page("/favicon.svg", get(page::file))
        .page("/manifest.webmanifest", get(page::file))
        .page("/sw.js", get(page::file))
        .page("/control-ui-config.json", get(page::configuration))
}
