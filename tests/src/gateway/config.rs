//! A configuration that works with the shared servers.

use std::{fmt::Write, fs, net::SocketAddr, path::Path};

use crate::{
    error::{Error, Result},
    issuer::{AUDIENCE, CLIENT_ID, CLIENT_SECRET},
    kit::Kit,
    openclaw::USER_HEADER,
    port::free_address,
    provider::{ANTHROPIC_MODEL, EMBEDDING_MODEL, MODELS},
    secret,
};

/// The file with everything that is not in a store of several gateways.
pub(crate) const STORE: &str = "gateway.db";

/// A configuration file's text, and the addresses that are in it.
///
/// A test that wants another one edits the text, or writes its own.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// `[server] public`.
    pub public: SocketAddr,
    /// `[server] egress`.
    pub egress: SocketAddr,
    /// `[server] admin`.
    pub admin: SocketAddr,
    /// The file.
    pub text: String,
    /// Variables of its environment, beside those of every gateway under test.
    pub env: Vec<(String, String)>,
}

impl Config {
    /// One gateway before the shared pool instance, with everything it keeps and its secrets below
    /// `dir`, on free ports, with limits that no test meets by accident.
    ///
    /// Test models cost 3 USD per million input tokens, 0.30 from the cache, 3.75 put into it, and 15 of output.
    ///
    /// # Errors
    ///
    /// [`Error::File`] when a secret cannot be written, [`Error::Connection`] without a free port.
    pub fn new(kit: &Kit, dir: &Path) -> Result<Self> {
        let (public, egress, admin) = (free_address()?, free_address()?, free_address()?);
        let client_secret = file(dir, "client-secret", CLIENT_SECRET)?;
        let provider_key = file(dir, "provider-key", &kit.provider_key)?;
        let mut text = format!(
            r#"[server]
public = "{public}"
public_url = "http://{public}"
egress = "{egress}"
admin = "{admin}"
shutdown_timeout = "10s"

[[issuer]]
alias = "corp"
url = "{issuer}"
audience = "{AUDIENCE}"
client_id = "{CLIENT_ID}"
client_secret_file = "{client_secret}"
roles_claim = "groups"
token_type = "at+jwt"

[roles]
admin = ["openclaw-admins"]

[store]
path = "{store}"

[workspace]
root = "{root}"

[[instance]]
name = "pool-1"
url = "{openclaw}"
mode = "pool"
auth = {{ kind = "trusted-proxy", user_header = "{USER_HEADER}", password = "{password}" }}

[[provider]]
name = "openai"
kind = "openai"
base_url = "{provider}/v1"
api_key_file = "{provider_key}"
models = [{models}]

[plan.default]
tokens_per_day = 2_000_000
cost_per_month = "100.00"
calls_per_day = 2_000
time_zone = "UTC"
"#,
            issuer = kit.issuer,
            store = dir.join(STORE).display(),
            root = dir.join("users").display(),
            openclaw = kit.openclaw,
            password = kit.openclaw_password,
            provider = kit.provider,
            models = MODELS.map(|id| format!("{{ id = \"{id}\" }}")).join(", "),
        );
        for model in MODELS {
            // Writing to a String does not fail.
            let _ = write!(
                text,
                "\n[[price]]\nmodel = \"{model}\"\ninput = \"3.00\"\noutput = \"15.00\"\n\
                 cache_read = \"0.30\"\ncache_write = \"3.75\"\nfrom = \"2025-01-01\"\n",
            );
        }
        Ok(Self {
            public,
            egress,
            admin,
            text,
            env: Vec::new(),
        })
    }

