//! Servers and stores.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use fred::{
    clients::Client,
    interfaces::ClientLike as _,
    types::{
        Builder, ClusterHash, CustomCommand, FromValue,
        config::{Config, ReconnectPolicy},
    },
};
use tower_quota::{Limits, Plans, RedisStore, RedisStoreBuilder};

/// The server's URL, if there is one.
pub(crate) fn url() -> Option<String> {
    let url = std::env::var("TOWER_QUOTA_TEST_REDIS").ok();
    if url.is_none() {
        println!("not tested: TOWER_QUOTA_TEST_REDIS is not set");
    }
    url
}

/// A prefix that no other test and no other run has.
pub(crate) fn prefix() -> String {
    use std::hash::{BuildHasher as _, RandomState};

    static NEXT: AtomicU32 = AtomicU32::new(0);
    let run = RandomState::new().hash_one("run");
    format!("test-{run:016x}-{}", NEXT.fetch_add(1, Ordering::SeqCst))
}

/// A patient store under a prefix of its own.
pub(crate) fn builder(plans: impl Into<Plans>) -> RedisStoreBuilder {
    let builder = RedisStore::builder(plans).prefix(&prefix());
    builder.timeout(Duration::from_secs(30))
}

pub(crate) async fn store(url: &str, limits: Limits) -> RedisStore {
    builder(limits).connect(url).await.unwrap()
}

pub(crate) async fn client(url: &str) -> Client {
    let client = Builder::from_config(Config::from_url(url).unwrap())
        .set_policy(ReconnectPolicy::new_constant(0, 50))
        .build()
        .unwrap();
    client.init().await.unwrap();
    client
}

pub(crate) async fn run<T: FromValue>(client: &Client, command: &str) -> T {
    let mut words = command.split(' ').map(str::to_owned);
    let name = words.next().unwrap();
    let command = CustomCommand::new(name, ClusterHash::Random, false);
    client.custom(command, words.collect()).await.unwrap()
}

/// A server of one's own, that ends with the test.
pub(crate) struct Server {
    child: Child,
    port: u16,
    dir: PathBuf,
    lasting: bool,
}

// === impl Server ===

impl Server {
    /// One that keeps nothing. `None`: there is no program to start.
    pub(crate) async fn start() -> Option<Self> {
        Self::start_in(false).await
    }

    /// One that has its data again when it is started again.
    pub(crate) async fn start_lasting() -> Option<Self> {
        Self::start_in(true).await
    }

    /// Three that are a Cluster, each with a third of its slots.
    pub(crate) async fn start_cluster() -> Option<[Self; 3]> {
        let mut servers = Vec::new();
        for _ in 0..3 {
            let (port, bus, dir) = (free_port(), free_port(), new_dir());
            let server = Self {
                child: spawn(port, &dir, false, Some(bus))?,
                port,
                dir,
                lasting: false,
            };
            server.await_answer().await;
            servers.push((server, bus));
        }
        let mut clients = Vec::new();
        for (server, _) in &servers {
            clients.push(client(&server.url()).await);
        }
        for (client, slots) in clients.iter().zip(["0 5460", "5461 10922", "10923 16383"]) {
            run::<String>(client, &format!("CLUSTER ADDSLOTSRANGE {slots}")).await;
            for (other, bus) in &servers {
                let meet = format!("CLUSTER MEET 127.0.0.1 {} {bus}", other.port);
                run::<String>(client, &meet).await;
            }
        }
        for client in &clients {
            let mut tries = 0;
            while !run::<String>(client, "CLUSTER INFO")
                .await
                .contains("cluster_state:ok")
            {
                assert!(tries < 500, "the servers do not become a Cluster");
                tries += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        let servers: Vec<_> = servers.into_iter().map(|(server, _)| server).collect();
        servers.try_into().ok()
    }

    async fn start_in(lasting: bool) -> Option<Self> {
        let (port, dir) = (free_port(), new_dir());
        let server = Self {
            child: spawn(port, &dir, lasting, None)?,
            port,
            dir,
            lasting,
        };
        server.await_answer().await;
        Some(server)
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn cluster_url(&self) -> String {
        format!("redis-cluster://127.0.0.1:{}", self.port)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// `STOP`, `CONT` or whatever signal.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(status.unwrap().success(), "SIG{name}");
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again at the same port.
    pub(crate) async fn restart(&mut self) {
        self.child = spawn(self.port, &self.dir, self.lasting, None).unwrap();
        self.await_answer().await;
    }

    async fn await_answer(&self) {
        for _ in 0..500 {
            if tokio::net::TcpStream::connect(("127.0.0.1", self.port))
                .await
                .is_ok()
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the server does not start");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Whoever has asked for a free port has it: nobody else is given it soon.
fn free_port() -> u16 {
    let free = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    free.local_addr().unwrap().port()
}

/// What servers write, a replica for example, no other finds.
fn new_dir() -> PathBuf {
    let dir = std::env::temp_dir().join(prefix());
    std::fs::create_dir(&dir).unwrap();
    dir
}

/// `None`: there is no program to start.
fn spawn(port: u16, dir: &Path, lasting: bool, cluster_port: Option<u16>) -> Option<Child> {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
    command.args(["--dir", dir.to_str()?, "--save", ""]);
    if lasting {
        command.args(["--appendonly", "yes", "--appendfsync", "always"]);
    }
    if let Some(bus) = cluster_port {
        command.args(["--cluster-enabled", "yes"]);
        command.args(["--cluster-port", &bus.to_string()]);
    }
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().ok();
    if child.is_none() {
        println!("not tested: there is no redis-server");
    }
    child
}
