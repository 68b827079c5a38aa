//! How do I serve a language model of my own, and meter who uses how much of it?
//!
//! The handler is the model. The layers around it record what it answers, in tokens and money; `/usage` shows the sum.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post_service};
use axum::{BoxError, Extension, Json, Router};
use http::{Extensions, StatusCode, header};
use serde_json::{Value, json};
use tower::{ServiceBuilder, service_fn};
use tower_usage::llm::{Attribution, CallBody, ModelCallLayer, ModelMeter};
use tower_usage::sqlite::{LedgerOptions, SqliteLedger};
use tower_usage::{PriceEntry, PriceList, Rate, UsageLayer};

#[cfg(test)]
mod tests;

type User = Arc<str>;
/// Users by what they send as `Authorization`.
type Keys = Arc<HashMap<String, User>>;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let keys = std::env::var("KEYS")?; // "alice=sk-1 bob=sk-2"
    let keys = keys.split_whitespace().filter_map(|key| {
        let (user, key) = key.split_once('=')?;
        Some((format!("Bearer {key}"), User::from(user)))
    });
    let ledger = SqliteLedger::open("usage.db", LedgerOptions::new())?;
    let app = app(Arc::new(keys.collect()), ledger.clone())?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app)
        .with_graceful_shutdown(async { drop(tokio::signal::ctrl_c().await) })
        .await?;
    Ok(ledger.close().await?)
}

fn app(keys: Keys, ledger: Arc<SqliteLedger>) -> Result<Router, BoxError> {
    // Half a dollar for a million tokens in, one and a half for a million out.
    let rate = Rate::new("0.50".parse()?, "1.50".parse()?);
    let prices = PriceList::new([PriceEntry::new("parrot-1", rate)])?;
    let meter = ModelMeter::new(ledger.clone(), prices, |extensions: &Extensions| {
        extensions.get().cloned().map(Attribution::new)
    });
    let parrot = ServiceBuilder::new()
        .layer(ModelCallLayer::new())
        .layer(UsageLayer::new(meter))
        .service(service_fn(parrot));
    Ok(Router::new()
        .route("/v1/chat/completions", post_service(parrot))
        .route("/usage", get(usage).with_state(ledger))
        .layer(from_fn_with_state(keys, authenticate)))
}

async fn authenticate(State(keys): State<Keys>, mut request: Request, next: Next) -> Response {
    let key = request.headers().get(header::AUTHORIZATION);
    let Some(user) = key.and_then(|key| keys.get(key.to_str().ok()?)) else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    request.extensions_mut().insert(user.clone());
    next.run(request).await
}

/// The model says again what it was told, and counts words for tokens.
async fn parrot(request: Request<CallBody>) -> Result<Response, Infallible> {
    let asked: Value = serde_json::from_slice(request.body().as_bytes()).unwrap_or_default();
    let said = asked.pointer("/messages/0/content").and_then(Value::as_str);
    let said = said.unwrap_or_default();
    let words = said.split_whitespace().count();
    let usage = json!({ "prompt_tokens": words, "completion_tokens": words });
    let answer = |choices| json!({ "model": "parrot-1", "choices": choices, "usage": usage });
    if asked.get("stream") != Some(&true.into()) {
        return Ok(Json(answer(json!([{ "message": { "content": said } }]))).into_response());
    }
    // Metered just so. Usage that the client did not ask for is taken out again on the way to it.
    let delta = json!({ "choices": [{ "delta": { "content": said } }] });
    let stream = format!(
        "data: {delta}\n\ndata: {}\n\ndata: [DONE]\n\n",
        answer(json!([]))
    );
    Ok(([(header::CONTENT_TYPE, "text/event-stream")], stream).into_response())
}

async fn usage(ledger: State<Arc<SqliteLedger>>, user: Extension<User>) -> Response {
    let ever = SystemTime::UNIX_EPOCH..SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40);
    let sum = tokio::task::spawn_blocking(move || ledger.sum(&*user.0, ever.start, ever.end));
    let Ok(Ok(sum)) = sum.await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    Json(json!({ "tokens": sum.total_tokens, "cost": sum.cost.to_string() })).into_response()
}
