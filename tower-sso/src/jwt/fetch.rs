use std::{error::Error, fmt};

use bytes::Bytes;
use http::Uri;

use crate::AnswerFuture;

/// What a [`Fetch`] answers with: the body of a response with status 200.
pub type FetchFuture = AnswerFuture<Result<Bytes, FetchError>>;

/// Gets a document of an issuer: its discovery document or its keys.
///
/// The verifier says what to get and when, and asks only for `https` addresses, or `http` ones of
/// the machine itself if the issuer is there. The implementation must
///
/// - send a GET without credentials and with certificates checked;
/// - follow no redirect: anything but status 200 is an error;
/// - stop reading, and fail, beyond `limit` bytes of body;
/// - give up after some seconds (the verifier does after 10).
///
/// A closure is one too.
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use http::Uri;
/// use tower_sso::jwt::{Fetch, FetchError, FetchFuture};
///
/// async fn get(uri: Uri, limit: usize) -> Result<Bytes, FetchError> {
///     # let _ = (uri, limit);
///     Err(FetchError::new("no route to the issuer"))
/// }
///
/// let fetch = |uri: &Uri, limit: usize| FetchFuture::boxed(get(uri.clone(), limit));
/// # fn is_fetch(_: impl Fetch) {}
/// # is_fetch(fetch);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot fetch documents",
    note = "a closure `Fn(&Uri, usize) -> FetchFuture` that is `Send + Sync + 'static` can"
)]
pub trait Fetch: Send + Sync + 'static {
    /// Gets the document at the address, of at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// The future resolves to [`FetchError`] if the whole document cannot be had.
    fn fetch(&self, uri: &Uri, limit: usize) -> FetchFuture;
}

/// A document cannot be had. The message is logged, so it must hold no secret.
#[derive(Debug)]
pub struct FetchError(Box<dyn Error + Send + Sync>);

// === impl Fetch ===

impl<F> Fetch for F
where
    F: Fn(&Uri, usize) -> FetchFuture + Send + Sync + 'static,
{
    fn fetch(&self, uri: &Uri, limit: usize) -> FetchFuture {
        self(uri, limit)
    }
}

// === impl FetchError ===

impl FetchError {
    /// An error with this cause.
    pub fn new(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the document cannot be fetched")
    }
}

impl Error for FetchError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}
