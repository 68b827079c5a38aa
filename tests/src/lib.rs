//! The kit of the end-to-end tests: what stands around the gateway, as real as it gets.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`provider`] | a model provider that speaks OpenAI's and Anthropic's APIs and writes down what it bills |
//! | [`openclaw`] | the real OpenClaw gateway as a process |
//! | [`cells`] | OpenClaw processes that the gateway starts |
//! | [`issuer`] | a real OpenID provider as a process, and its authorization-code flow |
//! | [`other_issuer`] | one of other authors, which says whatever a test wants |
//! | [`postgres`], [`redis`] | the real stores as processes |
//! | [`nginx`] | the real nginx with the configuration that is shipped |
//! | [`sandbox_host`] | a real SSH server, with users, for the sandboxes of agents |
//! | [`gateway`] | the gateway under test as a process |
//! | [`ledger`] | what that has recorded |
//! | [`webhook`] | a receiver of webhooks, which answers what a test wants |
//! | [`kit`] | those of them that are shared by all tests of one run |
//! | [`person`] | somebody with a token, their calls and their turns |
//! | [`ws`], [`http`], [`browser`] | clients: frames, requests, redirects with cookies |
//! | [`chromium`] | a real browser, by scripts |
//! | [`script`] | what else is run by Node |
//! | [`storage`] | a disk whose power can be cut, or that is full |
//! | [`tls`] | connections through TLS for clients that know none |
//! | [`link`] | a connection that can be cut |
//! | [`dice`] | numbers that look random |
//! | [`canary`] | secrets of a run, looked for where they must not be |
//! | [`install`], [`process`], [`port`], [`secret`], [`clock`], [`error`] | what those are made of |
//!
//! `tests/run` installs what is needed, starts the shared servers and runs the tests.

#![expect(
    clippy::indexing_slicing,
    reason = "reading a JSON value by name answers null where there is nothing"
)]

pub mod browser;
pub mod canary;
pub mod cells;
pub mod chromium;
pub mod clock;
pub mod dice;
pub mod error;
pub mod gateway;
pub mod http;
pub mod install;
pub mod issuer;
pub mod kit;
pub mod ledger;
pub mod link;
pub mod nginx;
pub mod openclaw;
pub mod other_issuer;
pub mod person;
pub mod port;
pub mod postgres;
pub mod process;
pub mod provider;
pub mod redis;
pub mod sandbox_host;
pub mod script;
pub mod secret;
pub mod stopwatch;
pub mod storage;
pub mod tls;
pub mod webhook;
pub mod ws;
