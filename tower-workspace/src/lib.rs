#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod body;
#[cfg(all(feature = "fs", unix))]
#[cfg_attr(docsrs, doc(cfg(feature = "fs")))]
pub mod fs;
mod future;
mod http;
mod layer;
mod name;
mod policy;
mod resolve;
mod service;
mod workspace;

pub use self::body::ResponseBody;
pub use self::future::ResponseFuture;
pub use self::http::BindHttp;
pub use self::layer::WorkspaceLayer;
pub use self::name::{DirectoryName, NameError};
pub use self::policy::Bind;
pub use self::resolve::{ResolveError, ResolveFuture, WorkspaceResolver};
pub use self::service::BindWorkspace;
pub use self::workspace::Workspace;
