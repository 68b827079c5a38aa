//! Reading the request of a model call once.

mod body;
mod call;
mod future;
mod layer;
mod service;

pub use self::{
    body::CallBody, call::ModelCall, future::ResponseFuture as ModelCallFuture,
    layer::ModelCallLayer, service::ModelCallService,
};
