//! `gateway quotas` at a running `gateway serve`, whose instance, issuer and provider are not there.

#![expect(
    clippy::unwrap_used,
    reason = "a gateway that does not start is a failed test"
)]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use gateway::store::Store;
use serde_json::Value;
use tokio::process::{Child, Command};
use tower_quota::Terms;
use tower_usage::sqlite::{LedgerOptions, SqliteLedger};
use tower_usage::{Operation, Sink, UsageRecord};

const READY_LIMIT: Duration = Duration::from_secs(60);

/// A directory with a configuration, and the gateway that runs by it.
struct Fixture {
    dir: tempfile::TempDir,
    gateway: Option<Child>,
}

impl Fixture {
    fn new() -> Self {
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
        );
        fs::write(dir.path().join("gateway.toml"), text).unwrap();
        fs::write(dir.path().join("key"), "unused").unwrap();
        Self { dir, gateway: None }
    }

    async fn start(&mut self) {
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
    async fn kill(&mut self) {
        self.gateway.as_mut().unwrap().kill().await.unwrap();
    }

    async fn stop(&mut self) {
        let gateway = self.gateway.as_mut().unwrap();
        let id = gateway.id().and_then(|id| i32::try_from(id).ok());
        let id = id.and_then(rustix::process::Pid::from_raw).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        assert!(gateway.wait().await.unwrap().success());
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("gateway.sock")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("gateway.log")).unwrap()
    }

    async fn quotas(&self, arguments: &[&str]) -> Output {
        let run = command(self.dir.path())
            .arg("quotas")
            .args(arguments)
            .output();
        run.await.unwrap()
    }

    /// What a command prints that does what it says.
    async fn say(&self, arguments: &[&str]) -> String {
        let done = self.quotas(arguments).await;
        let error = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{arguments:?}: {error}");
        String::from_utf8(done.stdout).unwrap()
    }

    async fn json(&self, arguments: &[&str]) -> Value {
        let said = self.say(&[arguments, &["--json"]].concat()).await;
        serde_json::from_str(&said).unwrap()
    }

    /// The exit code and the message of a command that does not.
    async fn refusal(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let refused = self.quotas(arguments).await;
        let message = String::from_utf8(refused.stderr).unwrap();
        (refused.status.code(), message)
    }
}

fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
    command.current_dir(dir).env_clear().kill_on_drop(true);
    command
}

fn free() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

