//! A host for the sandboxes of agents: an OpenSSH server of its own, with an operating-system user for each slot.

use std::{
    fmt::Write,
    fs::{self, Permissions},
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::geteuid;
use serde_json::{Value, json};
use tokio::{net::TcpStream, process::Command};

use crate::{
    error::{Error, Result},
    port::free_address,
    process::Process,
    secret,
};

/// The server wants to be started by this path.
const SSHD: &str = "/usr/sbin/sshd";

const READY_LIMIT: Duration = Duration::from_secs(30);

/// How long the making of a key or a user may take.
const LIMIT: Duration = Duration::from_secs(30);

/// A running server, whose users exist as long as it does. Only root can start one.
#[derive(Debug)]
pub struct SandboxHost {
    dir: PathBuf,
    address: SocketAddr,
    prefix: String,
    users: Vec<String>,
    process: Process,
}

impl SandboxHost {
    /// Starts a server with everything in `dir`, which others may come through, and users for the first `slots` slots.
    ///
    /// # Errors
    ///
    /// [`Error::Unexpected`] for whoever is not root, [`Error::File`], [`Error::Run`], [`Error::NotReady`] with the end of
    /// its log.
    pub async fn start(dir: &Path, slots: u32) -> Result<Self> {
        if !geteuid().is_root() {
            let what = "only root can make the users of a sandbox host";
            return Err(Error::unexpected("sandbox host", what));
        }
        let address = free_address()?;
        let file = |source| Error::File {
            path: dir.to_owned(),
            source,
        };
        let dir = dir.canonicalize().map_err(file)?;
        fs::set_permissions(&dir, Permissions::from_mode(0o711)).map_err(file)?;
        // Where the server gives up its rights, and which a package makes at the start of a system.
        fs::create_dir_all("/run/sshd").map_err(file)?;
        for key in ["host", "id"] {
            let mut command = Command::new("ssh-keygen");
            command.args(["-q", "-t", "ed25519", "-N", "", "-f", key]);
            run(command, &dir).await?;
        }
        fs::copy(dir.join("id.pub"), dir.join("authorized_keys")).map_err(file)?;
        let key = fs::read_to_string(dir.join("host.pub")).map_err(file)?;
        let known = format!("[{}]:{} {key}", address.ip(), address.port());
        fs::write(dir.join("known_hosts"), known).map_err(file)?;
        fs::write(dir.join("sshd_config"), config(&dir, address)).map_err(file)?;

        let mark = secret::mark()?;
        let mark = mark.trim_start_matches("mark-");
        let mut host = Self {
            process: serve(&dir)?,
            dir,
            address,
            prefix: format!("t{mark}-"),
            users: Vec::new(),
        };
        for slot in 1..=slots {
            let user = format!("{}slot-{slot:03}", host.prefix);
            let mut command = Command::new("useradd");
            command.args(["--create-home", "--shell", "/bin/sh", "--password", "*"]);
            command
                .arg("--home-dir")
                .arg(host.dir.join(&user))
                .arg(&user);
            host.users.push(user);
            run(command, &host.dir).await?;
        }
        host.ready().await?;
        Ok(host)
    }

    /// `sandbox_user` of an instance that uses it.
    #[must_use]
    pub fn user(&self) -> String {
        format!("{}{{slot}}", self.prefix)
    }

    /// The user of a slot.
    #[must_use]
    pub fn user_of(&self, slot: &str) -> String {
        format!("{}{slot}", self.prefix)
    }

    /// What an instance's configuration must say beside the rest, as a merge patch.
    #[must_use]
    pub fn patch(&self) -> Value {
        json!({"agents": {"defaults": {"sandbox": {"backend": "ssh", "ssh": {
            "target": format!("nobody@{}", self.address),
            "workspaceRoot": self.dir,
            "identityFile": self.dir.join("id"),
            "knownHostsFile": self.dir.join("known_hosts"),
            "updateHostKeys": false,
        }}}}})
    }

    /// Stops the server.
    ///
    /// # Errors
    ///
    /// [`Error::Run`] when it cannot be waited for.
    pub async fn stop(&mut self) -> Result<()> {
        self.process.kill().await.map(|_| ())
    }

    async fn ready(&mut self) -> Result<()> {
        let address = self.address;
        let probe = || async move { TcpStream::connect(address).await.is_ok() };
        self.process.ready_when(READY_LIMIT, probe).await
    }
}

impl Drop for SandboxHost {
    fn drop(&mut self) {
        for user in &self.users {
            // One with a process is removed by force: sessions end with the server, in a moment.
            let _ = std::process::Command::new("userdel")
                .args(["--force", "--remove", user])
                .stderr(std::process::Stdio::null())
                .status();
        }
    }
}

fn serve(dir: &Path) -> Result<Process> {
    let mut command = Command::new(SSHD);
    command
        .args(["-D", "-e", "-f"])
        .arg(dir.join("sshd_config"));
    Process::spawn("sshd", command, dir.join("sshd.log"))
}

async fn run(mut command: Command, dir: &Path) -> Result<()> {
    command.current_dir(dir);
    let mut process = Process::spawn("a tool", command, dir.join("tools.log"))?;
    process.succeed(LIMIT).await
}

fn config(dir: &Path, address: SocketAddr) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    for (key, value) in [
        ("ListenAddress", address.to_string()),
        ("HostKey", dir.join("host").display().to_string()),
        (
            "AuthorizedKeysFile",
            dir.join("authorized_keys").display().to_string(),
        ),
        ("PidFile", "none".to_owned()),
        ("UsePAM", "no".to_owned()),
        ("PasswordAuthentication", "no".to_owned()),
        ("KbdInteractiveAuthentication", "no".to_owned()),
        // The directory is a test's, below one that others may write to.
        ("StrictModes", "no".to_owned()),
    ] {
        let _ = writeln!(text, "{key} {value}");
    }
    text
}
