//! OpenClaw's gateway protocol, version 4, as far as a person may use it.
//!
//! Everything that a client sends is parsed once, by strict types, and is written anew for the instance from what
//! was understood. In a pool nothing is forwarded unread; in a person's own cell the parameters of a call are, but for those
//! that say what it begins.

mod cell;
mod client;
mod connect;
mod error;
mod event;
mod events;
mod extended;
mod hello;
mod method;
mod methods;
mod object;
mod params;
mod policy;
mod request;
pub mod slash;
mod view;

pub use self::cell::{CellRequest, parse_cell_request};
pub use self::client::ClientRequest;
pub use self::connect::{Challenge, Connect, ConnectAuth, PROTOCOL_VERSION};
pub use self::error::{ErrorShape, error_response, response};
pub use self::event::{InstanceFrame, Kind, LastShown, Renumber};
pub use self::events::{EVENTS, EventRow, Scope, event_scope};
pub use self::extended::ExtendedChat;
pub use self::hello::{HelloView, hello_ok, hello_ok_of_cell};
pub use self::method::{Answer, METHODS, Method, RENEW, SessionField, StartsRun, find_method};
pub use self::methods::ROWS;
pub use self::policy::{Advertised, Cell, Policy, Pool, Reason, Row, Verdict, find_row, judge};
pub use self::request::{FrameError, Refusal, Request, parse_request};
pub use self::view::{Owner, View};
