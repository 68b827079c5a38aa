//! The API plane: what people and their programs ask over HTTP.

mod access;
mod actor;
mod acts;
mod added_instances;
mod admin;
mod admin_keys;
mod admin_plans;
mod admin_prices;
mod admin_quota;
mod admin_quota_list;
mod admin_quota_reset;
mod alerts;
mod audit;
mod auth;
mod body;
mod counters;
mod cross_origin;
mod error;
mod health;
mod input;
mod instances;
mod keys;
mod log;
mod openapi;
mod openclaw;
mod pace;
mod plane;
mod provider_key;
mod quota;
mod routes;
mod snapshots;
mod usage;
mod user;
mod user_export;
mod users;
mod virtual_keys;
mod websocket;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use axum::body::Body;
use axum::middleware::{
    from_fn, from_fn_with_state, map_request_with_state, map_response_with_state,
};
use axum::routing::get;
use axum::{Extension, Router};
use tower::util::MapRequest;
use tower_quota::{Plans, QuotaStore};
use tower_sso::Require;
use tower_usage::Prices;
use tower_usage::sqlite::SqliteLedger;

use self::acts::Acts;
pub(crate) use self::admin_prices::all as shown_prices;
pub(crate) use self::alerts::shown as shown_alert;
pub use self::cross_origin::{NotAnOrigin, Origins};
pub use self::error::ApiError;
pub(crate) use self::error::{ERROR_SCHEMA, NOTHING_RUNS};
pub(crate) use self::openapi::retry_after;
pub use self::pace::Pace;
pub use self::plane::routes;
pub(crate) use self::quota::limits as shown_limits;
pub(crate) use self::routes::Routes;
pub use self::routes::{Access, Route};
pub(crate) use self::usage::ADDS_UP;
use crate::client_address::TrustedProxies;
use crate::counters::{CounterStore, Seeding};
use crate::egress::{OwnKeys, Target};
use crate::environment::Environments;
use crate::instance::Roster;
use crate::openai;
use crate::password::Passwords;
use crate::records::Records;
use crate::shipping::Shipping;
use crate::sign_in::{SignIn, scope};
use crate::snapshots::Snapshots;
use crate::socket::Sockets;
use crate::stack::Parts;
use crate::store::Store;
use crate::telemetry::{Exposition, Latency, timed};
use crate::terms::PeoplesTerms;
use crate::ui::{self, Pages};

/// Role of those who may change what is other people's.
pub(crate) const ADMIN: &str = "admin";

/// What the handlers work with; clones share it.
#[derive(Clone)]
#[non_exhaustive]
pub struct Api {
    /// The gateway's own state.
    pub store: Store,
    /// Where people work.
    pub environments: Environments,
    /// Who is, and who may be, signed in.
    pub sign_in: SignIn,
    /// Where browsers may talk to us from.
    pub origins: Origins,
    /// The instance's own page.
    pub pages: Pages,
    /// How often one address may begin to sign in.
    pub pace: Pace,
    /// Gateway passwords.
    pub passwords: Passwords,
    /// Counters.
    pub quota: Arc<dyn QuotaStore>,
    /// Where the counters are.
    pub counters: CounterStore,
    /// What sees to it that they say what the ledger says.
    pub seeding: Seeding,
    /// What people are allowed beside it.
    pub terms: PeoplesTerms,
    /// Everybody's plans.
    pub plans: Plans,
    /// Where records are written.
    pub ledger: Arc<SqliteLedger>,
    /// Where they are read.
    pub records: Records,
    /// How they get to where all gateways read them.
    pub shipping: Option<Shipping>,
    /// What they cost.
    pub prices: Prices,
    /// Where browsers reach us.
    pub public_url: Arc<str>,
    /// Whose word on a client's address counts.
    pub proxies: TrustedProxies,
    /// What sockets are served with.
    pub sockets: Sockets,
    /// Keys of people's own at providers.
    pub own_keys: OwnKeys,
    /// The providers.
    pub targets: Arc<[Arc<Target>]>,
    /// What there was of people.
    pub snapshots: Snapshots,
    /// Who is among the instances.
    pub roster: Roster,
}

