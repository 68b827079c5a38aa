//! The configuration file `gateway.toml`, as written by an operator.
//!
//! Unknown keys are errors that name the key and the line. Every secret can stand in a file of its own (`*_file`).
//! [`load`](load::load) reads the file, applies the environment, reads the secrets and checks what one key alone
//! cannot say.

mod alerts;
mod cell;
mod cells;
mod check;
pub(crate) mod duration;
mod load;
mod log;
mod prices;
mod secret;
mod telemetry;
mod tls;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tower_usage::NanoUsd;
use tower_workspace::fs::Templates;
use tower_workspace::vault::MasterKeys;

pub use self::alerts::Alerts;
pub use self::cells::{Cells, OsUsers};
pub(crate) use self::check::instance as check_instance;
pub(crate) use self::check::is_loopback;
pub use self::load::{ConfigError, load, read};
pub use self::log::Log;
pub(crate) use self::log::VARIABLE as LOG_VARIABLE;
pub use self::prices::{Day, Price, Prices, UnknownModel, Usage, UsdPerMillion};
pub use self::secret::Secret;
pub use self::telemetry::Telemetry;
pub use self::tls::Tls;

/// Everything `gateway.toml` says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// Listeners and what the outside calls us.
    pub server: Server,
    /// Who signs tokens; the first one is the primary issuer.
    #[serde(default)]
    pub issuer: Vec<Issuer>,
    /// Roles and the values of the issuer's roles claim that give them.
    #[serde(default)]
    pub roles: BTreeMap<String, Vec<String>>,
    /// How long people stay signed in, and where that is kept.
    #[serde(default)]
    pub session: Session,
    /// Where the gateway keeps its own state.
    #[serde(default)]
    pub store: Store,
    /// Where people's workspaces lie.
    pub workspace: Workspace,
    /// OpenClaw gateways behind us.
    #[serde(default)]
    pub instance: Vec<Instance>,
    /// Which instance somebody is sent to.
    #[serde(default)]
    pub routing: Routing,
    /// Spawned instances, one for each user.
    pub cells: Option<Cells>,
    /// Model providers for egress.
    #[serde(default)]
    pub provider: Vec<Provider>,
    /// Quotas by plan; everybody has the plan `default`.
    #[serde(default)]
    pub plan: BTreeMap<String, Plan>,
    /// How quotas are enforced.
    #[serde(default)]
    pub quota: Quota,
    /// Where alerts are delivered.
    #[serde(default)]
    pub alerts: Alerts,
    /// Prices of models.
    #[serde(default)]
    pub price: Vec<Price>,
    /// Prices of models that are not among those.
    #[serde(default)]
    pub prices: Prices,
    /// What becomes of records beside the ledger.
    #[serde(default)]
    pub usage: Usage,
    /// What is logged.
    #[serde(default)]
    pub log: Log,
    /// Where traces go.
    #[serde(default)]
    pub telemetry: Telemetry,
}

impl Config {
    /// Where sessions are kept that several gateways share, and which key says so; `None`: in the SQLite file.
    #[must_use]
    pub fn session_store(&self) -> Option<(&'static str, &Secret)> {
        let keys = [
            ("session.store_url", &self.session.store_url),
            ("store.redis_url", &self.store.redis_url),
            ("store.database_url", &self.store.database_url),
        ];
        let mut keys = keys.into_iter();
        keys.find_map(|(key, url)| Some((key, url.as_ref()?)))
    }

    /// Where the cells have their directories, if there are any.
    #[must_use]
    pub fn cells_dir(&self) -> Option<PathBuf> {
        let cells = self.cells.as_ref()?;
        let store = self.store.path.as_deref();
        let store = store.unwrap_or(Path::new("gateway.db"));
        Some(match &cells.dir {
            Some(dir) => dir.clone(),
            None => store.with_extension("cells"),
        })
    }

    /// Where the command line reaches a gateway with this configuration.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        let store = self.store.path.as_deref();
        self.server.socket.clone().unwrap_or_else(|| {
            store
                .unwrap_or(Path::new("gateway.db"))
                .with_extension("sock")
        })
    }
}

