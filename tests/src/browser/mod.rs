//! What a sign-in needs of a browser: cookies, redirects, a few forms, and the headers that say who asks.

mod client;
mod jar;
mod page;
mod url;

pub use client::Browser;