    /// This configuration, with a model for embeddings too, and a provider `anthropic` with a model that costs the same.
    ///
    /// # Errors
    ///
    /// [`Error::File`] when a secret cannot be written.
    pub fn with_every_api(mut self, kit: &Kit, dir: &Path) -> Result<Self> {
        let model = |id: &str| format!("{{ id = \"{id}\" }}");
        let last = model(MODELS[MODELS.len() - 1]);
        let more = format!("{last}, {{ id = \"{EMBEDDING_MODEL}\", max_output_tokens = 0 }}");
        self.text = self.text.replacen(&last, &more, 1);
        // Writing to a String does not fail.
        let _ = write!(
            self.text,
            r#"
[[provider]]
name = "anthropic"
kind = "anthropic"
base_url = "{provider}"
api_key_file = "{key}"
models = [{model}]

[[price]]
model = "{EMBEDDING_MODEL}"
input = "3.00"
output = "15.00"

[[price]]
model = "{ANTHROPIC_MODEL}"
input = "3.00"
output = "15.00"
cache_read = "0.30"
cache_write = "3.75"
"#,
            provider = kit.provider,
            key = file(dir, "anthropic-key", &kit.provider_key)?,
            model = model(ANTHROPIC_MODEL),
        );
        Ok(self)
    }

    /// This configuration, with sessions in a store that several gateways can share, by its URL, and a key
    /// of its own.
    ///
    /// # Errors
    ///
    /// [`Error::Unexpected`] when the system has no random numbers.
    pub fn sharing_sessions(mut self, store_url: &str) -> Result<Self> {
        let key = secret::hex_key()?;
        // Writing to a String does not fail.
        let _ = write!(
            self.text,
            "\n[session]\nstore_url = \"{store_url}\"\nkey = \"{key}\"\n"
        );
        Ok(self)
    }

    /// This configuration, with everything in a Postgres that several gateways can share, by its URL, but counters and
    /// sessions in a Redis, if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::Unexpected`] when the system has no random numbers.
    pub fn sharing_store(mut self, database_url: &str, redis_url: Option<&str>) -> Result<Self> {
        let mut store = format!("[store]\ndatabase_url = \"{database_url}\"\n");
        if let Some(url) = redis_url {
            // Writing to a String does not fail.
            let _ = writeln!(store, "redis_url = \"{url}\"");
        }
        self.text = self.text.replacen("[store]\n", &store, 1);
        let key = secret::hex_key()?;
        let _ = write!(self.text, "\n[session]\nkey = \"{key}\"\n");
        Ok(self)
    }

    /// This configuration, with counters and sessions in a Redis that several gateways can share, by its URL; each has a
    /// store of its own beside it.
    ///
    /// # Errors
    ///
    /// [`Error::Unexpected`] when the system has no random numbers.
    pub fn sharing_redis(mut self, redis_url: &str) -> Result<Self> {
        let store = format!("[store]\nredis_url = \"{redis_url}\"\n");
        self.text = self.text.replacen("[store]\n", &store, 1);
        let key = secret::hex_key()?;
        let _ = write!(self.text, "\n[session]\nkey = \"{key}\"\n");
        Ok(self)
    }

    /// The same gateway once more, on ports of its own and with a store of its own in `dir`: one of several
    /// behind one `public_url`. What they share has to be [shared](Self::sharing_sessions).
    ///
    /// # Errors
    ///
    /// [`Error::Connection`] without a free port.
    pub fn replica(&self, dir: &Path) -> Result<Self> {
        let (public, egress, admin) = (free_address()?, free_address()?, free_address()?);
        let mut text = self.text.clone();
        for (name, old, new) in [
            ("public", self.public, public),
            ("egress", self.egress, egress),
            ("admin", self.admin, admin),
        ] {
            let line = |address| format!("\n{name} = \"{address}\"\n");
            text = text.replacen(&line(old), &line(new), 1);
        }
        let store = format!("path = \"{}\"", dir.join(STORE).display());
        let lines = text.lines().map(|line| match line.strip_prefix("path = ") {
            Some(_) => store.as_str(),
            None => line,
        });
        let text = lines.flat_map(|line| [line, "\n"]).collect();
        Ok(Self {
            public,
            egress,
            admin,
            text,
            env: self.env.clone(),
        })
    }
}

fn file(dir: &Path, name: &str, content: &str) -> Result<String> {
    let path = dir.join(name);
    fs::write(&path, content).map_err(|source| Error::File {
        path: path.clone(),
        source,
    })?;
    Ok(path.display().to_string())
}
