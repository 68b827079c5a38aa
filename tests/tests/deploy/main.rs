//! What is shipped in `deploy/` works: the real nginx, the real Prometheus and the real OpenClaw run with those files, as far
//! as they can without containers. The Compose file, Grafana's files and the secrets are checked as data.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed; how long things took and what has no data is for people"
)]

mod alert;
mod books;
mod chat;
mod client;
mod compose;
mod configuration;
mod dashboards;
mod deployment;
mod egress;
mod ending;
mod expressions;
mod forgeries;
mod headers;
mod http2;
mod instance;
mod probes;
mod prometheus;
mod rolling;
mod schema;
mod systemd;
mod table;
mod timeouts;

use std::path::{Path, PathBuf};

use gateway_tests::nginx::DEPLOY;

fn deploy(path: &str) -> PathBuf {
    Path::new(DEPLOY).join(path)
}

/// A file as it is shipped.
fn shipped(path: &str) -> String {
    std::fs::read_to_string(deploy(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}
