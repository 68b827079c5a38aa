#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod body;
#[cfg(all(feature = "fs", unix))]
pub mod fs;
mod future;
mod http;
mod layer;
mod name;
mod policy;
mod resolve;
mod resolve_future;
mod service;
#[cfg(feature = "vault")]
pub mod vault;
mod workspace;

pub use self::{
    body::ResponseBody,
    future::ResponseFuture,
    http::BindHttp,
    layer::WorkspaceLayer,
    name::{DirectoryName, NameError},
    policy::Bind,
    resolve::{ResolveError, WorkspaceResolver},
    resolve_future::ResolveFuture,
    service::BindWorkspace,
    workspace::Workspace,
};
