//! How do I sell an axum API in plans, so many calls a day to some and more to others?
//!
//! Plans by name, one layer around the routes, and whoever pays gets terms with another plan while the server runs.

use std::error::Error;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use http::StatusCode;
use serde_json::{Value, json};
use tower_quota::{
    Charge, Demand, Dimension, Limit, Limits, MemoryStore, Plans, QuotaLayer, QuotaStore,
    Reservation, Subject, TimeZone, Window,
};

#[cfg(test)]
mod tests;

/// Who calls: here whoever the header names. Put a layer that verifies in its place.
#[derive(Clone)]
struct User(Arc<str>);

type Store = Arc<dyn QuotaStore>;

/// The store of the counters does not answer.
const DOWN: StatusCode = StatusCode::SERVICE_UNAVAILABLE;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let calls = |amount| Limits::new([Limit::at_most(Dimension::Calls, Window::Day, amount)]);
    let plans = Plans::new(calls(100)?)
        .named("pro", calls(10_000)?)
        .time_zone(TimeZone::named("Europe/Berlin")?);
    // `RedisStore` and `PostgresStore` are for servers that stand side by side.
    let app = app(Arc::new(MemoryStore::new(plans)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}

fn app(store: Store) -> Router {
    Router::new()
        .route("/hello", get(hello))
        .layer(QuotaLayer::new(charge, Arc::clone(&store)))
        .route("/quota", get(quota))
        .route("/upgrade", post(upgrade))
        .layer(from_fn(who))
        .with_state(store)
}

async fn who(mut request: Request, next: Next) -> Response {
    let named = request.headers().get("x-user");
    let Some(user) = named.and_then(|user| user.to_str().ok()) else {
        return (StatusCode::UNAUTHORIZED, "who are you?\n").into_response();
    };
    let user = User(user.into());
    request.extensions_mut().insert(user);
    next.run(request).await
}

fn charge(request: &Request) -> Option<Charge> {
    let User(user) = request.extensions().get()?;
    Some(Charge::new(Arc::clone(user)).exactly(Dimension::Calls, 1))
}

async fn hello(Extension(held): Extension<Reservation>) -> Result<&'static str, StatusCode> {
    // The call was answered, so it counts. One that fails before this is given back.
    held.settle(held.held()).await.or(Err(DOWN))?;
    Ok("hello\n")
}

/// What is left, and when there is more.
async fn quota(
    State(store): State<Store>,
    Extension(User(user)): Extension<User>,
) -> Result<Json<Value>, StatusCode> {
    let standings = store.standings(&user.into()).await.or(Err(DOWN))?;
    let shown = standings.iter().map(|standing| {
        let why_not = standing.refuses(Demand::exactly(1));
        json!({ "left": standing.remaining(), "why_not": why_not.map(|no| no.to_string()) })
    });
    Ok(Json(shown.collect()))
}

/// Here everybody may. Of two at once the second is told to try again.
async fn upgrade(
    State(store): State<Store>,
    Extension(User(user)): Extension<User>,
) -> Result<(), StatusCode> {
    let user = Subject::from(user);
    let terms = store.terms(&user).await.or(Err(DOWN))?;
    let set = store.set_terms(&user, terms.plan("pro")).await;
    set.or(Err(DOWN))?.then_some(()).ok_or(StatusCode::CONFLICT)
}