/// `[server]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Server {
    /// Address of the public listener: people's HTTP and WebSocket traffic.
    pub public: SocketAddr,
    /// Origin under which browsers know the public listener, for example `https://openclaw.example.com`.
    pub public_url: String,
    /// Address of the listener for instances; absent: no egress plane.
    pub egress: Option<SocketAddr>,
    /// URL under which instances reach the egress listener; default: `http://` and its address.
    pub egress_url: Option<String>,
    /// Address of the listener for metrics and health.
    pub admin: Option<SocketAddr>,
    /// Unix socket of the command line; default: beside the SQLite file, with the extension `sock`.
    pub socket: Option<PathBuf>,
    /// How long what is open may take to end when the gateway is told to stop, like `"60s"`, the default. Whatever stops
    /// it must give it half a minute more.
    #[serde(
        default = "default_shutdown_timeout",
        deserialize_with = "duration::deserialize"
    )]
    pub shutdown_timeout: Duration,
    /// Networks whose `X-Forwarded-For` counts.
    #[serde(default)]
    pub trusted_proxies: Vec<String>,
    /// Further origins of browser applications.
    #[serde(default)]
    pub allowed_origins: Vec<String>,
    /// Certificate of the public listener; absent: it speaks in clear, to a proxy that has one.
    pub tls: Option<Tls>,
}

/// `[[issuer]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Issuer {
    /// Short name, used in the user ids of issuers that are not the primary one.
    pub alias: String,
    /// What it is; default: any OpenID Connect provider.
    #[serde(default)]
    pub kind: IssuerKind,
    /// Name on the sign-in page; default: the alias.
    pub name: Option<String>,
    /// Issuer identifier; compared byte for byte with the discovery document's and the token's. Only GitHub has one of
    /// its own.
    #[serde(default)]
    pub url: String,
    /// What the token's `aud` must hold. GitHub's tokens have none.
    #[serde(default)]
    pub audience: String,
    /// Client for sign-in in a browser; absent: nobody signs in through this issuer, its tokens are taken all the same.
    pub client_id: Option<String>,
    /// Secret of that client.
    pub client_secret: Option<Secret>,
    /// File that holds the secret.
    pub client_secret_file: Option<PathBuf>,
    /// What is asked for at sign-in, in place of `openid profile email`.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Claim whose values give roles.
    pub roles_claim: Option<String>,
    /// Media type that `typ` must name, for example `at+jwt` (RFC 9068); absent: not checked.
    pub token_type: Option<String>,
    /// Whether its access tokens are opaque, so that it is asked about each (RFC 7662), as `client_id`.
    #[serde(default)]
    pub introspection: bool,
    /// Whether somebody who signs in here with a verified e-mail address is the one user of the primary issuer who has
    /// the same one, verified there. Only for an issuer that gives nobody an address that is not theirs.
    #[serde(default)]
    pub link_verified_email: bool,
}

/// `kind` of an issuer: what about it differs from the standard.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum IssuerKind {
    /// Any OpenID Connect provider.
    #[default]
    Oidc,
    /// Auth0.
    Auth0,
    /// Microsoft Entra ID.
    Entra,
    /// GitHub: OAuth 2.0 without OpenID Connect; tokens are opaque.
    Github,
    /// Google.
    Google,
    /// Keycloak.
    Keycloak,
    /// Okta.
    Okta,
}

/// `[session]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Session {
    /// How long somebody who does nothing stays signed in, like `"12h"`.
    #[serde(default = "default_idle", deserialize_with = "duration::deserialize")]
    pub idle: Duration,
    /// How long somebody stays signed in at most, like `"7d"`.
    #[serde(
        default = "default_lifetime",
        deserialize_with = "duration::deserialize"
    )]
    pub lifetime: Duration,
    /// Where sessions and personal access tokens are kept that several gateways share: `redis://…` or `postgres://…`;
    /// absent: where `[store]` says.
    pub store_url: Option<Secret>,
    /// File that holds that URL.
    pub store_url_file: Option<PathBuf>,
    /// Keys that seal cookies and sessions, a line each of 64 hexadecimal digits: the first one seals, all open. Several
    /// gateways need the same; absent: one is made and kept in `[store]`.
    pub key: Option<Secret>,
    /// File that holds the keys.
    pub key_file: Option<PathBuf>,
}

