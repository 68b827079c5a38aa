//! A real OpenID provider as a process, and the people in it: `alice`, `bob` and `admin`.

mod client;
mod server;

pub use client::{AUDIENCE, CLIENT_ID, CLIENT_SECRET, IssuerClient};
pub use server::Issuer;