#[tokio::test]
async fn quotas_are_set_shown_granted_and_reset_by_the_socket() {
    let mut fixture = Fixture::new();
    let (code, said) = fixture.refusal(&["show", "alice"]).await;
    let nobody = format!(
        "no gateway listens at {}; is `gateway serve` running?",
        fixture.socket().display()
    );
    assert!(code == Some(1) && said.contains(&nobody), "{said}");
    fixture.start().await;
    let file = fs::symlink_metadata(fixture.socket()).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!(file.permissions().mode() & 0o7777, 0o600);
    let none = fixture.say(&["list"]).await;
    assert_eq!(none, "nobody has anything beside their plan\n");

    let odd = "corp|a/b ?#%é";
    fixture
        .say(&["set", odd, "calls/day=0", "time-zone=Europe/Berlin"])
        .await;
    let shown = fixture
        .say(&["set", odd, "plan=pro", "calls/hour=unlimited"])
        .await;
    assert!(shown.contains("calls/day   0"), "as before: {shown}");
    assert!(shown.contains("cost/month  $10.00"), "{shown}");
    let listed = fixture.say(&["list"]).await;
    let line = format!("{odd}  pro   Europe/Berlin  calls/day=0 calls/hour=unlimited  -");
    assert!(listed.contains(&line), "{listed}");
    let explained = fixture.say(&["explain", odd]).await;
    let sentence =
        "a run would be refused now:\n  Daily call limit exceeded (0 / 0 calls). Resets at ";
    assert!(explained.contains(sentence), "{explained}");

    let granted = fixture
        .say(&["grant", odd, "calls/day=3", "--for", "7d"])
        .await;
    assert!(granted.contains("calls/day  3       20"), "{granted}");
    let explained = fixture.json(&["explain", odd]).await;
    assert_eq!(explained["run"]["allowed"], true);
    let version = fixture.json(&["show", odd]).await["version"].as_u64();
    let reset = fixture.json(&["reset", odd]).await;
    assert_eq!(
        reset["version"].as_u64(),
        version.map(|version| version + 1)
    );
    assert_eq!(
        (&reset["plan"], &reset["timeZone"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(
        fixture.json(&["list"]).await["quotas"],
        Value::Array(vec![])
    );

    // What the gateway refuses, and what is not even sent.
    let (code, said) = fixture.refusal(&["set", odd, "plan=none"]).await;
    assert_eq!(code, Some(1));
    assert!(
        said.contains("plan: must be one that the configuration has"),
        "{said}"
    );
    for (arguments, named) in [
        (
            &["set", odd, "tokens/day=1", "tokens/day=2"][..],
            "tokens/day is named twice",
        ),
        (&["set", odd, "tokens/week=1"], "<CHANGE>"),
        (&["list", "--config", "none.toml"], "cannot read none.toml"),
    ] {
        let (code, said) = fixture.refusal(arguments).await;
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(named), "{said}");
    }
    assert_eq!(
        fixture.json(&["list"]).await["quotas"],
        Value::Array(vec![])
    );
    let by = format!("by=operator:{}", rustix::process::geteuid().as_raw());
    assert!(fixture.log().contains(&by), "{}", fixture.log());
    fixture.stop().await;
    assert!(!fixture.socket().exists());
}

#[tokio::test]
async fn of_several_who_change_the_same_quota_nobody_is_forgotten_and_a_crash_forgets_nothing() {
    let mut fixture = Fixture::new();
    fixture.start().await;
    let set = async |change| fixture.say(&["set", "alice", change]).await;
    tokio::join!(
        set("tokens/minute=1"),
        set("tokens/hour=2"),
        set("calls/minute=3"),
        set("plan=pro"),
    );
    let before = fixture.json(&["show", "alice"]).await;
    assert_eq!(before["limits"].as_array().map(Vec::len), Some(3));
    assert_eq!(before["plan"], "pro");

    fixture.kill().await;
    assert!(fixture.socket().exists(), "nobody has removed it");
    let (code, said) = fixture.refusal(&["list"]).await;
    assert!(
        code == Some(1) && said.contains("no gateway listens at"),
        "{said}"
    );
    fixture.start().await;
    let after = fixture.json(&["show", "alice"]).await;
    assert_eq!(
        (&after["plan"], &after["limits"]),
        (&before["plan"], &before["limits"])
    );
    let file = fs::symlink_metadata(fixture.socket()).unwrap();
    assert_eq!(file.permissions().mode() & 0o7777, 0o600);
}

#[tokio::test]
async fn who_has_used_everything_goes_on_after_a_reset_of_what_is_used() {
    let mut fixture = Fixture::new();
    let ledger = SqliteLedger::open(fixture.dir.path().join("gateway.db"), LedgerOptions::new());
    let ledger = ledger.unwrap();
    let mut record = UsageRecord::new("alice".into(), Operation::Run);
    record.tokens.input = Some(1_000);
    ledger.admit().expect("an empty ledger has room");
    ledger.record(record);
    ledger.close().await.unwrap();
    drop(ledger);
    fixture.start().await;
    let explained = fixture.say(&["explain", "alice"]).await;
    let sentence = "Daily token limit exceeded (1000 / 500 tokens).";
    assert!(explained.contains(sentence), "{explained}");

    for again in [false, true] {
        let reset = fixture.json(&["reset", "alice", "--used"]).await;
        let tokens = &reset["standing"][0];
        assert_eq!(tokens["dimension"], "tokens");
        assert_eq!(
            (&tokens["limit"], &tokens["used"], &tokens["remaining"]),
            (&1_500.into(), &1_000.into(), &500.into()),
            "again: {again}"
        );
        let grants = reset["grants"].as_array().unwrap();
        assert_eq!(grants.len(), 2, "tokens and calls: {reset}");
        assert_eq!(grants[0]["expiresAt"], tokens["resetsAt"]);
    }
    let explained = fixture.say(&["explain", "alice"]).await;
    assert!(explained.contains("a run would begin now"), "{explained}");
}

#[tokio::test]
async fn everybody_is_listed_however_many_they_are() {
    let mut fixture = Fixture::new();
    let store = Store::open(&fixture.dir.path().join("gateway.db")).unwrap();
    let users: Vec<String> = (0..401).map(|n| format!("user-{n:03}&é")).collect();
    for user in &users {
        let terms = Terms::default().plan("pro");
        store
            .put_terms(&user.as_str().into(), &terms)
            .await
            .unwrap();
    }
    drop(store);
    fixture.start().await;
    let listed = fixture.json(&["list"]).await;
    let listed = listed["quotas"].as_array().into_iter().flatten();
    assert!(listed.map(|quota| &quota["user"]).eq(&users));
}