impl Session {
    /// The keys that seal, the first one first; none: one is to be made.
    ///
    /// # Errors
    ///
    /// A line is not a key.
    pub fn keys(&self) -> Result<Vec<[u8; 32]>, ConfigError> {
        let lines = self.key.iter().flat_map(|keys| keys.expose().lines());
        let lines = lines.map(str::trim).filter(|line| !line.is_empty());
        lines
            .map(|line| {
                hex_key(line).ok_or_else(|| {
                    ConfigError::invalid(
                        "session.key",
                        "each line must be 64 hexadecimal digits; `openssl rand -hex 32` makes one",
                    )
                })
            })
            .collect()
    }
}

fn hex_key(line: &str) -> Option<[u8; 32]> {
    if line.len() != 64 || !line.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut key = [0; 32];
    for (n, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(line.get(2 * n..2 * n + 2)?, 16).ok()?;
    }
    Some(key)
}

impl Default for Session {
    fn default() -> Self {
        Self {
            idle: default_idle(),
            lifetime: default_lifetime(),
            store_url: None,
            store_url_file: None,
            key: None,
            key_file: None,
        }
    }
}

/// `[store]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Store {
    /// SQLite file; default `gateway.db`. Whatever else there is, the ledger of this gateway is in it, so each gateway needs
    /// its own.
    pub path: Option<PathBuf>,
    /// Postgres for everything but the ledger, so that several gateways share it: `postgres://…`.
    pub database_url: Option<Secret>,
    /// File that holds that URL.
    pub database_url_file: Option<PathBuf>,
    /// Redis for counters and sessions: `redis://…`, `redis-cluster://…` for a Cluster.
    pub redis_url: Option<Secret>,
    /// File that holds that URL.
    pub redis_url_file: Option<PathBuf>,
}

/// `[workspace]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Workspace {
    /// Directory that holds a directory for each user.
    pub root: PathBuf,
    /// Name of the operating-system user that the instances run as; default: ours.
    pub owner: Option<String>,
    /// Folder of files that everybody finds in their workspace, beside or in place of our `IDENTITY.md` and `AGENTS.md`;
    /// those that end in `.md`, `.yml` or `.yaml` may have placeholders such as `{{name}}`. It is read at the start. What
    /// somebody has already stays as it is.
    pub templates: Option<PathBuf>,
    /// Whether everybody's tools run in a sandbox or not at all, as of those who ask for one; of people who were here before,
    /// from when they come next.
    #[serde(default)]
    pub require_sandbox: bool,
    /// File that holds the keys that seal people's own provider keys, one in each line: 64 hexadecimal digits
    /// (`openssl rand -hex 32` makes one). The first seals, all open. Without it nobody can have a key of their own.
    pub master_key_file: Option<PathBuf>,
    /// What is in it.
    #[serde(skip)]
    pub master_key: Option<Secret>,
    /// How often a snapshot is taken of each person, like `"24h"`; absent or `"0"`: by request alone.
    #[serde(default, deserialize_with = "duration::deserialize_or_none")]
    pub snapshot_every: Option<Duration>,
    /// How long snapshots are kept, like `"30d"`.
    #[serde(
        default = "default_snapshot_keep",
        deserialize_with = "duration::deserialize"
    )]
    pub snapshot_keep: Duration,
}

impl Workspace {
    /// The files that everybody finds in their workspace, read now.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`], which names the file.
    pub fn read_templates(&self) -> Result<Templates, ConfigError> {
        let read = self.templates.as_ref().map(Templates::read).transpose();
        let read =
            read.map_err(|error| ConfigError::invalid("workspace.templates", error.to_string()))?;
        Ok(read.unwrap_or_default())
    }

    /// The keys that seal, if there are any.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`], which names the line.
    pub fn master_keys(&self) -> Result<Option<MasterKeys>, ConfigError> {
        let keys = self.master_key.as_ref();
        let keys = keys
            .map(|keys| MasterKeys::parse(keys.expose()))
            .transpose();
        keys.map_err(|error| ConfigError::invalid("workspace.master_key_file", error.to_string()))
    }
}

