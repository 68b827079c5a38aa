//! The operator's way in: the administration API on a Unix socket, for whoever runs the gateway on this host.

mod client;
mod listener;
mod serve;

use std::fmt;

use tower_sso::Identity;

pub use self::client::{ClientError, OperatorClient, percent_encoded};
pub use self::listener::{MAX_PATH, OperatorListener, SocketError};
use crate::api::ADMIN;

/// Who says who an operator is: the kernel. No issuer of tokens is called so, since theirs are URLs.
const ISSUER: &str = "unix-socket";

/// Who came by the socket, as the handlers of administration know who asks.
fn operator(uid: u32) -> Identity {
    Identity::builder(ISSUER, uid.to_string())
        .user_id(format!("operator:{uid}"))
        .roles([ADMIN])
        .build()
}

/// The process that has connected to the socket, put into its requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(Option<i32>);

/// Whether somebody came by the socket.
pub(crate) fn is_operator(identity: &Identity) -> bool {
    identity.issuer() == ISSUER
}

// === impl Process ===

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(id) => write!(f, "unix:{id}"),
            None => f.write_str("unix"),
        }
    }
}
