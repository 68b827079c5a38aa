//! nginx, as a process, with the configuration that is shipped in `deploy/`.

use std::{
    fs::{self, Permissions},
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{net::TcpStream, process::Command};

use crate::{
    error::{Error, Result},
    port::free_address,
    process::Process,
    tls::{NAME, Tls, make_certificate},
};

/// What is shipped.
pub const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy");

/// It is not on everybody's `PATH`.
const NGINX: &str = "/usr/sbin/nginx";

const LIMIT: Duration = Duration::from_secs(30);

/// A running nginx before two gateways. Dropping it kills it.
#[derive(Debug)]
pub struct Nginx {
    dir: PathBuf,
    https: SocketAddr,
    http: SocketAddr,
    process: Process,
}

impl Nginx {
    /// Starts it in `dir` before the gateways at these addresses, for the name in its certificate.
    ///
    /// Addresses, paths and the name are put into the files as they are shipped; each must be in them.
    ///
    /// # Errors
    ///
    /// [`Error::File`], [`Error::Unexpected`] for a file without what is to be replaced, [`Error::NotReady`] with the end of
    /// its log.
    pub async fn start(dir: &Path, gateways: [SocketAddr; 2]) -> Result<Self> {
        Self::start_with(dir, gateways, &[]).await
    }

    /// As [`start`](Self::start), with more that is replaced: for what would take too long otherwise.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn start_with(
        dir: &Path,
        gateways: [SocketAddr; 2],
        more: &[(&str, &str)],
    ) -> Result<Self> {
        let dir = dir.join("nginx");
        let file = |source| Error::File {
            path: dir.clone(),
            source,
        };
        // Its workers are somebody else.
        fs::create_dir_all(dir.join("secrets")).map_err(file)?;
        for open in [Path::new(&dir), dir.parent().unwrap_or(&dir)] {
            fs::set_permissions(open, Permissions::from_mode(0o711)).map_err(file)?;
        }
        let secrets = dir.join("secrets");
        make_certificate(&secrets.join("tls_certificate"), &secrets.join("tls_key")).await?;
        let (https, http) = (free_address()?, free_address()?);
        let below = |name: &str| dir.join(name).display().to_string();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("\n    {kind}_temp_path {};", below(kind)));
        let mut text = shipped("nginx.conf")?;
        let own = [
            ("listen 443 ", &*format!("listen {https} ")),
            ("listen 80 ", &format!("listen {http} ")),
            ("listen 80;", &format!("listen {http};")),
            ("openclaw.example.com", NAME),
            ("/run/secrets/", &below("secrets/")),
            ("gateway-1:3000", &gateways[0].to_string()),
            ("gateway-2:3000", &gateways[1].to_string()),
            ("\nhttp {", &format!("\nhttp {{{}", temporary.concat())),
        ];
        for (old, new) in own.iter().chain(more) {
            if !text.contains(*old) {
                return Err(Error::unexpected(
                    "nginx.conf",
                    format!("it has no `{old}`"),
                ));
            }
            text = text.replace(old, new);
        }
        fs::write(dir.join("nginx.conf"), text).map_err(file)?;
        for included in ["headers.conf", "proxy.conf"] {
            fs::write(dir.join(included), shipped(included)?).map_err(file)?;
        }
        let process = Process::spawn("nginx", command(&dir), dir.join("nginx.log"))?;
        let mut nginx = Self {
            dir,
            https,
            http,
            process,
        };
        let probe = || async move { TcpStream::connect(https).await.is_ok() };
        nginx.process.ready_when(LIMIT, probe).await?;
        Ok(nginx)
    }

    /// Has it read its configuration again, as an operator does: new workers, while the old ones finish what they are at.
    ///
    /// # Errors
    ///
    /// [`Error::NotReady`] with what it says.
    pub async fn reload(&self) -> Result<()> {
        let mut command = command(&self.dir);
        command.args(["-s", "reload"]);
        let mut reload = Process::spawn("nginx -s reload", command, self.dir.join("reload.log"))?;
        reload.succeed(LIMIT).await
    }

    /// Connections to it by TLS, with these protocols.
    ///
    /// # Errors
    ///
    /// As [`Tls::new`].
    pub fn tls(&self, protocols: &[&str]) -> Result<Tls> {
        Tls::new(
            self.https,
            &self.dir.join("secrets/tls_certificate"),
            protocols,
        )
    }

    /// Where it listens for those who come by TLS.
    #[must_use]
    pub fn https(&self) -> SocketAddr {
        self.https
    }

    /// Where it listens for those who come without TLS.
    #[must_use]
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// What it has logged.
    ///
    /// # Errors
    ///
    /// [`Error::File`].
    pub fn log(&self) -> Result<String> {
        let path = self.process.log().to_owned();
        fs::read_to_string(&path).map_err(|source| Error::File { path, source })
    }
}

/// A file of nginx as it is shipped.
fn shipped(name: &str) -> Result<String> {
    let path = Path::new(DEPLOY).join("nginx").join(name);
    fs::read_to_string(&path).map_err(|source| Error::File { path, source })
}

fn command(dir: &Path) -> Command {
    let mut command = Command::new(NGINX);
    let own = format!("daemon off; pid {};", dir.join("nginx.pid").display());
    command
        .arg("-p")
        .arg(dir)
        .arg("-c")
        .arg(dir.join("nginx.conf"))
        .arg("-g")
        .arg(own);
    command
}
