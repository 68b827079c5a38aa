use std::fs;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::sync::CancellationToken;

use super::serve::Signals;
use super::{MISUSE, fail, serve_to_the_end, stop_on_signals};
use crate::config::{self, Config, Secret};
use crate::dev::{self, ACCOUNTS, AUDIENCE, CLIENT, DemoInstance, Issuer, MODEL, OpenClaw};

/// How often tokens are written anew; they are good for eight hours.
const RENEW: Duration = Duration::from_secs(3_600);

/// Where everything listens if nobody says otherwise.
const LISTEN: &str = "127.0.0.1:3000";

/// Runs the gateway with everything around it that it needs, on this machine only.
#[derive(Debug, clap::Args)]
pub(super) struct Dev {
    /// Where the gateway listens; a loopback address. Without it, 127.0.0.1:3000 or, if that is taken, a free port.
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Keeps everything in this directory; without it, in a temporary one that is removed at the end.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Starts the real OpenClaw in place of the demo instance, by this command.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "openclaw", value_name = "COMMAND")]
    openclaw: Option<String>,
    /// Has the demo instance behave as an OpenClaw that was patched to take `workspaceDir` and `authProfileId` in
    /// `chat.send`, and the gateway send them.
    #[arg(long, conflicts_with = "openclaw")]
    extended_chat_params: bool,
    /// A file with the key of a real provider, in place of the demo model.
    #[arg(long, value_name = "FILE", requires = "model")]
    provider_key_file: Option<PathBuf>,
    /// The model of that provider.
    #[arg(long, requires = "provider_key_file")]
    model: Option<String>,
    /// Where that provider is.
    #[arg(long, default_value = "https://api.openai.com/v1", value_name = "URL")]
    provider_url: String,
}

/// What `gateway dev --help` ends with.
pub(super) const HELP: &str = "\
It starts, on loopback: an OpenID provider with a sign-in page (alice, bob, admin, no passwords), a demo instance and a demo
model that speak the real protocols, and the gateway before them, with SQLite. It needs nothing to be installed.

It is for a first look and for development. It is not for other people, not for the internet, and not for anything that
must last: who can reach it can be anybody. For that, see `gateway serve --help`.

Examples:
  gateway dev
  gateway dev --dir ./demo --listen 127.0.0.1:3100
  gateway dev --openclaw";

/// The directory that everything is kept in.
enum Dir {
    Given(PathBuf),
    Temporary(TempDir),
}

impl Dir {
    fn path(&self) -> &Path {
        match self {
            Self::Given(path) => path,
            Self::Temporary(dir) => dir.path(),
        }
    }
}

/// Where the parts are.
struct Places {
    public: SocketAddr,
    egress: SocketAddr,
    admin: SocketAddr,
    issuer: String,
    client_secret: String,
    instance: SocketAddr,
    /// Base URL of the model provider.
    provider: String,
}

/// Runs until Ctrl-C.
pub(super) fn run(runtime: Runtime, dev: Dev) -> ExitCode {
    if let Some(listen) = dev.listen.filter(|listen| !listen.ip().is_loopback()) {
        return fail(
            MISUSE,
            &format!(
                "--listen {listen}: `gateway dev` asks nobody for a password, so it listens on loopback only; name an \
                 address like {LISTEN}, or run `gateway serve`"
            ),
        );
    }
    // OpenClaw's process is waited for on a runtime that outlives the server's.
    let around = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let around = match around {
        Ok(around) => around,
        Err(error) => return fail(1, &error.to_string()),
    };
    // From here on a signal is not the end of this process alone.
    let stop = match stop_on_signals(&runtime) {
        Ok(stop) => stop,
        Err(message) => return fail(1, &message),
    };
    let prepared = runtime.block_on(dev.prepare(around.handle()));
    let (dir, config, openclaw) = match prepared {
        Ok(prepared) => prepared,
        Err(message) => return fail(1, &message),
    };
    if let Some(openclaw) = &openclaw {
        around.spawn(stop_with(openclaw, dir.path(), stop.told.clone()));
    }
    let signals = Signals { stop, reload: None };
    let mut ended =
        serve_to_the_end(runtime, config, signals).unwrap_or_else(|message| fail(1, &message));
    if let Some(openclaw) = openclaw {
        if openclaw.ended().is_cancelled() {
            ended = ExitCode::FAILURE;
        }
        around.block_on(openclaw.stop());
    }
    drop(dir);
    ended
}

/// Stops the gateway when the OpenClaw behind it has ended by itself, and says where to look.
fn stop_with(
    openclaw: &OpenClaw,
    dir: &Path,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let ended = openclaw.ended().clone();
    let log = dir.join("openclaw/stdout.log");
    async move {
        tokio::select! {
            () = stop.cancelled() => return,
            () = ended.cancelled() => {}
        }
        // The directory may be gone in a moment.
        let said = fs::read_to_string(&log).unwrap_or_default();
        let last: Vec<&str> = said.lines().rev().take(10).collect();
        eprintln!("gateway: OpenClaw has ended by itself; what it said last:");
        for line in last.into_iter().rev() {
            eprintln!("  {line}");
        }
        stop.cancel();
    }
}

