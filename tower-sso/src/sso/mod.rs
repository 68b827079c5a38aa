//! The middleware.

mod body;
mod future;
mod layer;
mod service;
#[cfg(test)]
mod tests;

pub use self::body::ResponseBody;
pub use self::future::ResponseFuture;
pub use self::layer::SsoLayer;
pub use self::service::Sso;
