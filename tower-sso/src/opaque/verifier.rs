use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use super::pace::{Failure, Pace};
use crate::{
    Identity, Reason, Verdicts, Verify, VerifyError, VerifyFuture,
    jwt::JwtConfig,
    token::MAX_LENGTH,
    verdicts::{Era, TokenHash},
};

/// Verifies tokens by asking their issuer, as often as the [module](crate::opaque) says.
pub(super) struct Verifier<I>(Arc<Inner<I>>);

/// Who can say whose a token is.
pub(super) trait Issuer: Send + Sync + 'static {
    fn config(&self) -> &JwtConfig;

    /// Asks.
    fn find(&self, token: &str) -> impl Future<Output = Result<Identity, Failure>> + Send;
}

struct Inner<I> {
    issuer: I,
    verdicts: Verdicts,
    era: Era,
    pace: Pace,
}

/// How long a refusal is remembered.
const REFUSALS: Duration = Duration::from_secs(10);

// === impl Verifier ===

impl<I: Issuer> Verifier<I> {
    pub(super) fn new(issuer: I, verdicts: Verdicts) -> Self {
        Self(Arc::new(Inner {
            pace: Pace::new(issuer.config().name()),
            issuer,
            verdicts,
            era: Era::new(),
        }))
    }
}

impl<I: Issuer> Verify for Verifier<I> {
    fn verify(&self, token: &str) -> VerifyFuture {
        self.verify_from(token, None)
    }

    fn verify_from(&self, token: &str, address: Option<IpAddr>) -> VerifyFuture {
        if let Err(reason) = check(token) {
            return VerifyFuture::ready(Err(VerifyError::Invalid(reason)));
        }
        let inner = &self.0;
        let (hash, now) = (TokenHash::new(token), inner.issuer.config().now());
        let ask = || {
            let turn = inner.pace.turn(hash, address)?;
            let (inner, token) = (Arc::clone(inner), token.to_owned());
            Ok(async move { turn.ask(inner.issuer.find(&token)).await })
        };
        inner
            .verdicts
            .get_or_ask(hash, &inner.era, now, REFUSALS, ask)
    }
}

impl<I> Clone for Verifier<I> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<I: Issuer> fmt::Debug for Verifier<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("config", self.0.issuer.config())
            .finish_non_exhaustive()
    }
}

/// Whether an issuer can have given it out: access tokens are visible ASCII (RFC 6749 appendix A.12).
fn check(token: &str) -> Result<(), Reason> {
    if token.len() > MAX_LENGTH {
        return Err(Reason::TooLong);
    }
    if token.is_empty() || !token.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Err(Reason::Malformed);
    }
    Ok(())
}
