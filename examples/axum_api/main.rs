//! How do I stack the four layers in my own axum server?
//!
//! ```text
//!               ┌─ QuotaLayer: calls ── GET /me
//! Sso ─ Workspace
//!               └─ ModelCall ─ QuotaLayer: tokens ─ Usage ── POST /v1/chat/completions ── provider
//! ```
//!
//! Each layer leaves what it found out in the request's extensions, where the next one looks for it: the identity, the
//! workspace, the model call, the reservation. So the order matters.

use std::env;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::middleware::{Next, from_fn};
use axum::routing::{get, post_service};
use axum::{Extension, Json, Router};
use http::{Extensions, Request, Response};
use serde_json::{Value, json};
use tower::{ServiceBuilder, service_fn};
use tower_quota::{
    Charge, Demand, Dimension, Limit, Limits, MemoryStore, QuotaLayer, QuotaStore, Reservation,
    Window,
};
use tower_sso::client::HyperClient;
use tower_sso::jwt::{JwtConfig, JwtVerifier};
use tower_sso::{Identity, SsoLayer, Verify};
use tower_usage::llm::{CallBody, ModelCall, ModelCallLayer, ModelMeter};
use tower_usage::sqlite::{LedgerOptions, SqliteLedger};
use tower_usage::{PriceEntry, PriceList, Rate, UsageLayer};
use tower_workspace::fs::{Person, Provisioner};
use tower_workspace::{BindHttp, ResolveError, ResolveFuture, Workspace, WorkspaceLayer};

mod outbound;
mod settle;
#[cfg(test)]
mod tests;

use self::outbound::{Provider, client, forward};
use self::settle::{attribute, follow};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // The layers tell through `tracing` what goes wrong behind a request, such as an issuer that does not answer.
    tracing_subscriber::fmt().init();
    let data = var("DATA")?;
    let data = Path::new(&data);
    fs::create_dir_all(data)?;
    // Who is asking. Keys are found by discovery when the first token needs them. `primary`: a subject of this issuer is
    // a user id as it is, since there is no other issuer.
    let config = JwtConfig::new(&var("ISSUER")?, &var("AUDIENCE")?).primary(true);
    let tokens = Arc::new(JwtVerifier::discover(
        config,
        Arc::new(HyperClient::new()?),
    )?);

    // What they may, and what it took. The counters are in memory and follow the ledger in the file.
    let quota = Arc::new(MemoryStore::new(Limits::new([
        Limit::at_most(Dimension::Calls, Window::Day, 1_000),
        Limit::at_most(Dimension::Tokens, Window::Day, 2_000_000),
    ])?));
    let provisioner = Provisioner::new(data.join("users"));
    let ledger = SqliteLedger::open(data.join("usage.db"), LedgerOptions::new())?;
    follow(&ledger, &quota)?;

    let provider = Provider {
        client: client()?,
        completions: format!("{}/chat/completions", var("PROVIDER")?).parse()?,
        authorization: format!("Bearer {}", var("PROVIDER_KEY")?).parse()?,
    };
    let rate = Rate::new("2.50".parse()?, "10.00".parse()?).cache_read("1.25".parse()?);
    let prices = PriceList::new([PriceEntry::new("gpt-4o", rate)])?;

    let app = app(tokens, provisioner, quota, ledger.clone(), prices, provider);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app)
        .with_graceful_shutdown(async { drop(tokio::signal::ctrl_c().await) })
        .await?;
    // What was let in is in the file before we go.
    tokio::time::timeout(Duration::from_secs(10), ledger.close()).await??;
    Ok(())
}

/// The four layers around the routes.
fn app(
    tokens: Arc<dyn Verify>,
    provisioner: Provisioner,
    quota: Arc<dyn QuotaStore>,
    ledger: Arc<SqliteLedger>,
    prices: PriceList,
    provider: Provider,
) -> Router {
    // Plain routes cost one call each.
    let plain = Router::new().route("/me", get(me)).route_layer(
        ServiceBuilder::new()
            .layer(QuotaLayer::new(charge_call, quota.clone()))
            .layer(from_fn(count_call)),
    );

    // Model calls cost tokens. The outermost layer reads the body, so that the quota knows what may be generated; the
    // innermost meters the answer. It reads on when the client leaves, so that what we pay for is known to the token.
    let meter = ModelMeter::new(ledger, Arc::new(prices), attribute)
        .drain(Duration::from_secs(60), 1 << 20);
    let model_calls = ServiceBuilder::new()
        .layer(ModelCallLayer::new())
        .layer(QuotaLayer::new(charge_model_call, quota))
        .layer(UsageLayer::new(meter))
        .service(service_fn(move |request| {
            forward(provider.clone(), request)
        }));

    // The tree of a user is made with the first request, and looked after with each.
    let resolver = move |user_id: &Arc<str>| {
        let workspace = provisioner.provision(&Person::new(Arc::clone(user_id)));
        ResolveFuture::boxed(async { workspace.await.map_err(ResolveError::from) })
    };
    Router::new()
        .merge(plain)
        .route("/v1/chat/completions", post_service(model_calls))
        .layer(
            ServiceBuilder::new()
                .layer(SsoLayer::new(tokens))
                .layer(WorkspaceLayer::new(
                    Arc::new(resolver),
                    BindHttp::new(user_id),
                )),
        )
}

/// The id that everything is keyed by: workspace, counters and records.
fn user_id(extensions: &Extensions) -> Option<Arc<str>> {
    let identity: &Arc<Identity> = extensions.get()?;
    Some(Arc::clone(identity.user_id()))
}

async fn me(
    Extension(identity): Extension<Arc<Identity>>,
    Extension(workspace): Extension<Arc<Workspace>>,
) -> Json<Value> {
    Json(json!({ "user": **identity.user_id(), "workspace": workspace.name().as_str() }))
}

// Quota of plain routes: set aside by the layer, used when the handler has answered.

/// `None` would pass without a charge. It cannot come to that: without an identity nobody gets through to here.
fn charge_call(request: &Request<Body>) -> Option<Charge> {
    Some(Charge::new(user_id(request.extensions())?).exactly(Dimension::Calls, 1))
}

async fn count_call(
    Extension(reservation): Extension<Reservation>,
    request: Request<Body>,
    next: Next,
) -> Response<Body> {
    let response = next.run(request).await;
    // A failure of ours costs nothing: what is dropped without being settled is given back.
    if !response.status().is_server_error()
        && let Err(error) = reservation.settle(reservation.held()).await
    {
        tracing::error!(%error, "call was not counted");
    }
    response
}

// Quota of model calls: set aside by the layer, settled by the ledger once the record is in the file.

/// While one token is left a call is let in. It holds what it may take, until it is known what it took.
fn charge_model_call(request: &Request<CallBody>) -> Option<Charge> {
    let call: &ModelCall = request.extensions().get()?;
    let want = call
        .estimated_input
        .saturating_add(call.max_output.unwrap_or(4_096));
    let demand = Demand { min: 1, want };
    Some(Charge::new(user_id(request.extensions())?).demand(Dimension::Tokens, demand))
}

fn var(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("{name}: {error}"))
}
