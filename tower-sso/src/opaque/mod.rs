//! Verifiers for opaque tokens: those that only their issuer can read.
//!
//! [`Introspection`] asks any issuer that has an endpoint for it (RFC 7662), [`GitHub`] asks GitHub.
//! There is none for a userinfo endpoint of OpenID Connect alone: it answers about the token of any client
//! of the issuer's, so that whoever gets somebody's token for another application could use it here.
//!
//! - A verdict is remembered for a minute, and never past the token's expiry; a refusal for ten seconds. Any
//!   number of requests with one token ask once.
//! - At most 64 questions are asked at a time; about a thousand wait.
//! - Refused tokens cost an issuer no more than 16 questions for each address in ten seconds, and those that are under
//!   way by then; further unknown tokens from there are [`Unavailable`](crate::VerifyError::Unavailable) meanwhile. What is
//!   remembered goes on to be verified. It takes a server that tells addresses: [`ClientAddress`](crate::ClientAddress).
//! - When an issuer fails, it is asked again after a second, and at most half a minute, by one request; until
//!   it is back, tokens that are not remembered are [`Unavailable`](crate::VerifyError::Unavailable).
//! - A token that the issuer says nothing about does not make it count as failed: one person's token keeps
//!   nobody else out.

mod ask;
mod github;
mod introspection;
mod pace;
mod profiles;
mod refusals;
mod timestamp;
mod verifier;

pub use self::{github::GitHub, introspection::Introspection};
#[cfg(feature = "login")]
pub(crate) use self::{pace::Failure, profiles::Profiles};