impl Dev {
    /// Starts what stands around the gateway, and says how to use it once all is ready.
    async fn prepare(self, around: &Handle) -> Result<(Dir, Config, Option<OpenClaw>), String> {
        let text = |error: std::io::Error| error.to_string();
        let dir = match &self.dir {
            Some(path) => {
                fs::create_dir_all(path)
                    .map_err(|error| format!("--dir {}: {error}", path.display()))?;
                Dir::Given(path.canonicalize().map_err(text)?)
            }
            None => Dir::Temporary(
                tempfile::Builder::new()
                    .prefix("gateway-dev-")
                    .tempdir()
                    .map_err(text)?,
            ),
        };
        let public = self.public().await?;
        let gateway = format!("http://{public}");

        let (listener, address) = dev::listen().await.map_err(text)?;
        let issuer_url = format!("http://{address}");
        let issuer = Issuer::new(issuer_url.clone(), gateway.clone()).map_err(text)?;
        tokio::spawn(dev::serve(listener, issuer.routes()));

        let (provider, key_file) = match &self.provider_key_file {
            Some(file) => (self.provider_url.clone(), file.clone()),
            None => {
                let key = dev::secret().map_err(text)?;
                let (listener, address) = dev::listen().await.map_err(text)?;
                tokio::spawn(dev::serve(listener, dev::model_routes(&key)));
                let file = dir.path().join("model-key");
                write_private(&file, &key)?;
                (format!("http://{address}/v1"), file)
            }
        };

        let password_file = dir.path().join("instance-password");
        let password = match fs::read_to_string(&password_file) {
            Ok(password) => password,
            Err(_) => dev::secret().map_err(text)?,
        };
        write_private(&password_file, &password)?;
        let (instance, openclaw) = self.instance(dir.path(), &password, around).await?;

        let places = Places {
            public,
            egress: free().await?,
            admin: free().await?,
            issuer: issuer_url,
            client_secret: issuer.client_secret().to_owned(),
            instance,
            provider,
        };
        let path = dir.path().join("gateway.toml");
        let toml = self.configuration(dir.path(), &places, &key_file, &password_file);
        write_private(&path, &toml)?;
        let config = config::load(&path, |_| None).map_err(|error| error.to_string())?;

        write_tokens(dir.path(), &issuer)?;
        let renewed = dir.path().to_owned();
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(RENEW);
            loop {
                ticks.tick().await;
                if let Err(error) = write_tokens(&renewed, &issuer) {
                    tracing::warn!(error, "tokens are not renewed");
                }
            }
        });
        let real = openclaw.is_some();
        tokio::spawn(announce(places, dir.path().to_owned(), path, real));
        Ok((dir, config, openclaw))
    }

    /// Where the gateway will listen.
    async fn public(&self) -> Result<SocketAddr, String> {
        let Some(listen) = self.listen else {
            return match TcpListener::bind(LISTEN).await {
                Ok(listener) => listener.local_addr().map_err(|error| error.to_string()),
                Err(_) => free().await,
            };
        };
        let listener = TcpListener::bind(listen).await;
        let listener = listener.map_err(|error| {
            format!("--listen {listen}: {error}; name another port, or 0 for a free one")
        })?;
        listener.local_addr().map_err(|error| error.to_string())
    }

    /// The instance, and its process if it is the real one.
    async fn instance(
        &self,
        dir: &Path,
        password: &str,
        around: &Handle,
    ) -> Result<(SocketAddr, Option<OpenClaw>), String> {
        if let Some(command) = &self.openclaw {
            let dir = dir.join("openclaw");
            let address = port_of(&dir).await?;
            let openclaw = {
                let _waited_for_there = around.enter();
                OpenClaw::start(command, &dir, address, password)
            };
            let openclaw = openclaw.map_err(|error| format!("--openclaw: {error}"))?;
            println!("OpenClaw is starting, which takes up to a minute …");
            return Ok((address, Some(openclaw)));
        }
        let (listener, address) = dev::listen().await.map_err(|error| error.to_string())?;
        let workspace = dir.join("main").display().to_string();
        let demo = DemoInstance::new(Secret::new(password), &workspace, self.extended_chat_params);
        tokio::spawn(dev::serve(listener, demo.routes()));
        tokio::spawn(demo.tick());
        Ok((address, None))
    }

    /// The gateway's own configuration, as an operator would write it.
    fn configuration(
        &self,
        dir: &Path,
        places: &Places,
        key_file: &Path,
        password_file: &Path,
    ) -> String {
        let Places {
            public,
            egress,
            admin,
            issuer,
            client_secret,
            instance,
            provider,
        } = places;
        let quoted = |path: &Path| toml::Value::from(path.display().to_string()).to_string();
        let model = toml::Value::from(self.model.as_deref().unwrap_or(MODEL)).to_string();
        let provider = toml::Value::from(provider.as_str()).to_string();
        let extended = self.extended_chat_params;
        format!(
            r#"# Written by `gateway dev`, anew at each start.
[server]
public = "{public}"
public_url = "http://{public}"
egress = "{egress}"
admin = "{admin}"

[[issuer]]
alias = "dev"
url = "{issuer}"
audience = "{AUDIENCE}"
client_id = "{CLIENT}"
client_secret = "{client_secret}"
token_type = "at+jwt"
roles_claim = "groups"

[roles]
admin = ["openclaw-admins"]

[store]
path = {store}

[workspace]
root = {root}

[[instance]]
name = "dev"
url = "http://{instance}"
extended_chat_params = {extended}
auth = {{ kind = "trusted-proxy", user_header = "x-forwarded-user", password_file = {password_file} }}

[[provider]]
name = "dev"
kind = "openai"
base_url = {provider}
api_key_file = {key_file}
models = [{{ id = {model} }}]

[plan.default]
tokens_per_day = 2_000_000
cost_per_month = "10.00"
calls_per_day = 1_000

[[price]]
model = {model}
input = "1.00"
output = "4.00"
"#,
            store = quoted(&dir.join("gateway.db")),
            root = quoted(&dir.join("users")),
            password_file = quoted(password_file),
            key_file = quoted(key_file),
        )
    }
}

