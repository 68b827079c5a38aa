//! Reading the request of a model call once.

mod body;
mod future;
mod include_usage;
mod layer;
mod model_call;
mod repeatable;
mod service;
mod wire;

pub use self::{
    body::CallBody, future::ResponseFuture as ModelCallFuture, layer::ModelCallLayer,
    model_call::ModelCall, service::ModelCallService,
};
