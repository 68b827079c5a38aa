//! A real OpenID provider as a process, and the people in it: `alice`, `bob`, `admin` and whoever else is named in lower
//! case.

mod client;
mod desk;
mod server;

pub use client::{AUDIENCE, CLIENT_ID, CLIENT_SECRET, IssuerClient};
pub use desk::{Behaviour, IssuerRequest, RegisteredClient, Told};
pub use server::Issuer;
