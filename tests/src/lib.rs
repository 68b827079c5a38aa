//! The kit of the end-to-end tests: what stands around the gateway, as real as it gets.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`provider`] | a model provider that speaks OpenAI's chat completions and writes down what it bills |
//! | [`openclaw`] | the real OpenClaw gateway as a process |
//! | [`issuer`] | a real OpenID provider as a process, and its authorization-code flow |
//! | [`gateway`] | the gateway under test as a process |
//! | [`kit`] | the first three, shared by all tests of one run |
//! | [`person`] | somebody with a token, their calls and their turns |
//! | [`ws`], [`http`], [`browser`] | clients: frames, requests, redirects with cookies |
//! | [`install`], [`process`], [`port`], [`secret`], [`clock`], [`error`] | what those are made of |
//!
//! `tests/run` installs what is needed, starts the shared servers and runs the tests.

#![expect(
    clippy::indexing_slicing,
    reason = "reading a JSON value by name answers null where there is nothing"
)]

pub mod browser;
pub mod clock;
pub mod error;
pub mod gateway;
pub mod http;
pub mod install;
pub mod issuer;
pub mod kit;
pub mod openclaw;
pub mod person;
pub mod port;
pub mod process;
pub mod provider;
pub mod secret;
pub mod ws;
