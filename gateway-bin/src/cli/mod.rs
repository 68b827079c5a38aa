//! The commands of the binary.

mod alerts;
mod audit;
mod backup;
mod chat;
mod check_config;
mod counters;
mod dev;
mod instances;
mod keys;
mod log;
mod migrate;
mod operate;
mod prices;
mod quotas;
mod reload;
mod serve;
mod sessions;
mod snapshots;
mod stopping;
mod upstreams;
mod usage;
mod users;
mod virtual_keys;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};
use tokio::runtime::{self, Runtime};
use tokio::signal::unix::{SignalKind, signal};

use self::operate::OperateError;
use self::reload::Reload;
use self::serve::Signals;
use self::stopping::Stop;
use crate::config::{Config, ConfigError, LOG_VARIABLE};
use crate::telemetry::log::{LogFilter, init, set_filter};

/// Exit code for a wrong configuration or wrong arguments.
const MISUSE: u8 = 2;

/// How long tasks that were cut off may take to be dropped.
const ABORT: Duration = Duration::from_secs(2);

/// The reference gateway: many people, one OpenClaw.
#[derive(Debug, Parser)]
#[command(name = "gateway", version, about)]
#[non_exhaustive]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    command: Command,
    /// Write the log as JSON lines.
    #[arg(long, global = true, env = "GATEWAY_LOG_JSON")]
    log_json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway.
    #[command(after_help = "Example: gateway serve --config gateway.toml")]
    Serve(ConfigFile),
    /// Run the gateway on this machine with everything that it needs, to try it out.
    #[command(after_long_help = dev::HELP, after_help = dev::HELP)]
    Dev(dev::Dev),
    /// Check a configuration file, and try whether all that it names is there and as it must be. Changes nothing.
    #[command(
        after_help = "Example: gateway check-config --config gateway.toml\n\nEnds with 0 if all is well, 1 if something would not work, 2 if the file itself is wrong."
    )]
    CheckConfig(check_config::CheckConfig),
    /// Copy the gateway's SQLite file, also while the gateway runs.
    #[command(after_help = "Example: gateway backup --to /backup/gateway-1.db")]
    Backup(backup::Backup),
    /// Bring the tables of the store up to date, or say what that would do.
    #[command(after_help = "Example: gateway migrate --config gateway.toml --dry-run")]
    Migrate(migrate::Migrate),
    /// Send one message through a gateway; print the reply and what it took.
    #[command(
        after_help = "Example: GATEWAY_TOKEN=… gateway chat --url http://127.0.0.1:3000 'hello'"
    )]
    Chat(chat::Chat),
    /// Show limits that people have come near to, and say that they are dealt with.
    #[command(after_help = "Example: gateway alerts list --state triggered")]
    Alerts(alerts::Alerts),
    /// Show what administrators have done.
    #[command(after_help = "Example: gateway audit list --user alice")]
    Audit(audit::Audit),
    /// Show where what is used is counted, and whose ledgers are counted together.
    #[command(after_help = "Example: gateway counters list")]
    Counters(counters::Counters),
    /// Show and change people's quotas.
    #[command(after_help = "Example: gateway quotas set alice tokens/day=2000000 plan=pro")]
    Quotas(quotas::Quotas),
    /// Show and revoke people's personal access tokens; seal their own provider keys under another master key.
    #[command(after_help = "Example: gateway keys list alice")]
    Keys(keys::Keys),
    /// Show the instances, and say whether people are sent to them.
    #[command(after_help = "Example: gateway instances drain gateway-1")]
    Instances(instances::Instances),
    /// Show what models cost.
    #[command(after_help = "Example: gateway prices list")]
    Prices(prices::Prices),
    /// Show where people are signed in, and sign them out.
    #[command(after_help = "Example: gateway sessions end alice --all")]
    Sessions(sessions::Sessions),
    /// Show what people have used, and price what had no price.
    #[command(after_help = "Example: gateway usage show --by user")]
    Usage(usage::Usage),
    /// List, shut out, link, export and delete people.
    #[command(after_help = "Example: gateway users list")]
    Users(users::Users),
    /// Show and change what the gateway logs.
    #[command(after_help = "Example: gateway log info,gateway::socket=debug")]
    Log(log::Log),
    /// Show, rotate and revoke the keys by which people's agents call models.
    #[command(after_help = "Example: gateway virtual-keys rotate alice")]
    VirtualKeys(virtual_keys::VirtualKeys),
}

#[derive(Debug, clap::Args)]
struct ConfigFile {
    /// The configuration file.
    #[arg(long, default_value = "gateway.toml")]
    config: PathBuf,
}

impl ConfigFile {
    fn load(&self) -> Result<Config, ConfigError> {
        crate::config::load(&self.config, |name| {
            std::env::var(name).ok().filter(|value| !value.is_empty())
        })
    }
}

