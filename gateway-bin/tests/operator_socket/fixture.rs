use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use gateway::operator::{ClientError, OperatorClient};
use http::Method;
use serde_json::Value;
use tokio::process::{Child, Command};

pub(crate) const READY_LIMIT: Duration = Duration::from_secs(60);

/// A directory with a configuration, and the gateway that runs by it.
pub(crate) struct Fixture {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) gateway: Option<Child>,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("users");
        let text = format!(
            r#"[server]
public = "{public}"
public_url = "http://{public}"
egress = "{egress}"

[[issuer]]
alias = "corp"
url = "http://127.0.0.1:1"
audience = "openclaw"

[store]
path = "{store}"

[workspace]
root = "{root}"
master_key_file = "{master}"

[[instance]]
name = "pool-1"
url = "http://127.0.0.1:1"
auth = {{ kind = "trusted-proxy", password = "unused" }}

[[provider]]
name = "openai"
kind = "openai"
base_url = "http://127.0.0.1:1/v1"
api_key_file = "{key}"
models = [{{ id = "m" }}]

[[price]]
model = "m"
input = "1.00"
output = "1.00"

[plan.default]
tokens_per_day = 500
calls_per_day = 2_000

[plan.pro]
cost_per_month = "10.00"
"#,
            public = free(),
            egress = free(),
            store = dir.path().join("gateway.db").display(),
            root = root.display(),
            key = dir.path().join("key").display(),
            master = dir.path().join("master").display(),
        );
        fs::write(dir.path().join("gateway.toml"), text).unwrap();
        fs::write(dir.path().join("key"), "unused").unwrap();
        fs::write(dir.path().join("master"), "ab".repeat(32)).unwrap();
        Self { dir, gateway: None }
    }

    pub(crate) async fn start(&mut self) {
        let log = self.dir.path().join("gateway.log");
        let log = fs::File::options().create(true).append(true).open(log);
        let gateway = command(self.dir.path())
            .args(["serve", "--config", "gateway.toml"])
            .stderr(log.unwrap())
            .spawn();
        self.gateway = Some(gateway.unwrap());
        let ready = async {
            while !self.quotas(&["list"]).await.status.success() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let ready = tokio::time::timeout(READY_LIMIT, ready).await;
        assert!(ready.is_ok(), "{}", self.log());
    }

    /// As a crash does.
    pub(crate) async fn kill(&mut self) {
        self.gateway.as_mut().unwrap().kill().await.unwrap();
    }

    pub(crate) async fn stop(&mut self) {
        self.signal(rustix::process::Signal::TERM);
        let gateway = self.gateway.as_mut().unwrap();
        assert!(gateway.wait().await.unwrap().success());
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let id = self.gateway.as_ref().unwrap().id();
        let id = id.and_then(|id| i32::try_from(id).ok());
        let id = id.and_then(rustix::process::Pid::from_raw).unwrap();
        rustix::process::kill_process(id, signal).unwrap();
    }

    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, String> {
        let client = OperatorClient::new(self.socket()).within(Duration::from_secs(60));
        let answer = client.request(method, path, body).await;
        answer.map_err(|error| match error {
            ClientError::Refused { code, .. } => code,
            error => error.to_string(),
        })
    }

    /// What was done, the earliest first, as action, result and what is asked for besides.
    pub(crate) async fn acts(&self, filter: &str) -> Vec<Value> {
        let path = format!("/api/admin/audit{filter}");
        let answer = self.ask(Method::GET, &path, None).await.unwrap();
        let mut rows = answer
            .get("audit")
            .and_then(Value::as_array)
            .cloned()
            .unwrap();
        rows.reverse();
        rows
    }

    pub(crate) fn sql(&self, sql: &str) {
        let store = rusqlite::Connection::open(self.dir.path().join("gateway.db")).unwrap();
        store.busy_timeout(Duration::from_secs(10)).unwrap();
        store.execute_batch(sql).unwrap();
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("gateway.sock")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("gateway.log")).unwrap()
    }

    pub(crate) async fn quotas(&self, arguments: &[&str]) -> Output {
        let run = command(self.dir.path())
            .arg("quotas")
            .args(arguments)
            .output();
        run.await.unwrap()
    }

    /// What a command prints that does what it says.
    pub(crate) async fn say(&self, arguments: &[&str]) -> String {
        let done = self.quotas(arguments).await;
        let error = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{arguments:?}: {error}");
        String::from_utf8(done.stdout).unwrap()
    }

    pub(crate) async fn json(&self, arguments: &[&str]) -> Value {
        let said = self.say(&[arguments, &["--json"]].concat()).await;
        serde_json::from_str(&said).unwrap()
    }

    /// The exit code and the message of a command that does not.
    pub(crate) async fn refusal(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let refused = self.quotas(arguments).await;
        let message = String::from_utf8(refused.stderr).unwrap();
        (refused.status.code(), message)
    }
}

pub(crate) fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
    command.current_dir(dir).env_clear().kill_on_drop(true);
    command
}

fn free() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}
