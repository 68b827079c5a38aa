//! One running server.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
};

use crate::{
    error::{Error, Result},
    port::free_address,
    process::Process,
    secret,
};

const READY_LIMIT: Duration = Duration::from_secs(30);

/// A running Redis, which writes nothing to a disk unless its configuration says so. Dropping it kills it.
///
/// It is there in some milliseconds: a test that counts on exact keys, or breaks the server, starts
/// its own.
#[derive(Debug)]
pub struct Redis {
    dir: PathBuf,
    address: SocketAddr,
    password: String,
    process: Process,
}

impl Redis {
    /// Starts a server whose configuration and log are in `dir`/redis, which must not be there;
    /// answers when it is ready.
    ///
    /// # Errors
    ///
    /// [`Error::File`], [`Error::Run`] without `redis-server` on `PATH`, [`Error::NotReady`] with the
    /// end of its log.
    pub async fn start(dir: &Path) -> Result<Self> {
        Self::start_with(dir, "save \"\"\nappendonly no\n").await
    }

    /// The same with the configuration that is given, but for where it listens, the password, and the directory.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn start_with(dir: &Path, rest: &str) -> Result<Self> {
        let address = free_address()?;
        let password = secret::random()?;
        let dir = dir.join("redis");
        let file = |source| Error::File {
            path: dir.clone(),
            source,
        };
        fs::create_dir(&dir).map_err(file)?;
        let dir = dir.canonicalize().map_err(file)?;
        let config = config(address, &password, rest);
        fs::write(dir.join("redis.conf"), config).map_err(file)?;
        let process = spawn(&dir)?;
        let mut server = Self {
            dir,
            address,
            password,
            process,
        };
        server.ready().await?;
        Ok(server)
    }

    /// Ends it at once.
    ///
    /// # Errors
    ///
    /// [`Error::Run`] when it cannot be waited for.
    pub async fn kill(&mut self) -> Result<()> {
        self.process.kill().await.map(|_| ())
    }

    /// Starts a killed server again, at the same address and empty.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn start_again(&mut self) -> Result<()> {
        self.process = spawn(&self.dir)?;
        self.ready().await
    }

    /// The URL of its first database, with user and password.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://default:{}@{}/0", self.password, self.address)
    }

    /// Has it do one thing whose answer is a plain word.
    ///
    /// # Errors
    ///
    /// [`Error::Connection`] when it does not answer, [`Error::Unexpected`] with what it says instead.
    pub async fn command(&self, words: &[&str]) -> Result<()> {
        let peer = || self.address.to_string();
        let lost = |error: std::io::Error| Error::connection(peer(), error);
        let mut stream = TcpStream::connect(self.address).await.map_err(lost)?;
        for words in [&["AUTH", &*self.password], words] {
            // RESP: an array of bulk strings.
            let mut request = format!("*{}\r\n", words.len());
            for word in words {
                request += &format!("${}\r\n{word}\r\n", word.len());
            }
            stream.write_all(request.as_bytes()).await.map_err(lost)?;
            let mut answer = [0; 64];
            let length = stream.read(&mut answer).await.map_err(lost)?;
            let answer = answer.get(..length).unwrap_or_default();
            if !answer.starts_with(b"+") {
                let text = String::from_utf8_lossy(answer).into_owned();
                return Err(Error::unexpected("answer", text));
            }
        }
        Ok(())
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process: stopped by a signal it is a server that hangs.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    async fn ready(&mut self) -> Result<()> {
        let address = self.address;
        let probe = || async move { answers(address).await.unwrap_or(false) };
        self.process.ready_when(READY_LIMIT, probe).await
    }
}

/// Whether it answers a request at all. Without the password that is an error, in Redis' own words.
async fn answers(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"PING\r\n").await?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).await?;
    Ok(&answer == b"-NOAUTH")
}

fn config(address: SocketAddr, password: &str, rest: &str) -> String {
    let (host, port) = (address.ip(), address.port());
    // A file of a secret is included where there is one.
    let is_kept = |line: &&str| !line.starts_with("include ") && !line.starts_with("dir ");
    let rest: Vec<_> = rest.lines().filter(is_kept).collect();
    let rest = rest.join("\n");
    format!("bind {host}\nport {port}\nrequirepass {password}\ndaemonize no\n{rest}\n")
}

fn spawn(dir: &Path) -> Result<Process> {
    let mut command = Command::new("redis-server");
    command.arg(dir.join("redis.conf")).current_dir(dir);
    command.env_clear();
    command.envs(std::env::vars_os().filter(|(name, _)| name == "PATH"));
    Process::spawn("Redis", command, dir.join("redis.log"))
}
