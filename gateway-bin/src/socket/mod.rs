//! People's WebSockets: the upgrade, the handshake on both sides, and the relay of frames between them.

mod accept;
mod credential;
mod end;
mod handshake;
mod owned;
mod place;
mod relay;

pub use self::accept::{UpgradeError, accept};
pub use self::credential::Credential;
pub use self::end::End;
pub use self::handshake::{Sockets, serve};
pub(crate) use self::place::{PlaceTaken, Places};
pub use self::relay::Relay;
