use std::{error::Error, fmt};

use bytes::Bytes;
use http::{Request, Response};

use crate::AnswerFuture;

/// What an [`HttpClient`] answers with: a whole response.
pub type HttpFuture = AnswerFuture<Result<Response<Bytes>, HttpError>>;

/// Asks an issuer something over HTTP.
///
/// This crate says what to ask, of whom and when, and asks only `https` addresses, or `http` ones of
/// the machine itself if the issuer is there. The implementation must
///
/// - send the request as it is, with certificates checked;
/// - follow no redirect: a response with any status is an answer;
/// - stop reading, and fail, beyond `limit` bytes of body;
/// - give up after some seconds (this crate does after 10).
///
/// A closure is one too.
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use tower_sso::{HttpClient, HttpError, HttpFuture};
///
/// async fn send(request: Request<Bytes>, limit: usize) -> Result<Response<Bytes>, HttpError> {
///     # let _ = (request, limit);
///     Err(HttpError::new("no route to the issuer"))
/// }
///
/// let client = |request: Request<Bytes>, limit: usize| HttpFuture::boxed(send(request, limit));
/// # fn is_client(_: impl HttpClient) {}
/// # is_client(client);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an HTTP client",
    note = "a closure `Fn(http::Request<Bytes>, usize) -> HttpFuture` that is `Send + Sync + 'static` is; so is \
            `tower_sso::client::HyperClient`, with the feature `client`"
)]
pub trait HttpClient: Send + Sync + 'static {
    /// Sends the request and reads at most `limit` bytes of the answer's body.
    ///
    /// # Errors
    ///
    /// The future resolves to [`HttpError`] if the whole answer cannot be had.
    fn send(&self, request: Request<Bytes>, limit: usize) -> HttpFuture;
}

/// An answer cannot be had. The message is logged, so it must hold no secret.
#[derive(Debug)]
pub struct HttpError(Box<dyn Error + Send + Sync>);

// === impl HttpClient ===

impl<F> HttpClient for F
where
    F: Fn(Request<Bytes>, usize) -> HttpFuture + Send + Sync + 'static,
{
    fn send(&self, request: Request<Bytes>, limit: usize) -> HttpFuture {
        self(request, limit)
    }
}

// === impl HttpError ===

impl HttpError {
    /// An error with this cause.
    pub fn new(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the answer cannot be had")
    }
}

impl Error for HttpError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}
