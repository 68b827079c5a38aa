#![doc = include_str!("../README.md")]

mod answer_future;
mod carry;
mod error;
mod identity;
#[cfg(feature = "jwt")]
pub mod jwt;
mod reject;
mod require;
mod sso;
mod token;
mod verify;

pub use self::{
    answer_future::AnswerFuture,
    carry::Carry,
    error::{Reason, VerifyError},
    identity::{Identity, IdentityBuilder},
    reject::{InvalidRealm, Reject, RejectHttp, Rejection},
    require::Require,
    sso::{ResponseBody, ResponseFuture, Sso, SsoLayer},
    token::{BearerHeader, TokenError, TokenSource},
    verify::{Verify, VerifyFuture},
};
