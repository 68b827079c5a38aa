//! How long what a socket was opened with is good.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Interval, Sleep, interval_at};
use tower_sso::{Identity, VerifyFuture};

use super::end::End;
use crate::clock;
use crate::config::Secret;
use crate::sign_in::{SignIn, scope};

/// How often a session is asked whether it still is, and told whether it was in use. That it was ended is told at once.
const CHECK: Duration = Duration::from_secs(60);

/// How long a socket lives on a credential that does not say when it ends, such as a token of GitHub's: then its issuer has
/// to be asked again, and whoever is still welcome comes back, or renews it before.
const UNSAID: Duration = Duration::from_secs(3_600);

/// What a socket was opened with: it ends at its time, when it is revoked, and when the session that it came from has
/// not been used for too long.
#[derive(Debug)]
pub struct Credential {
    identity: Arc<Identity>,
    sign_in: Option<SignIn>,
    /// Where its owner is.
    address: Option<IpAddr>,
    expiry: Option<Pin<Box<Sleep>>>,
    ended: Option<Waiting<()>>,
    checks: Interval,
    check: Option<Waiting<bool>>,
    active: bool,
}

struct Waiting<T>(Pin<Box<dyn Future<Output = T> + Send>>);

// === impl Credential ===

impl Credential {
    /// A credential that lives as long as `sign_in` says, or to its own time where nobody is asked.
    #[must_use]
    pub fn new(identity: Arc<Identity>, sign_in: Option<SignIn>) -> Self {
        let left = match identity.expires_at() {
            Some(at) => Some(at.duration_since(clock::now()).unwrap_or(Duration::ZERO)),
            None => sign_in.as_ref().map(|_| UNSAID),
        };
        let expiry = left.map(|left| Box::pin(tokio::time::sleep(left)));
        let ended = sign_in
            .as_ref()
            .map(|sign_in| Waiting::new(sign_in.ended(&identity)));
        Self {
            identity,
            sign_in,
            address: None,
            expiry,
            ended,
            checks: interval_at(Instant::now() + CHECK, CHECK),
            check: None,
            active: false,
        }
    }

    /// The same, of somebody who is there: what is to take its place comes from there too.
    #[must_use]
    pub const fn at(mut self, address: Option<IpAddr>) -> Self {
        self.address = address;
        self
    }

    /// Whose it is.
    #[must_use]
    pub const fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// Takes another credential of the same user in its place. `false`, and nothing changes, if it is somebody else's.
    #[must_use]
    pub fn renew(&mut self, identity: Arc<Identity>) -> bool {
        let may_chat = |sign_in: &SignIn| sign_in.allows(&identity, scope::CHAT);
        let same = identity.user_id() == self.identity.user_id()
            && self.sign_in.as_ref().is_none_or(may_chat);
        if same {
            *self = Self::new(identity, self.sign_in.take()).at(self.address);
        }
        same
    }

    /// Verifies what is to take its place: what may stand in a header or in the session cookie. `None` where nobody is
    /// asked.
    #[must_use]
    pub fn verify(&self, token: &Secret) -> Option<VerifyFuture> {
        let sign_in = self.sign_in.as_ref()?;
        Some(sign_in.tokens().verify_from(token.expose(), self.address))
    }

    /// The client has done something.
    pub const fn used(&mut self) {
        self.active = true;
    }

    /// Waits until it is over.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if let Some(expiry) = &mut self.expiry
            && expiry.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(End::Expired);
        }
        if let Some(ended) = &mut self.ended
            && ended.0.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(End::Revoked);
        }
        if let Some(sign_in) = self
            .sign_in
            .as_ref()
            .filter(|_| self.identity.credential_id().is_some())
        {
            while self.checks.poll_tick(cx).is_ready() {
                if self.check.is_none() {
                    let active = std::mem::take(&mut self.active);
                    let asked = sign_in.is_in_force(&self.identity, active);
                    // A store that does not answer ends nobody's socket.
                    self.check = Some(Waiting::new(async { asked.await.unwrap_or(true) }));
                }
            }
        }
        if let Some(check) = &mut self.check
            && let Poll::Ready(still_is) = check.0.as_mut().poll(cx)
        {
            self.check = None;
            if !still_is {
                return Poll::Ready(End::Expired);
            }
        }
        Poll::Pending
    }
}

// === impl Waiting ===

impl<T> Waiting<T> {
    fn new(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Box::pin(future))
    }
}

impl<T> std::fmt::Debug for Waiting<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting").finish_non_exhaustive()
    }
}
