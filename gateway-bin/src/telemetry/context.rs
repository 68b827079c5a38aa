//! For whom something is logged.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context as TaskContext, Poll};

use aws_lc_rs::hmac;
use http::HeaderValue;
use tokio::task::futures::TaskLocalFuture;
use tokio::task_local;
use tower_service::Service;

use super::trace::TraceParent;

task_local! {
    static CONTEXT: Context;
}

/// Which connection and which request of it is served, and whose it is. It costs nothing to format until something is
/// logged.
#[derive(Clone)]
pub struct Context {
    connection: u64,
    request: Cell<u128>,
    user: RefCell<Option<Arc<str>>>,
    trace: Cell<Option<TraceParent>>,
}

/// By what a user is known in logs and traces: the same in all of them at all gateways that share a store, and nobody who
/// reads them can tell from it who that is, or try out who it may be.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct UserHash(u64);

/// Serves each request of one connection in a context of its own.
#[derive(Clone, Debug)]
pub struct InContext<S> {
    service: S,
    connection: u64,
}

/// Makes a user's id unknown; without it there are no hashes.
static KEY: OnceLock<hmac::Key> = OnceLock::new();

/// What the ids of this process begin with, and how many there were.
static BEGIN: OnceLock<u64> = OnceLock::new();
static COUNT: AtomicU64 = AtomicU64::new(0);

/// Hashes users' ids under this key from now on; the first one counts.
pub fn set_user_key(secret: &[u8]) {
    let _ = KEY.set(hmac::Key::new(hmac::HMAC_SHA256, secret));
}

/// What is served now.
#[must_use]
pub fn current() -> Option<Context> {
    CONTEXT.try_with(Clone::clone).ok()
}

/// Does `work` in a context, in that of no request where there is none.
pub async fn within<F: Future>(context: Option<Context>, work: F) -> F::Output {
    match context {
        Some(context) => CONTEXT.scope(context, work).await,
        None => work.await,
    }
}

/// The request is known by this id from now on: a proxy has named it so.
pub fn set_request(id: u128) {
    // Outside of requests nobody is told.
    let _ = CONTEXT.try_with(|context| context.request.set(id));
}

/// The request is this user's.
pub fn set_user(user_id: &Arc<str>) {
    let _ = CONTEXT.try_with(|context| *context.user.borrow_mut() = Some(Arc::clone(user_id)));
}

/// What is done from now on is done on behalf of this span.
pub fn set_trace(span: Option<TraceParent>) {
    let _ = CONTEXT.try_with(|context| context.trace.set(span));
}

/// On behalf of which span something is done, if anybody wants to know.
#[must_use]
pub fn trace() -> Option<TraceParent> {
    CONTEXT
        .try_with(|context| context.trace.get())
        .ok()
        .flatten()
}

/// The id of a request as a header has it, if it is one: 32 hexadecimal digits, as nginx makes them.
#[must_use]
pub fn parse_request_id(value: &HeaderValue) -> Option<u128> {
    let text = value.to_str().ok()?;
    let is_id = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

/// An id that this process, and most likely no other, has used for nothing yet.
fn fresh() -> u128 {
    let begin = *BEGIN.get_or_init(|| {
        let mut random = [0; 8];
        // Without randomness nothing else starts either.
        let _ = aws_lc_rs::rand::fill(&mut random);
        u64::from_ne_bytes(random)
    });
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    u128::from(begin) << 64 | u128::from(count)
}

// === impl Context ===

impl Context {
    /// The id of the request.
    #[must_use]
    pub fn request(&self) -> u128 {
        self.request.get()
    }

    /// The connection's number at this gateway.
    #[must_use]
    pub const fn connection(&self) -> u64 {
        self.connection
    }

    /// Whose request it is, where that is known.
    #[must_use]
    pub fn user(&self) -> Option<UserHash> {
        self.user.borrow().as_deref().and_then(UserHash::of)
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("connection", &self.connection)
            .field("request", &self.request)
            .field("user", &self.user())
            .finish()
    }
}

// === impl UserHash ===

impl UserHash {
    /// The hash of a user's id; `None` before there is a key.
    #[must_use]
    pub fn of(user_id: &str) -> Option<Self> {
        let tag = hmac::sign(KEY.get()?, user_id.as_bytes());
        let first = tag.as_ref().first_chunk::<8>()?;
        Some(Self(u64::from_be_bytes(*first)))
    }
}

impl fmt::Display for UserHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for UserHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// === impl InContext ===

impl<S> InContext<S> {
    /// The service of one more connection.
    pub fn new(service: S) -> Self {
        static CONNECTIONS: AtomicU64 = AtomicU64::new(1);
        Self {
            service,
            connection: CONNECTIONS.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl<S: Service<R>, R> Service<R> for InContext<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = TaskLocalFuture<Context, S::Future>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let context = Context {
            connection: self.connection,
            request: Cell::new(fresh()),
            user: RefCell::new(None),
            trace: Cell::new(None),
        };
        // What it does before its future is polled belongs to the request, too.
        let service = &mut self.service;
        let answer = CONTEXT.sync_scope(context.clone(), || {
            let answer = service.call(request);
            (answer, current())
        });
        let (answer, known) = answer;
        CONTEXT.scope(known.unwrap_or(context), answer)
    }
}

#[cfg(test)]
mod tests {
    use tower::{ServiceExt, service_fn};

    use super::*;

    #[tokio::test]
    async fn each_request_has_a_context_of_its_own() {
        set_user_key(b"key");
        let service = service_fn(|user: &'static str| async move {
            set_user(&user.into());
            tokio::task::yield_now().await;
            Ok::<_, std::convert::Infallible>(current().unwrap())
        });
        let one = InContext::new(service);
        let other = InContext::new(service);
        let (alice, bob, hers) = tokio::join!(
            one.clone().oneshot("alice"),
            one.oneshot("bob"),
            other.oneshot("alice")
        );
        let (alice, bob, hers) = (alice.unwrap(), bob.unwrap(), hers.unwrap());
        assert_ne!(alice.request(), bob.request());
        assert_eq!(alice.connection(), bob.connection());
        assert_ne!(alice.connection(), hers.connection());
        assert!(
            alice.user().is_some() && alice.user() == hers.user() && alice.user() != bob.user()
        );
        assert!(current().is_none());
        assert!(!format!("{alice:?}").contains("alice"));
    }

    #[test]
    fn an_id_of_a_request_is_32_digits_and_nothing_else() {
        let parse = |text: &'static str| parse_request_id(&HeaderValue::from_static(text));
        assert_eq!(parse("000000000000000000000000000000ff"), Some(255));
        for text in [
            "",
            "ff",
            "+00000000000000000000000000000ff",
            "0000000000000000000000000000000g",
            "000000000000000000000000000000ff0",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
