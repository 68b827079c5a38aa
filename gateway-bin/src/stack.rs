//! The four layers, stacked: once for request frames, once for runs over HTTP, once for model calls, once for the
//! API.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Extensions, Request, Response};
use http_body::Body;
use tower::ServiceBuilder;
use tower_quota::{OnStoreFailure, QuotaLayer, QuotaStore};
use tower_service::Service;
use tower_sso::session::BearerOrCookie;
use tower_sso::{Identity, SsoLayer, Verify};
use tower_usage::llm::{ModelCallLayer, ModelMeter};
use tower_usage::{Prices, Sink, UsageLayer};
use tower_workspace::{BindHttp, WorkspaceLayer, WorkspaceResolver};

use crate::config::ProviderKind;
use crate::egress::{
    BindModelCall, DenyModelCall, ForwardCall, IsDisabled, KeySource, ModelCallCharge,
    RefuseDisabled, RejectModelCall, RunPrepared, attribute,
};
use crate::openai::{BindRun, DenyRun, ForwardRun, RunCall};
use crate::rpc::{BindFrame, DenyFrame, Forward, RpcRequest, RpcResponse, RunCharge, RunMeter};

/// How long the answer to a client that left is read on, so that it is metered to the token.
const DRAIN_TIME: Duration = Duration::from_secs(120);

/// And how much of it.
const DRAIN_BYTES: usize = 16 << 20;

/// What the layers work with.
#[derive(Clone)]
pub struct Parts {
    /// Tokens of people.
    pub tokens: Arc<dyn Verify>,
    /// Virtual keys of instances.
    pub virtual_keys: Arc<dyn Verify>,
    /// Whose virtual keys are good for nothing now.
    pub is_disabled: IsDisabled,
    /// Workspaces of people.
    pub workspaces: Arc<dyn WorkspaceResolver>,
    /// Counters.
    pub quota: Arc<dyn QuotaStore>,
    /// Whether a store that does not answer refuses.
    pub on_store_failure: OnStoreFailure,
    /// Where records go.
    pub ledger: Arc<dyn Sink>,
    /// What tokens cost.
    pub prices: Prices,
    /// Is told whose run has come to its model.
    pub run_prepared: RunPrepared,
}

// === impl Parts ===

impl Parts {
    /// The layers around the frames of one socket, whose runs are charged by `charge`. Who sends them was verified when the socket was opened.
    #[must_use]
    pub fn frames(
        &self,
        charge: RunCharge,
        forward: Forward,
    ) -> impl Service<RpcRequest, Response = RpcResponse, Error = Infallible, Future: Send> + use<>
    {
        ServiceBuilder::new()
            .layer(WorkspaceLayer::new(Arc::clone(&self.workspaces), BindFrame))
            .layer(self.quota_layer(charge).deny_with(DenyFrame))
            .layer(UsageLayer::new(RunMeter::new(Arc::clone(&self.ledger))))
            .service(forward)
    }

    /// The layers around runs that are asked for over HTTP. Who asks was verified before.
    #[must_use]
    pub fn http_runs(
        &self,
        forward: ForwardRun,
    ) -> impl Service<
        Request<RunCall>,
        Response = Response<
            impl Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>>
            + Send
            + 'static
            + use<>,
        >,
        Error = Infallible,
        Future: Send,
    > + Clone
    + use<> {
        ServiceBuilder::new()
            .layer(WorkspaceLayer::new(Arc::clone(&self.workspaces), BindRun))
            // Nobody reads a refusal of egress in a conversation here.
            .layer(self.quota_layer(RunCharge::new(false)).deny_with(DenyRun))
            .layer(UsageLayer::new(RunMeter::new(Arc::clone(&self.ledger))))
            .service(forward)
    }

    /// The layers around the model calls of such providers.
    #[must_use]
    pub fn model_calls<B>(
        &self,
        kind: ProviderKind,
        forward: ForwardCall,
    ) -> impl Service<
        Request<B>,
        Response = Response<
            impl Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>>
            + Send
            + 'static
            + use<B>,
        >,
        Error = Infallible,
        Future: Send,
    > + Clone
    + use<B>
    where
        B: Body<Data = Bytes, Error: Send> + Send + 'static,
    {
        let meter = ModelMeter::new(
            Arc::clone(&self.ledger),
            self.prices.clone(),
            attribute(Arc::clone(&self.run_prepared)),
        );
        ServiceBuilder::new()
            .layer(
                SsoLayer::new(Arc::clone(&self.virtual_keys))
                    .source(KeySource(kind))
                    .reject_with(RejectModelCall(kind)),
            )
            .layer(RefuseDisabled::new(kind, Arc::clone(&self.is_disabled)))
            .layer(WorkspaceLayer::new(
                Arc::clone(&self.workspaces),
                BindModelCall(kind),
            ))
            .layer(ModelCallLayer::new())
            .layer(
                self.quota_layer(ModelCallCharge::new(self.prices.clone()))
                    .deny_with(DenyModelCall(kind)),
            )
            .layer(UsageLayer::new(meter.drain(DRAIN_TIME, DRAIN_BYTES)))
            .service(forward)
    }

    /// Verifies who calls the API: by the `Authorization` header, or else by the session cookie.
    pub fn sign_in(&self) -> SsoLayer<BearerOrCookie> {
        self.bearer().source(BearerOrCookie::new())
    }

    /// Verifies who calls by the `Authorization` header alone.
    pub fn bearer(&self) -> SsoLayer {
        SsoLayer::new(Arc::clone(&self.tokens))
    }

    /// Puts the caller's workspace into calls of the API.
    #[must_use]
    pub fn workspace(&self) -> WorkspaceLayer<BindHttp<Caller>> {
        WorkspaceLayer::new(
            Arc::clone(&self.workspaces),
            BindHttp::new(caller as Caller),
        )
    }

    fn quota_layer<P>(&self, policy: P) -> QuotaLayer<P> {
        QuotaLayer::new(policy, Arc::clone(&self.quota)).on_store_failure(self.on_store_failure)
    }
}

/// Finds out who was verified.
type Caller = fn(&Extensions) -> Option<Arc<str>>;

fn caller(extensions: &Extensions) -> Option<Arc<str>> {
    extensions
        .get::<Arc<Identity>>()
        .map(|identity| Arc::clone(identity.user_id()))
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}
