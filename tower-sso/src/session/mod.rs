//! Sessions of browsers and personal access tokens, kept by a store that any number of servers share.
//!
//! # What is where
//!
//! A browser has a cookie with a sealed secret of 32 random bytes, and nothing else. The [`Store`] has a
//! [`Record`] under the SHA-256 of the secret, and in it, sealed, who the user is and the tokens of the
//! issuer. So who reads the store can sign in as nobody, and who changes a cookie is refused without a
//! question to the store. What the store has in clear is bound to what is sealed: whoever writes to the
//! store can end credentials and lengthen their lives, but make none another user's.
//!
//! # How long a session lives
//!
//! As long as it is used at least every 12 hours, and 7 days at most ([`Sessions::idle`],
//! [`Sessions::lifetime`]); until it is ended ([`Sessions::end`]); and, where a
//! [`Refresh`] is set, until the issuer refuses to go on with it. An issuer that does not answer ends
//! nothing.
//!
//! # Several servers
//!
//! Give them one store and the same [`SealingKeys`]. What ends at one ends at all within half a second:
//! [`Endings`] hears of it. A session whose access token is over is refreshed once, however many
//! requests at however many servers need it.
//!
//! # When the store is down
//!
//! Whoever was verified in the last minute goes on; others are told that it cannot be decided now
//! ([`VerifyError::Unavailable`](crate::VerifyError::Unavailable)), and are not signed out.

mod access_tokens;
mod content;
mod cookie;
mod endings;
#[cfg(feature = "laws")]
pub mod laws;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
mod record;
#[cfg(feature = "redis")]
mod redis;
mod refresh;
mod seal;
mod sessions;
#[cfg(feature = "sqlite")]
mod sqlite;
mod store;
mod tokens;
mod turns;

use self::content::Content;
#[cfg(feature = "postgres")]
pub use self::postgres::PostgresStore;
#[cfg(feature = "redis")]
pub use self::redis::RedisStore;
#[cfg(feature = "sqlite")]
pub use self::sqlite::SqliteStore;
pub use self::{
    access_tokens::{AccessToken, AccessTokens, IssueError},
    cookie::{BearerOrCookie, SessionCookie, Subprotocol},
    endings::{Endings, Guarded},
    memory::MemoryStore,
    record::{Key, Kind, Record},
    refresh::{Refresh, RefreshError, RefreshFuture, Refreshed},
    seal::{SealingKeys, SealingKeysError},
    sessions::{Opened, Session, Sessions},
    store::{End, Ended, Lease, Store, StoreError, StoreFuture},
    tokens::IssuerTokens,
};

/// Random bytes for a secret.
fn random<const N: usize>() -> Result<[u8; N], StoreError> {
    let mut bytes = [0; N];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(_) => Err(StoreError::new("there is no randomness")),
    }
}