/// Says how to use it, once it can be used.
async fn announce(places: Places, dir: PathBuf, config: PathBuf, real: bool) {
    let ready = || async {
        let stream = tokio::net::TcpStream::connect(places.public).await.ok()?;
        let io = hyper_util::rt::TokioIo::new(stream);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.ok()?;
        tokio::spawn(connection);
        let request = http::Request::get("/readyz").header("host", places.public.to_string());
        let request = request
            .body(http_body_util::Empty::<bytes::Bytes>::new())
            .ok()?;
        let response = sender.send_request(request).await.ok()?;
        response.status().is_success().then_some(())
    };
    while ready().await.is_none() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let public = places.public;
    let program = program();
    let line = |account: &str| {
        let token = shown(&dir.join(format!("{account}.token")));
        format!("{program} chat --url http://{public} --token-file {token} \"hello\"")
    };
    let instance = if real { "OpenClaw" } else { "a demo instance" };
    let browser = match real {
        true => format!("\nOpen http://{public} in a browser and sign in: OpenClaw's own page.\n"),
        false => String::new(),
    };
    let text = format!(
        "
The gateway runs, in front of {instance}; Ctrl-C stops it. A demo: everybody on this machine can be anybody in it.
{browser}
  gateway        http://{public}
  sign-in        {issuer}   (alice, bob, admin; no passwords)
  metrics        http://{admin}/metrics
  configuration  {config}

Two people, each with a workspace, a quota and a bill of their own. In another terminal:

  {alice}
  {bob}

Then look what it took:  curl -H \"Authorization: Bearer $(cat {token})\" http://{public}/api/usage
Change what they may use:  {program} quotas set alice calls/day=2 --config {config}
",
        issuer = places.issuer,
        admin = places.admin,
        config = shown(&config),
        alice = line("alice"),
        bob = line("bob"),
        token = shown(&dir.join("alice.token")),
    );
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// How this program is called from here.
fn program() -> String {
    std::env::current_exe().map_or_else(|_| "gateway".to_owned(), |path| shown(&path))
}

/// A path as it is written from here, quoted where a shell needs it.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    let text = path
        .strip_prefix(&here)
        .unwrap_or(path)
        .display()
        .to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A port that was free just now.
async fn free() -> Result<SocketAddr, String> {
    let bound = dev::listen().await.map_err(|error| error.to_string())?;
    Ok(bound.1)
}

/// The port of the real instance: the same at each start, since it keeps its configuration.
async fn port_of(dir: &Path) -> Result<SocketAddr, String> {
    let kept = fs::read_to_string(dir.join("openclaw.json")).ok();
    let kept: Option<serde_json::Value> = kept.and_then(|text| serde_json::from_str(&text).ok());
    let port = kept.and_then(|config| config.pointer("/gateway/port")?.as_u64());
    match port.and_then(|port| u16::try_from(port).ok()) {
        Some(port) => Ok(SocketAddr::new(IpAddr::from([127, 0, 0, 1]), port)),
        None => free().await,
    }
}

fn write_tokens(dir: &Path, issuer: &Issuer) -> Result<(), String> {
    ACCOUNTS.into_iter().try_for_each(|account| {
        write_private(
            &dir.join(format!("{account}.token")),
            &issuer.access_token(account),
        )
    })
}

/// Writes a file that is for nobody else, at once: whoever reads it has the old one or the new one.
fn write_private(path: &Path, text: &str) -> Result<(), String> {
    let draft = path.with_extension("new");
    let write = || {
        let mut file = fs::File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&draft, path)
    };
    write().map_err(|error| format!("{}: {error}", path.display()))
}
