//! The routes of the API, declared once: for the router, for the log of administrative acts, and for whoever checks them.

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodFilter, on};
use http::Method;

use super::Api;

/// A route of the API.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Route {
    /// Its method.
    pub method: Method,
    /// Its path, with `{names}` of what stands there.
    pub path: &'static str,
    /// Who may ask.
    pub access: Access,
    /// The administrative act that it is, such as `user.disable`.
    pub act: Option<&'static str>,
    pub(super) noted: Noted,
}

/// Who may ask. These are all there are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "whoever checks routes must know them all"
)]
pub enum Access {
    /// Anybody.
    Anybody,
    /// Who is signed in, or has a personal access token with this scope.
    Scope(&'static str),
    /// Who is signed in. Personal access tokens are refused.
    Person,
    /// Who is signed in as an administrator. Personal access tokens are refused.
    Administrator,
}

/// When an act is noted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Noted {
    /// By its handler, in the transaction that changes the rows that it is about.
    WithChange,
    /// Before it, and when it has ended.
    BeforeAndAfter,
}

/// Routes that the same people may ask.
pub(super) struct Routes {
    access: Access,
    declared: Vec<Route>,
    router: Router<Api>,
}

// === impl Routes ===

impl Routes {
    pub(super) fn new(access: Access) -> Self {
        Self {
            access,
            declared: Vec::new(),
            router: Router::new(),
        }
    }

    pub(super) fn get<H: Handler<T, Api>, T: 'static>(
        self,
        path: &'static str,
        handler: H,
    ) -> Self {
        self.on(Method::GET, MethodFilter::GET, path, handler)
    }

    pub(super) fn post<H: Handler<T, Api>, T: 'static>(
        self,
        path: &'static str,
        handler: H,
    ) -> Self {
        self.on(Method::POST, MethodFilter::POST, path, handler)
    }

    pub(super) fn put<H: Handler<T, Api>, T: 'static>(
        self,
        path: &'static str,
        handler: H,
    ) -> Self {
        self.on(Method::PUT, MethodFilter::PUT, path, handler)
    }

    pub(super) fn delete<H: Handler<T, Api>, T: 'static>(
        self,
        path: &'static str,
        handler: H,
    ) -> Self {
        self.on(Method::DELETE, MethodFilter::DELETE, path, handler)
    }

    /// Says that the route before is an administrative act.
    pub(super) fn act(mut self, action: &'static str, noted: Noted) -> Self {
        if let Some(route) = self.declared.last_mut() {
            route.act = Some(action);
            route.noted = noted;
        }
        self
    }

    pub(super) fn declared(&self) -> &[Route] {
        &self.declared
    }

    pub(super) fn into_router(self) -> Router<Api> {
        self.router
    }

    fn on<H: Handler<T, Api>, T: 'static>(
        mut self,
        method: Method,
        filter: MethodFilter,
        path: &'static str,
        handler: H,
    ) -> Self {
        self.declared.push(Route {
            method,
            path,
            access: self.access,
            act: None,
            noted: Noted::BeforeAndAfter,
        });
        self.router = self.router.route(path, on(filter, handler));
        self
    }
}