/// `[[instance]]`
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Instance {
    /// Name, unique among the instances.
    pub name: String,
    /// `http://` URL of the OpenClaw gateway.
    pub url: String,
    /// Shared by many, or one user's own.
    #[serde(default)]
    pub mode: InstanceMode,
    /// The user whose a cell is, by their id.
    pub user: Option<String>,
    /// How many users a pool instance takes; a cell takes its own.
    #[serde(default = "default_capacity")]
    pub capacity: u32,
    /// Where the instance sees the workspace root, if elsewhere.
    pub workspace_root: Option<PathBuf>,
    /// How the gateway signs in to the instance.
    pub auth: InstanceAuth,
    /// `Origin` that our connections name; must stand in the instance's `gateway.controlUi.allowedOrigins`.
    #[serde(default = "default_origin")]
    pub origin: String,
    /// Whether the instance runs the patched OpenClaw whose `chat.send` takes `workspaceDir` and `authProfileId`; others
    /// refuse every message with them.
    #[serde(default)]
    pub extended_chat_params: bool,
    /// The operating-system user that somebody's tools run as on the instance's sandbox host, with `{slot}` for the name of
    /// their slot.
    pub sandbox_user: Option<String>,
    /// How its model calls are metered.
    #[serde(default)]
    pub metering: Metering,
}

impl Instance {
    /// Whose cell it is; `None`: it is a pool.
    #[must_use]
    pub fn owner(&self) -> Option<&str> {
        let user = self.user.as_deref();
        user.filter(|_| self.mode == InstanceMode::Cell)
    }

    /// How many people it takes.
    #[must_use]
    pub fn places(&self) -> u32 {
        match self.mode {
            InstanceMode::Pool => self.capacity,
            InstanceMode::Cell => 1,
        }
    }
}

/// `metering` of an instance.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Metering {
    /// They go through egress: counted to the token, and refused when nothing is left.
    #[default]
    Egress,
    /// The instance calls its own providers, and what it announces is charged afterwards: limits may be overshot, and a
    /// call that was aborted or failed has no tokens.
    Observed,
}

/// `mode` of an instance.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum InstanceMode {
    /// Shared by a team.
    #[default]
    Pool,
    /// One user's own.
    Cell,
}

/// `auth` of an instance.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum InstanceAuth {
    /// The instance takes the user from a header of ours (OpenClaw's `gateway.auth.mode: "trusted-proxy"`).
    TrustedProxy {
        /// The header, as in the instance's `gateway.auth.trustedProxy.userHeader`.
        #[serde(default = "default_user_header")]
        user_header: String,
        /// Further headers that the instance requires, with their values.
        #[serde(default)]
        headers: BTreeMap<String, Secret>,
        /// Password of the administration channel (`gateway.auth.password`).
        password: Option<Secret>,
        /// File that holds the password.
        password_file: Option<PathBuf>,
    },
    /// The instance knows one shared password.
    Password {
        /// The password.
        password: Option<Secret>,
        /// File that holds the password.
        password_file: Option<PathBuf>,
    },
}

/// `[routing]`
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Routing {
    /// What becomes of people whose instance is away or is drained.
    #[serde(default)]
    pub affinity: Affinity,
    /// How many connections for people must fail within `fail_timeout` until nobody new is sent to an instance for as
    /// long, if there is another one; 0: never.
    #[serde(default = "default_max_fails")]
    pub max_fails: u32,
    /// That time, like `"30s"`.
    #[serde(
        default = "default_fail_timeout",
        deserialize_with = "duration::deserialize"
    )]
    pub fail_timeout: Duration,
}

impl Default for Routing {
    fn default() -> Self {
        Self {
            affinity: Affinity::default(),
            max_fails: default_max_fails(),
            fail_timeout: default_fail_timeout(),
        }
    }
}

/// `affinity` of `[routing]`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Affinity {
    /// They wait for it, and are told so: their conversations are there.
    #[default]
    Required,
    /// They get a place on another one, with their files and without their conversations.
    Preferred,
}

