//! Sign-in in a browser, with OpenID Connect or OAuth 2.0 providers.
//!
//! [`Providers`] are who people sign in with; [`Login`] is the sign-in itself, served by
//! [`LoginService`]; [`RedirectToSignIn`] sends browsers there. What comes out is a session in a cookie,
//! which [`Sessions`](crate::session::Sessions) verifies like any other credential.
//!
//! # What happens
//!
//! The authorization code flow with PKCE (`S256`, always), by RFC 9700 and OpenID Connect Core 1.0:
//!
//! 1. `GET login` makes `state`, `nonce` and code verifier, gives them to the browser in a sealed cookie of
//!    their own (`__Host-login-…`, ten minutes), and sends it to the provider. At most five sign-ins are
//!    under way in a browser; the oldest gives way. Tabs do not disturb one another, and any server that
//!    has the same keys can end what another one began.
//! 2. `GET callback` finds the cookie by the `state`, spends the `state` in the store, so that it counts
//!    once wherever it arrives, checks that the callback names the provider that was asked (RFC 9207, where
//!    the provider says that it does), and gives the code for tokens.
//! 3. The ID token is held against all rules, `nonce` and `at_hash` among them; what it lacks of e-mail,
//!    name and roles is asked for at the userinfo endpoint once. GitHub has no ID token: its API is asked.
//! 4. A new session is opened, whatever session the browser had is ended, and the browser goes where it
//!    wanted to: to a path of this origin, or an address of an allowed one, never elsewhere.
//!
//! # Signing out
//!
//! `POST logout`, from a page of an allowed origin only, ends the session and sends the browser to the
//! provider's `end_session_endpoint`. A script that asks for JSON gets `{"redirect": "…"}` to go to.
//! `POST backchannel-logout` is for providers: it ends the session, or all sessions of the person, that the
//! logout token names (OpenID Connect Back-Channel Logout 1.0).
//!
//! # When something fails
//!
//! A provider that does not answer within ten seconds costs the person who signs in a page with 503 and
//! `Retry-After`, and nobody else anything. Pages are static and escaped, and show nothing that came from
//! outside; nothing is stored, framed, or sent along as `Referer`. What is not a browser gets JSON.
//!
//! # Examples
//!
//! See [`Login`], and `examples/axum_login` and `examples/hyper_login` in the repository.

use crate::form;

mod admit;
mod back_channel;
mod begin;
mod callback;
mod error;
mod exchange;
mod failure;
mod future;
mod github;
mod id_token;
#[expect(
    clippy::module_inception,
    reason = "the type is named after what it does"
)]
mod login;
mod logout;
mod logout_token;
mod metadata;
mod navigation;
mod origin;
mod page;
mod pending;
mod proof;
mod provider;
mod provider_error;
mod provider_kind;
mod providers;
mod redirect;
mod refresh;
mod registration;
mod return_to;
mod service;

pub use self::{
    admit::{Admit, AdmitError, Occasion},
    error::LoginError,
    future::ResponseFuture,
    login::Login,
    provider::{ClientAuth, Provider},
    providers::Providers,
    redirect::RedirectToSignIn,
    service::LoginService,
};
