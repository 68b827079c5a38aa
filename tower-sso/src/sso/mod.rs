//! The middleware.

mod body;
mod future;
mod layer;
mod service;
#[cfg(test)]
mod tests;

pub use self::{body::ResponseBody, future::ResponseFuture, layer::SsoLayer, service::Sso};