/// `[[provider]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Provider {
    /// Name, unique among the providers.
    pub name: String,
    /// Protocol it speaks.
    pub kind: ProviderKind,
    /// URL below which its API lies, for example `https://api.openai.com/v1` or `https://api.anthropic.com`.
    pub base_url: String,
    /// Key that egress adds.
    pub api_key: Option<Secret>,
    /// File that holds the key.
    pub api_key_file: Option<PathBuf>,
    /// Models offered to people; the first one is an agent's default.
    pub models: Vec<Model>,
}

/// Protocol of a provider.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ProviderKind {
    /// OpenAI's: chat completions, responses, embeddings.
    Openai,
    /// Anthropic's: messages.
    Anthropic,
}

/// A model of a provider.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Model {
    /// The provider's name for it.
    pub id: String,
    /// Context window in tokens.
    #[serde(default = "default_context_window")]
    pub context_window: u64,
    /// Most tokens of one answer; 0 for a model that writes nothing (embeddings), which no agent is offered.
    #[serde(default = "default_max_output")]
    pub max_output_tokens: u64,
}

/// `[plan.<name>]`: what a person may use; a key that is absent sets no limit.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Plan {
    /// Tokens in a minute.
    pub tokens_per_minute: Option<u64>,
    /// Tokens in an hour.
    pub tokens_per_hour: Option<u64>,
    /// Tokens in a day.
    pub tokens_per_day: Option<u64>,
    /// Tokens in a month.
    pub tokens_per_month: Option<u64>,
    /// USD in an hour, as a decimal.
    #[serde(default, deserialize_with = "secret::dollars")]
    pub cost_per_hour: Option<NanoUsd>,
    /// USD in a day, as a decimal.
    #[serde(default, deserialize_with = "secret::dollars")]
    pub cost_per_day: Option<NanoUsd>,
    /// USD in a month, as a decimal.
    #[serde(default, deserialize_with = "secret::dollars")]
    pub cost_per_month: Option<NanoUsd>,
    /// Runs in a minute.
    pub calls_per_minute: Option<u64>,
    /// Runs in an hour.
    pub calls_per_hour: Option<u64>,
    /// Runs in a day.
    pub calls_per_day: Option<u64>,
    /// Runs in a month.
    pub calls_per_month: Option<u64>,
    /// Time zone of days and months, by its name in the IANA database; of the default plan, for everybody. Minutes and
    /// hours are those of UTC.
    pub time_zone: Option<String>,
    /// Percentages at which an alert is raised.
    #[serde(default)]
    pub alert_at: Vec<u8>,
}

/// `[quota]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Quota {
    /// What to do when the store does not answer.
    #[serde(default)]
    pub on_store_failure: OnStoreFailure,
    /// Whether refusals are carried out.
    #[serde(default)]
    pub mode: QuotaMode,
}

/// `on_store_failure`
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OnStoreFailure {
    /// Refuse.
    #[default]
    Closed,
    /// Let pass.
    Open,
}

/// `mode` of the quota.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum QuotaMode {
    /// Refuse what is over.
    #[default]
    Enforce,
    /// Decide and report only.
    Shadow,
}

fn default_shutdown_timeout() -> Duration {
    Duration::from_secs(60)
}

fn default_idle() -> Duration {
    Duration::from_secs(12 * 3_600)
}

fn default_lifetime() -> Duration {
    Duration::from_secs(7 * 86_400)
}

/// As nginx has it.
fn default_snapshot_keep() -> Duration {
    Duration::from_secs(30 * 24 * 3_600)
}

const fn default_max_fails() -> u32 {
    3
}

const fn default_fail_timeout() -> Duration {
    Duration::from_secs(30)
}

/// As many people as one OpenClaw process is known to serve.
fn default_capacity() -> u32 {
    150
}

/// What our connections name as their origin unless something else is configured.
pub(crate) const ORIGIN: &str = "https://proxy.internal";

fn default_origin() -> String {
    ORIGIN.to_owned()
}

fn default_user_header() -> String {
    "x-forwarded-user".to_owned()
}

fn default_context_window() -> u64 {
    128_000
}

fn default_max_output() -> u64 {
    8_192
}
