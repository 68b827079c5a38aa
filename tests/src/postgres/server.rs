//! One running server.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::{Pid, Signal, geteuid};
use tokio::{process::Command, time::Instant};
use tokio_postgres::NoTls;

use crate::{
    error::{Error, Result},
    port::free_address,
    process::Process,
    secret,
};

/// 2 s on an idle machine, most of it for the new directory.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// Time enough for a checkpoint of what tests write.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// The user of every connection.
const USER: &str = "gateway";

/// `nobody`, whom Debian, Alpine and Fedora give this number: Postgres refuses to run as root.
const NOBODY: u32 = 65_534;

/// A running Postgres with a directory of its own. Dropping it kills it.
#[derive(Debug)]
pub struct Postgres {
    dir: PathBuf,
    address: SocketAddr,
    password: String,
    process: Process,
}

impl Postgres {
    /// Starts a new server that keeps everything in `dir`/postgres, which must not be there; answers
    /// when it is ready. Whoever runs the tests as root lets everybody pass through `dir` by this.
    ///
    /// # Errors
    ///
    /// [`Error::File`], [`Error::Run`] without `postgres` and `initdb` on `PATH`,
    /// [`Error::NotReady`] with the end of its log.
    pub async fn start(dir: &Path) -> Result<Self> {
        let address = free_address()?;
        let password = secret::random()?;
        let dir = make_directory(dir)?;
        initialise(&dir, &password).await?;
        let process = spawn(&dir, address)?;
        let mut server = Self {
            dir,
            address,
            password,
            process,
        };
        server.ready().await?;
        Ok(server)
    }

    /// Stops it in order: every connection is closed and everything is written.
    ///
    /// # Errors
    ///
    /// [`Error::Run`] when it cannot be waited for.
    pub async fn stop(&mut self) -> Result<()> {
        // Postgres takes SIGTERM for an order to wait until its clients have gone.
        self.process.stop_by(Signal::INT, STOP_LIMIT).await?;
        Ok(())
    }

    /// Ends it at once, as a crash does.
    ///
    /// # Errors
    ///
    /// [`Error::Run`] when it cannot be waited for.
    pub async fn kill(&mut self) -> Result<()> {
        // Its children are sessions of their own. They end by themselves once they notice.
        self.process.kill().await.map(|_| ())
    }

    /// Starts a stopped or killed server again, at the same address and with what it has.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn start_again(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_LIMIT;
        loop {
            self.process = spawn(&self.dir, self.address)?;
            match self.ready().await {
                // Refused as long as children of a killed one have its memory.
                Err(Error::NotReady { .. }) if Instant::now() < deadline => {}
                result => return result,
            }
        }
    }

    /// The URL of its first database, with user and password.
    #[must_use]
    pub fn url(&self) -> String {
        format!(
            "postgres://{USER}:{}@{}/postgres",
            self.password, self.address
        )
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends a signal to the server and all its processes: by `STOP` it is a server that hangs, until `CONT`.
    ///
    /// # Errors
    ///
    /// [`Error::File`] when the system does not say which they are.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let server = self.process.id();
        for child in children(server)? {
            // One that has ended meanwhile needs none.
            let _ = rustix::process::kill_process(child, signal);
        }
        self.process.signal(signal);
        Ok(())
    }

    async fn ready(&mut self) -> Result<()> {
        let url = self.url();
        let probe = || async {
            let connected = tokio_postgres::connect(&url, NoTls).await;
            connected.is_ok()
        };
        self.process.ready_when(READY_LIMIT, probe).await
    }
}

/// The processes that a process has started and that run.
fn children(parent: Pid) -> Result<Vec<Pid>> {
    let path = PathBuf::from("/proc");
    let file = |source| Error::File {
        path: path.clone(),
        source,
    };
    let mut children = Vec::new();
    for entry in fs::read_dir(&path).map_err(file)? {
        let name = entry.map_err(file)?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // One that has ended meanwhile has none. Its name, in parentheses, may hold anything.
        let stat = fs::read_to_string(path.join(&name).join("stat")).unwrap_or_default();
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let of = fields
            .split_whitespace()
            .nth(1)
            .and_then(|of| of.parse().ok());
        if of == Some(parent.as_raw_nonzero().get()) {
            children.extend(Pid::from_raw(pid));
        }
    }
    Ok(children)
}

fn make_directory(parent: &Path) -> Result<PathBuf> {
    let dir = parent.join("postgres");
    let file = |source| Error::File {
        path: dir.clone(),
        source,
    };
    fs::create_dir(&dir).map_err(file)?;
    if geteuid().is_root() {
        let mut mode = fs::metadata(parent).map_err(file)?.permissions();
        mode.set_mode(mode.mode() | 0o011);
        fs::set_permissions(parent, mode).map_err(file)?;
        chown(&dir, Some(NOBODY), Some(NOBODY)).map_err(file)?;
    }
    dir.canonicalize().map_err(file)
}

/// Makes the files of a new server whose only user has this password.
async fn initialise(dir: &Path, password: &str) -> Result<()> {
    let path = dir.join("password");
    let file = |source| Error::File {
        path: path.clone(),
        source,
    };
    fs::write(&path, password).map_err(file)?;
    let mut command = program("initdb");
    command
        .arg("--pgdata")
        .arg(dir.join("data"))
        .arg("--pwfile")
        .arg(&path)
        .args(["--username", USER, "--auth", "scram-sha-256"])
        .args(["--encoding", "UTF8", "--locale", "C"])
        // A crash of the machine ends the test as well.
        .args(["--no-sync", "--no-instructions"])
        .current_dir(dir);
    let mut process = Process::spawn("initdb", command, dir.join("initdb.log"))?;
    process.succeed(READY_LIMIT).await?;
    fs::remove_file(&path).map_err(file)
}

fn spawn(dir: &Path, address: SocketAddr) -> Result<Process> {
    let mut command = program("postgres");
    command.arg("-D").arg(dir.join("data")).current_dir(dir);
    let port = address.port().to_string();
    for (name, value) in [
        ("listen_addresses", "127.0.0.1"),
        ("port", &port),
        // No socket beside the port, and no shared memory that outlives a killed server.
        ("unix_socket_directories", ""),
        ("dynamic_shared_memory_type", "mmap"),
        // Several gateways with a pool each, and tests of crates at once.
        ("max_connections", "300"),
    ] {
        command.arg("-c").arg(format!("{name}={value}"));
    }
    Process::spawn("Postgres", command, dir.join("postgres.log"))
}

fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env_clear();
    command.envs(std::env::vars_os().filter(|(name, _)| name == "PATH"));
    if geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}
