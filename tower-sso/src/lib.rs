#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod answer_future;
mod carry;
#[cfg(feature = "client")]
pub mod client;
mod error;
#[cfg(feature = "opaque")]
#[cfg_attr(
    not(any(feature = "login", test)),
    expect(dead_code, reason = "sign-in needs more of it")
)]
mod form;
mod http_client;
mod identity;
#[cfg(feature = "jwt")]
mod issuers;
#[cfg(feature = "jwt")]
pub mod jwt;
#[cfg(feature = "login")]
pub mod login;
#[cfg(feature = "opaque")]
pub mod opaque;
mod reject;
mod require;
#[cfg(feature = "session")]
pub mod session;
mod sso;
mod token;
#[cfg(feature = "jwt")]
mod verdicts;
mod verify;

pub use self::{
    answer_future::AnswerFuture,
    carry::Carry,
    error::{Reason, VerifyError},
    http_client::{HttpClient, HttpError, HttpFuture},
    identity::{CredentialKind, Identity, IdentityBuilder},
    reject::{InvalidRealm, Reject, RejectHttp, Rejection},
    require::Require,
    sso::{ResponseBody, ResponseFuture, Sso, SsoLayer},
    token::{BearerHeader, ClientAddress, TokenError, TokenSource},
    verify::{Verify, VerifyFuture},
};
#[cfg(feature = "jwt")]
pub use self::{
    issuers::{Issuers, IssuersBuilder, IssuersError},
    verdicts::Verdicts,
};
