//! A second OpenID provider, of other authors, as a process: it signs in whoever comes, and says whatever a test wants.

mod server;

pub use server::OtherIssuer;