/// The routes of the public listener.
///
/// # Errors
///
/// An allowed origin is none.
pub fn public(api: Api, layers: &Parts) -> Result<Router, NotAnOrigin> {
    let in_workspace = plane::of_workspace().into_router();
    let for_chat = plane::for_chat().into_router();
    let for_chat = for_chat
        .layer(layers.workspace())
        .layer(from_fn_with_state(scope::CHAT, access::needs_scope));
    let read = plane::read().into_router();
    let read = read
        .merge(in_workspace.layer(layers.workspace()))
        .layer(from_fn_with_state(scope::READ, access::needs_scope));
    let in_person = plane::in_person().into_router();
    let in_person = in_person.layer(from_fn(access::needs_person));
    let administration = administration(&api, [plane::administration()])
        .layer(from_fn(access::needs_person))
        .layer(layers.sign_in().require(Require::new().any_role([ADMIN])));
    let in_openais_form = openai::routes().into_router();
    let in_openais_form = in_openais_form
        .layer(Extension(openai::Runs::new(&api, layers)))
        .layer(layers.sign_in().reject_with(openai::RejectRun));
    let signed_in = read
        .merge(in_person)
        .merge(for_chat)
        .layer(layers.sign_in())
        .merge(administration)
        .merge(in_openais_form)
        // Inside of what answers preflights, which have a method that no route has.
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(api.origins.cors());
    // A socket's credential may be a cookie, or come in its first frame: see there.
    let socket = plane::socket().into_router();
    let socket = socket.layer(layers.bearer().optional());
    let mut routes = signed_in
        .merge(socket)
        .merge(plane::open().into_router())
        .merge(plane::description().into_router());
    if let Some((redirect, login)) = api.sign_in.login() {
        let sign_in = plane::sign_in().into_router();
        let sign_in = sign_in
            .method_not_allowed_fallback(error::method_not_allowed)
            .layer(Extension(login.clone()))
            .layer(from_fn(access::forgets_on_logout))
            .layer(from_fn_with_state(api.clone(), pace::limit))
            .layer(api.origins.cors());
        // Where nobody can sign in in a browser, there is no page either.
        let pages = ui::routes().into_router();
        let pages = pages
            .layer(from_fn(access::needs_person))
            .layer(layers.sign_in().reject_with(redirect.clone()));
        routes = routes.merge(sign_in).merge(pages);
    }
    let csrf = api.origins.csrf()?;
    let routes = routes
        .fallback(error::not_found)
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(csrf)
        .layer(from_fn(input::check))
        .layer(map_response_with_state(api.clone(), access::private))
        .layer(map_request_with_state(api.clone(), access::locate))
        .layer(from_fn_with_state(Latency::new("public"), timed))
        .with_state(api);
    // Before routing, which is by path alone.
    let routes = MapRequest::new(routes, ui::page_socket::<Body>);
    Ok(Router::new().fallback_service(routes))
}

/// The routes of the operator's socket: those of administrators, without sign-in. The socket itself says who asks.
pub fn operator(api: Api) -> Router {
    administration(&api, [plane::administration(), plane::of_the_operator()])
        .merge(plane::description_for_operators().into_router())
        .fallback(error::not_found)
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(from_fn(input::check))
        .with_state(api)
}

/// What administrators may do, and what notes that they do it.
fn administration<const N: usize>(api: &Api, routes: [Routes; N]) -> Router<Api> {
    let acts = Acts::new(api.store.clone(), &routes);
    let routes = routes.into_iter().map(Routes::into_router);
    let routes = routes.fold(Router::new(), Router::merge);
    routes.layer(from_fn_with_state(acts, acts::note))
}

/// The routes of the admin listener.
pub fn admin(api: Api, metrics: Exposition) -> Router {
    let metrics = get(move || std::future::ready(metrics.render()));
    Router::new()
        .route("/metrics", metrics)
        .merge(plane::open().into_router().with_state(api))
}

/// Address of who connected, put into requests by the listener.
#[derive(Clone, Copy, Debug)]
pub struct PeerAddress(pub SocketAddr);

/// A time as APIs write it.
#[must_use]
pub fn rfc3339(at: SystemTime) -> String {
    let at = jiff::Timestamp::try_from(at).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    // Whole seconds; a reset is never in between.
    jiff::Timestamp::from_second(at.as_second())
        .unwrap_or(at)
        .to_string()
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api")
            .field("environments", &self.environments)
            .finish_non_exhaustive()
    }
}
