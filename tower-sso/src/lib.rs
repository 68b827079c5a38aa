#![doc = include_str!("../README.md")]

mod answer;
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

pub use self::answer::AnswerFuture;
pub use self::carry::Carry;
pub use self::error::{Reason, VerifyError};
pub use self::identity::{Identity, IdentityBuilder};
pub use self::reject::{HttpReject, InvalidRealm, Reject, Rejection};
pub use self::require::Require;
pub use self::sso::{ResponseBody, ResponseFuture, Sso, SsoLayer};
pub use self::token::{BearerHeader, TokenError, TokenSource};
pub use self::verify::{Verify, VerifyFuture};