/// Runs the command that the arguments name.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    // Only a server tells what goes well; the other commands answer on standard output.
    let level = match cli.command {
        Command::Serve(_) => "info",
        _ => "error",
    };
    let variable = std::env::var(LOG_VARIABLE).ok();
    let variable = variable.filter(|value| !value.is_empty());
    match variable.as_deref().unwrap_or(level).parse::<LogFilter>() {
        Ok(filter) => init(&filter, cli.log_json),
        Err(error) => return fail(MISUSE, &format!("{LOG_VARIABLE}: {error}")),
    }
    let runtime = match runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, &error.to_string()),
    };
    match cli.command {
        Command::Serve(file) => match file.load() {
            Ok(config) => signals(&runtime, file)
                .and_then(|signals| match config.log.filter() {
                    Some(filter) => set_filter(&filter)
                        .map(|()| signals)
                        .map_err(|error| error.to_string()),
                    None => Ok(signals),
                })
                .and_then(|signals| serve_to_the_end(runtime, config, signals))
                .unwrap_or_else(|message| fail(1, &message)),
            Err(error) => fail(MISUSE, &error.to_string()),
        },
        Command::Dev(dev) => dev::run(runtime, dev),
        Command::CheckConfig(check) => {
            let code = runtime.block_on(check.run());
            // A file system that hangs is not waited for.
            runtime.shutdown_background();
            code
        }
        Command::Backup(backup) => backup.run(),
        Command::Migrate(migrate) => match migrate.file().load() {
            Ok(config) => match runtime.block_on(migrate.run(&config)) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(1, &error.to_string()),
            },
            Err(error) => fail(MISUSE, &error.to_string()),
        },
        Command::Chat(chat) => match runtime.block_on(chat.run()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(1, &error.to_string()),
        },
        Command::Alerts(alerts) => operated(runtime.block_on(alerts.run())),
        Command::Prices(prices) => operated(runtime.block_on(prices.run())),
        Command::Sessions(sessions) => operated(runtime.block_on(sessions.run())),
        Command::Audit(audit) => operated(runtime.block_on(audit.run())),
        Command::Counters(counters) => operated(runtime.block_on(counters.run())),
        Command::Quotas(quotas) => operated(runtime.block_on(quotas.run())),
        Command::Keys(keys) => operated(runtime.block_on(keys.run())),
        Command::Instances(instances) => operated(runtime.block_on(instances.run())),
        Command::Log(log) => operated(runtime.block_on(log.run())),
        Command::Users(users) => operated(runtime.block_on(users.run())),
        Command::VirtualKeys(keys) => operated(runtime.block_on(keys.run())),
        Command::Usage(usage) => match runtime.block_on(usage.run()) {
            Ok(code) => code,
            Err(error) => operated(Err(error)),
        },
    }
}

/// Serves on `runtime`, and settles on a runtime of its own that outlives it: calls that are cut off at the end record
/// what they took by being dropped with the first, and are stored and settled by the second.
fn serve_to_the_end(
    runtime: Runtime,
    config: Config,
    signals: Signals,
) -> Result<ExitCode, String> {
    let settling = runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let settling = settling.map_err(|error| error.to_string())?;
    let served = runtime.block_on(serve::serve(config, settling.handle(), signals));
    runtime.shutdown_timeout(ABORT);
    let books = served.map_err(|error| error.to_string())?;
    settling.block_on(serve::close(books));
    Ok(ExitCode::SUCCESS)
}

/// SIGTERM and SIGINT stop, the second one at once; SIGHUP has the file read again.
fn signals(runtime: &Runtime, file: ConfigFile) -> Result<Signals, String> {
    let stop = stop_on_signals(runtime)?;
    let _signals_come_there = runtime.enter();
    let hangup = signal(SignalKind::hangup()).map_err(|error| format!("signals: {error}"))?;
    let reload = Reload {
        signal: hangup,
        read: Arc::new(move || file.load()),
    };
    Ok(Signals {
        stop,
        reload: Some(reload),
    })
}

/// Is told by SIGTERM or SIGINT.
fn stop_on_signals(runtime: &Runtime) -> Result<Stop, String> {
    let _signals_come_there = runtime.enter();
    let listen = |kind| signal(kind).map_err(|error| format!("signals: {error}"));
    let (mut term, mut int) = (
        listen(SignalKind::terminate())?,
        listen(SignalKind::interrupt())?,
    );
    let stop = Stop::default();
    let Stop { told, at_once } = stop.clone();
    runtime.spawn(async move {
        for token in [told, at_once] {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            token.cancel();
        }
    });
    Ok(stop)
}

fn operated(result: Result<(), OperateError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ OperateError::Client(_)) => fail(1, &error.to_string()),
        Err(error) => fail(MISUSE, &error.to_string()),
    }
}

fn fail(code: u8, message: &str) -> ExitCode {
    eprintln!("gateway: {message}");
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory};

    use super::*;

    /// That a command, and each below it, shows an example that can be typed.
    fn has_an_example(command: &mut Command, name: &str) {
        let help = command.render_help().to_string();
        assert!(help.contains("Example"), "{name}: {help}");
        let example = help.split("Example").nth(1).unwrap_or_default();
        assert!(example.contains(name), "{name}: {help}");
        let below = command.get_subcommands_mut();
        for below in below.filter(|below| below.get_name() != "help") {
            let name = format!("{name} {}", below.get_name());
            has_an_example(below, &name);
        }
    }

    #[test]
    fn every_command_has_an_example() {
        Cli::command().debug_assert();
        let mut gateway = Cli::command();
        for command in gateway.get_subcommands_mut() {
            let name = format!("gateway {}", command.get_name());
            has_an_example(command, &name);
        }
    }
}
