use std::{
    convert::Infallible,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, request::Parts};
use http_body::Body;
use http_body_util::Full;
use tower_service::Service;

use super::{
    failure::Failure,
    future::ResponseFuture,
    login::Login,
    page::{Answer, fail, page},
};
use crate::AnswerFuture;

/// Serves sign-in over HTTP: with hyper as it is, with axum as a `route_service`, a fallback, or nested.
///
/// Paths are below [`Login::base`]; whatever else comes is answered with 404. Cheap to clone.
///
/// | route | what it does |
/// | --- | --- |
/// | `GET login?provider=&return_to=` | begins a sign-in; of several providers with none named, a page to choose |
/// | `GET callback` | ends it: where the provider sends the browser back |
/// | `POST logout` | signs out, here and at the provider |
/// | `GET signed-out` | a page that says so |
/// | `POST backchannel-logout` | a provider says that somebody signed out |
#[derive(Clone)]
pub struct LoginService {
    login: Arc<Login>,
    nested: bool,
}

/// What a request is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Route {
    Login,
    Callback,
    Logout,
    SignedOut,
    BackchannelLogout,
}

// === impl LoginService ===

impl LoginService {
    pub(super) fn new(login: Login) -> Self {
        Self {
            login: Arc::new(login),
            nested: false,
        }
    }

    /// Expects paths without [`Login::base`], as axum's `nest_service` gives them.
    #[must_use]
    pub fn nested(mut self) -> Self {
        self.nested = true;
        self
    }

    fn route(&self, path: &str) -> Option<Route> {
        let path = if self.nested {
            path
        } else {
            path.strip_prefix(&*self.login.base)?
        };
        match path {
            "/login" => Some(Route::Login),
            "/callback" => Some(Route::Callback),
            "/logout" => Some(Route::Logout),
            "/signed-out" => Some(Route::SignedOut),
            "/backchannel-logout" => Some(Route::BackchannelLogout),
            _ => None,
        }
    }

    fn answer<B>(&self, parts: Parts, body: B) -> AnswerFuture<Answer>
    where
        B: Body + Send + 'static,
        B::Data: Send,
    {
        let login = Arc::clone(&self.login);
        let failed = |failure| {
            let again = self.login.login_path(None, None);
            AnswerFuture::ready(fail(failure, &parts.headers, again))
        };
        let Some(route) = self.route(parts.uri.path()) else {
            return failed(Failure::NotFound);
        };
        match (route, &parts.method) {
            (Route::Login, &Method::GET | &Method::HEAD) => {
                AnswerFuture::boxed(async move { login.begin(&parts).await })
            }
            // A HEAD must change nothing, and a callback is good for one time.
            (Route::Callback, &Method::GET) => {
                AnswerFuture::boxed(async move { login.call_back(&parts).await })
            }
            (Route::Logout, &Method::POST) => {
                AnswerFuture::boxed(async move { login.log_out(&parts).await })
            }
            (Route::SignedOut, &Method::GET | &Method::HEAD) => {
                AnswerFuture::ready(self.login.say_signed_out())
            }
            (Route::BackchannelLogout, &Method::POST) => {
                AnswerFuture::boxed(async move { login.back_channel(&parts, body).await })
            }
            (Route::Login | Route::SignedOut, _) => failed(Failure::Method("GET, HEAD")),
            (Route::Callback, _) => failed(Failure::Method("GET")),
            (Route::Logout | Route::BackchannelLogout, _) => failed(Failure::Method("POST")),
        }
    }
}

impl<B> Service<Request<B>> for LoginService
where
    B: Body + Send + 'static,
    B::Data: Send,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (parts, body) = request.into_parts();
        let is_head = parts.method == Method::HEAD;
        ResponseFuture::new(self.answer(parts, body), is_head)
    }
}

impl fmt::Debug for LoginService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginService")
            .field("login", &self.login)
            .finish_non_exhaustive()
    }
}

// === impl Login ===

impl Login {
    fn say_signed_out(&self) -> Answer {
        let link = super::page::Link {
            address: self.login_path(None, None),
            text: "Sign in".to_owned(),
        };
        page(StatusCode::OK, "Signed out", "You are signed out.", &[link])
    }
}
