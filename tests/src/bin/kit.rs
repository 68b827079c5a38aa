//! The test kit from a shell.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, Subcommand};
use gateway_tests::{
    canary::{Canary, Leak},
    error::{Error, Result},
    gateway::Config,
    install::Install,
    issuer::AUDIENCE,
    kit::{FILE, Kit, Servers},
};
use tokio::signal::unix::{SignalKind, signal};

/// The test kit of the gateway.
#[derive(Debug, Parser)]
#[command(name = "kit")]
struct Arguments {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Starts model provider, issuer, Postgres, Redis and OpenClaw, writes DIR/kit.json, and runs until it is told to end.
    /// A hangup (SIGHUP) has it start another OpenClaw in place of the one that is there, and write DIR/kit.json again.
    Up {
        /// An existing directory for everything they write.
        #[arg(long)]
        dir: PathBuf,
        /// The node executable.
        #[arg(long)]
        node: PathBuf,
        /// The node_modules that holds openclaw and oidc-provider.
        #[arg(long)]
        modules: PathBuf,
    },
    /// Signs in at the issuer and prints an access token.
    Token {
        /// alice, bob or admin
        account: String,
        /// Seconds until it expires.
        #[arg(long, default_value_t = 3600)]
        lifetime: u64,
        /// The kit.json of running servers.
        #[arg(long, env = "GATEWAY_TEST_KIT")]
        kit: PathBuf,
    },
    /// Looks for secrets of a run that is over in the logs of its gateways, and in what the instance has written.
    Canary {
        /// Where the gateways' logs are, and what the issuers have issued.
        #[arg(long, env = "GATEWAY_TEST_LOGS")]
        logs: PathBuf,
        /// Everything that the instance may write.
        #[arg(long)]
        instance: PathBuf,
        /// The kit.json of running servers.
        #[arg(long, env = "GATEWAY_TEST_KIT")]
        kit: PathBuf,
    },
    /// Writes a gateway.toml for the running servers, with its secrets beside it, and prints its path.
    Config {
        /// An existing directory; the gateway's store and workspaces go there too.
        #[arg(long)]
        dir: PathBuf,
        /// The kit.json of running servers.
        #[arg(long, env = "GATEWAY_TEST_KIT")]
        kit: PathBuf,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse().command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let cause = std::error::Error::source(&error);
            eprintln!(
                "kit: {error}{}",
                cause.map(|cause| format!(": {cause}")).unwrap_or_default()
            );
            ExitCode::FAILURE
        }
    }
}

async fn run(action: Action) -> Result<()> {
    match action {
        Action::Up { dir, node, modules } => up(Install::new(node, modules), dir).await,
        Action::Token {
            account,
            lifetime,
            kit,
        } => {
            let issuer = Kit::read(&kit)?.issuer();
            let lifetime = Duration::from_secs(lifetime);
            println!("{}", issuer.token_for(&account, AUDIENCE, lifetime).await?);
            Ok(())
        }
        Action::Canary {
            logs,
            instance,
            kit,
        } => canary(&logs, &instance, &Kit::read(&kit)?).await,
        Action::Config { dir, kit } => {
            let path = dir.join("gateway.toml");
            let config = Config::new(&Kit::read(&kit)?, &dir)?;
            fs::write(&path, config.text).map_err(|source| Error::File {
                path: path.clone(),
                source,
            })?;
            println!("{}", path.display());
            Ok(())
        }
    }
}

async fn canary(logs: &Path, instance: &Path, kit: &Kit) -> Result<()> {
    let calls = kit.provider().calls().await?;
    Canary::expect_traces(logs)?;
    let of_run = Canary::of_run(kit, &calls, logs)?;
    let mut leaks = of_run.search(logs)?;
    leaks.extend(Canary::of_people(kit, logs)?.search(instance)?);
    for Leak { file, line, kind } in &leaks {
        eprintln!("kit: {kind} in {} line {line}", file.display());
    }
    let kinds = of_run.kinds();
    match leaks.len() {
        0 => {
            eprintln!("kit: nothing of {kinds:?} was found");
            Ok(())
        }
        found => Err(Error::Leaked(found)),
    }
}

async fn up(install: Install, dir: PathBuf) -> Result<()> {
    let listen = |kind| {
        signal(kind).map_err(|source| Error::Run {
            program: "the signal handler".to_owned(),
            source,
        })
    };
    let mut hangup = listen(SignalKind::hangup())?;
    let (mut terminate, mut interrupt) = (
        listen(SignalKind::terminate())?,
        listen(SignalKind::interrupt())?,
    );
    let ended = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    tokio::pin!(ended);
    // Told to end while they start, what has started is killed by being dropped.
    let mut servers = tokio::select! {
        servers = Servers::start(install, &dir) => servers?,
        () = &mut ended => return Ok(()),
    };
    eprintln!("kit: ready, {}", dir.join(FILE).display());
    loop {
        tokio::select! {
            () = &mut ended => return servers.stop().await,
            _ = hangup.recv() => {}
        }
        tokio::select! {
            () = &mut ended => return servers.stop().await,
            renewed = servers.renew_openclaw() => renewed?,
        }
    }
}
