//! The `gateway` command.

use std::process::ExitCode;

use clap::Parser;
use gateway::cli::{Cli, run};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    run(Cli::parse())
}
