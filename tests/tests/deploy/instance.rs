//! An OpenClaw that is started as in its container.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use gateway_tests::{error::Result, install::Install, port::free_address, process::Process};

use crate::deploy;

const READY_LIMIT: Duration = Duration::from_secs(180);

/// How often it may take to be there.
const ATTEMPTS: u32 = 4;

/// It is given as long as compose.yaml gives it.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// A running OpenClaw behind its start script.
pub(crate) struct Instance {
    pub(crate) url: String,
    process: Process,
}

impl Instance {
    /// Starts it from the template, with everything below `dir` and the password in a file.
    pub(crate) async fn start(install: &Install, dir: &Path, password: &Path) -> Result<Self> {
        let (listen, own) = (free_address()?, free_address()?);
        // As in a network of containers, the gateway names it otherwise than by its own loopback address.
        let url = format!("http://{}:{}", name_of(listen).await, listen.port());
        let mut attempts = 0;
        let process = loop {
            let mut command = install.command();
            command
                .arg(deploy("openclaw/start.mjs"))
                .env(
                    "OPENCLAW_MODULE",
                    install.modules.join("openclaw/openclaw.mjs"),
                )
                .env("OPENCLAW_TEMPLATE", deploy("openclaw/openclaw.json"))
                .env("OPENCLAW_PASSWORD_FILE", password)
                .env("OPENCLAW_HOME_DIR", dir.join("openclaw"))
                .env("OPENCLAW_LISTEN", format!("0.0.0.0:{}", listen.port()))
                .env("OPENCLAW_PORT", own.port().to_string());
            let mut process = Process::spawn("OpenClaw", command, dir.join("start.log"))?;
            let ready = process.ready(&format!("{url}/readyz"), READY_LIMIT).await;
            attempts += 1;
            match ready {
                Ok(()) => break process,
                // OpenClaw gives up when the machine keeps it waiting for 5 s; Compose starts it again.
                Err(_) if attempts < ATTEMPTS && process.exited()?.is_some() => {}
                Err(error) => return Err(error),
            }
        };
        Ok(Self { url, process })
    }

    /// Stops it as a container is stopped; it must obey, and end well.
    pub(crate) async fn stop(mut self) -> Result<()> {
        rustix::process::kill_process(self.process.id(), rustix::process::Signal::TERM)
            .expect("it runs");
        let ended = tokio::time::timeout(STOP_LIMIT, self.process.wait()).await;
        let status = ended.expect("it has obeyed")?;
        assert!(status.success(), "{status}");
        Ok(())
    }
}

/// This machine's name, where it is known to itself.
async fn name_of(address: SocketAddr) -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    let known = tokio::net::lookup_host((name, address.port())).await;
    if known.is_ok() {
        name.to_owned()
    } else {
        "localhost".to_owned()
    }
}
