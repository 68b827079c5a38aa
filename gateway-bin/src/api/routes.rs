//! The routes of the API, declared once: for the router, for the log of administrative acts, for the document that
//! describes them, and for whoever checks them.

use std::sync::Arc;

use axum::Router;
use axum::routing::MethodRouter;
use http::Method;
use utoipa::openapi::path::{HttpMethod, Operation};
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{PathItem, RefOr};
use utoipa_axum::router::UtoipaMethodRouter;

use super::Api;

/// A route of the public listener.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Route {
    /// Its method.
    pub method: Method,
    /// Its path, with `{names}` of what stands there, and `{*names}` of what may have slashes.
    pub path: Arc<str>,
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
pub(crate) struct Routes {
    access: Access,
    declared: Vec<Declared>,
    schemas: Vec<(String, RefOr<Schema>)>,
    router: Router<Api>,
}

struct Declared {
    route: Route,
    /// None of a page: it is nothing for programs.
    described: Option<(HttpMethod, Operation)>,
}

/// A route, and what its handler says of it.
pub(super) struct Described {
    pub(super) route: Route,
    pub(super) method: HttpMethod,
    pub(super) operation: Operation,
}

// === impl Routes ===

impl Routes {
    pub(crate) fn new(access: Access) -> Self {
        Self {
            access,
            declared: Vec::new(),
            schemas: Vec::new(),
            router: Router::new(),
        }
    }

    /// Adds `routes!(handler)`: its method, its path and its description stand at the handler.
    pub(crate) fn add(mut self, (schemas, paths, handler): UtoipaMethodRouter<Api>) -> Self {
        for (path, item) in paths.paths {
            let path: Arc<str> = path.into();
            for (method, shown, operation) in operations(item) {
                self.declare(method, &path, Some((shown, operation)));
            }
            self.router = self.router.route(&path, handler.clone());
        }
        self.schemas.extend(schemas);
        self
    }

    /// Adds a page, or a file of one, which `handler` has for GET.
    pub(crate) fn page(mut self, path: &'static str, handler: MethodRouter<Api>) -> Self {
        self.declare(Method::GET, &path.into(), None);
        self.router = self.router.route(path, handler);
        self
    }

    fn declare(
        &mut self,
        method: Method,
        path: &Arc<str>,
        described: Option<(HttpMethod, Operation)>,
    ) {
        let route = Route {
            method,
            path: Arc::clone(path),
            access: self.access,
            act: None,
            noted: Noted::BeforeAndAfter,
        };
        self.declared.push(Declared { route, described });
    }

    /// Says that the route before is an administrative act.
    pub(super) fn act(mut self, action: &'static str, noted: Noted) -> Self {
        if let Some(Declared { route, .. }) = self.declared.last_mut() {
            route.act = Some(action);
            route.noted = noted;
        }
        self
    }

    pub(super) fn declared(&self) -> impl Iterator<Item = &Route> {
        self.declared.iter().map(|declared| &declared.route)
    }

    pub(super) fn described(self) -> (Vec<Described>, Vec<(String, RefOr<Schema>)>) {
        let described = self.declared.into_iter().filter_map(|declared| {
            let (method, operation) = declared.described?;
            Some(Described {
                route: declared.route,
                method,
                operation,
            })
        });
        (described.collect(), self.schemas)
    }

    pub(super) fn into_router(self) -> Router<Api> {
        self.router
    }
}

fn operations(item: PathItem) -> impl Iterator<Item = (Method, HttpMethod, Operation)> {
    let operations = [
        (Method::GET, HttpMethod::Get, item.get),
        (Method::PUT, HttpMethod::Put, item.put),
        (Method::POST, HttpMethod::Post, item.post),
        (Method::DELETE, HttpMethod::Delete, item.delete),
        (Method::OPTIONS, HttpMethod::Options, item.options),
        (Method::HEAD, HttpMethod::Head, item.head),
        (Method::PATCH, HttpMethod::Patch, item.patch),
        (Method::TRACE, HttpMethod::Trace, item.trace),
    ];
    let there = |(method, shown, operation): (_, _, Option<_>)| Some((method, shown, operation?));
    operations.into_iter().filter_map(there)
}
