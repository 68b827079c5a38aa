//! The public listener with a certificate of its own, without nginx before it: clients are curl, a browser, and OpenClaw's.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

mod certificate;
mod stalled;

use std::{fs, path::PathBuf, time::Duration};

use ::http::StatusCode;
use gateway_tests::{
    chromium::run_script,
    error::{Error, Result},
    gateway::{Config, Gateway},
    http,
    issuer::CLIENT_ID,
    kit::Kit,
    secret,
    tls::{NAME, Tls, make_certificate},
};
use serde_json::{Value, json};
use tokio::{
    process::Command,
    time::{Instant, sleep},
};

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A configuration with a certificate, and where it is.
pub(crate) struct Place {
    pub(crate) kit: Kit,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) config: Config,
}

impl Place {
    pub(crate) async fn new() -> Result<Self> {
        let kit = Kit::from_env()?;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut config = Config::new(&kit, dir.path())?;
        let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        make_certificate(&certificate, &key).await?;
        let tls = format!(
            "public_url = \"https://{NAME}:{}\"\ntls = {{ cert = \"{}\", key = \"{}\" }}",
            config.public.port(),
            certificate.display(),
            key.display()
        );
        let plain = format!("public_url = \"http://{}\"", config.public);
        assert!(config.text.contains(&plain), "{}", config.text);
        config.text = config.text.replacen(&plain, &tls, 1);
        Ok(Self { kit, dir, config })
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.dir.path().join("cert.pem")
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{NAME}:{}{path}", self.config.public.port())
    }

    pub(crate) async fn start(&self) -> Result<Gateway> {
        let mut gateway = Gateway::spawn(self.config.clone(), self.dir.path())?;
        gateway.ready_by_admin().await?;
        Ok(gateway)
    }

    /// What clients without TLS reach it by, with this protocol.
    pub(crate) fn tls(&self, protocols: &[&str]) -> Result<Tls> {
        Tls::new(self.config.public, &self.certificate(), protocols)
    }

    /// What curl says of a path, asked with these arguments.
    pub(crate) async fn curl(&self, path: &str, arguments: &[&str]) -> Curl {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "60", "--cacert"])
            .arg(self.certificate())
            .args(["--write-out", "\n%{http_version} %{http_code}"])
            .args(arguments)
            .arg(self.url(path))
            .output()
            .await
            .expect("curl");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, said) = text.rsplit_once('\n').unwrap_or_default();
        Curl {
            said: said.to_owned(),
            body: format!("{body}{}", String::from_utf8_lossy(&output.stderr)),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Curl {
    /// Version and status.
    pub(crate) said: String,
    /// The answer, or why there is none.
    pub(crate) body: String,
}

pub(crate) async fn until(gateway: &Gateway, line: &str) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = http::get(&gateway.admin_url("/metrics"), None)
            .await?
            .text();
        if text.lines().any(|own| own == line) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Error::Late(PATIENCE, format!("{line} in\n{text}")));
        }
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn what_is_asked_by_http_2_is_answered_as_by_http_1_1_and_nothing_in_clear() -> Result<()> {
    let place = Place::new().await?;
    let gateway = place.start().await?;
    let account = secret::mark()?;
    let token = place.kit.issuer().token(&account).await?;
    let bearer = format!("Authorization: Bearer {token}");
    for (version, shown) in [("--http2", "2"), ("--http1.1", "1.1")] {
        for tls in ["1.2", "1.3"] {
            let health = place.curl("/health", &[version, "--tls-max", tls]).await;
            assert_eq!(
                (&*health.said, &*health.body),
                (&*format!("{shown} 200"), "OK"),
                "{health:?}"
            );
        }
        let strange = place.curl("/api/user/info", &[version]).await;
        assert_eq!(strange.said, format!("{shown} 401"), "{strange:?}");
        // Whoever else a client says that it is.
        for forged in [
            "X-User-Id: mallory",
            "X-Forwarded-User: mallory",
            "Host: mallory.example",
        ] {
            let own = place
                .curl("/api/user/info", &[version, "-H", &bearer, "-H", forged])
                .await;
            assert_eq!(own.said, format!("{shown} 200"), "{own:?}");
            let info: Value = serde_json::from_str(&own.body).expect("JSON");
            assert_eq!(info.get("user_id"), Some(&json!(account)), "{forged}");
        }
        let page = place
            .curl("/", &[version, "-H", "Accept: text/html", "-D", "-"])
            .await;
        let head = page.body.to_ascii_lowercase();
        assert!(page.said.ends_with(" 302"), "{page:?}");
        assert!(head.contains("\nlocation: /auth/login"), "{page:?}");
        assert!(
            head.contains("\nstrict-transport-security: max-age="),
            "{page:?}"
        );
        // A socket needs a connection of its own: without an upgrade there is none.
        let socket = place.curl("/ws", &[version, "-H", &bearer]).await;
        assert_eq!(socket.said, format!("{shown} 426"), "{socket:?}");
        let nothing = place
            .curl("/api/nothing", &[version, "-X", "DELETE", "-H", &bearer])
            .await;
        assert_eq!(nothing.said, format!("{shown} 404"), "{nothing:?}");

        let asked = json!({
            "model": "openclaw", "stream": true, "messages": [{"role": "user", "content": format!("quince {account}")}],
        });
        let streamed = place
            .curl(
                "/v1/chat/completions",
                &[
                    version,
                    "--no-buffer",
                    "-H",
                    &bearer,
                    "--json",
                    &asked.to_string(),
                ],
            )
            .await;
        assert_eq!(streamed.said, format!("{shown} 200"), "{streamed:?}");
        assert!(
            streamed.body.contains(&account) && streamed.body.contains("data: [DONE]"),
            "{streamed:?}"
        );
        // More than the window of a stream, and read to its end.
        let large = place.dir.path().join("large");
        fs::write(&large, format!("{}{{}}", " ".repeat(1 << 20))).expect("a file");
        let large = format!("@{}", large.display());
        let large = place
            .curl("/api/keys", &[version, "-H", &bearer, "--json", &large])
            .await;
        assert_eq!(large.said, format!("{shown} 400"), "{large:?}");
        assert!(large.body.contains("missing field"), "{large:?}");
    }
    // What is no request: it ends there, and the others go on.
    let connect = place
        .curl("/ws", &["--http2", "-X", "CONNECT", "-H", &bearer])
        .await;
    assert!(
        connect.said.starts_with("0 000") || connect.said.starts_with("2 4"),
        "{connect:?}"
    );
    let after = place.curl("/health", &["--http2"]).await;
    assert_eq!(after.said, "2 200", "{after:?}");

    let clear = http::get(&gateway.url("/health"), None)
        .await?
        .expect_status(StatusCode::BAD_REQUEST)?;
    assert_eq!(
        clear.json()?.pointer("/error/code"),
        Some(&json!("tls_required"))
    );
    let stranger = tempfile::tempdir().expect("a temporary directory");
    let own = stranger.path().join("cert.pem");
    make_certificate(&own, &stranger.path().join("key.pem")).await?;
    let distrustful = Tls::new(place.config.public, &own, &[])?.connect().await;
    assert!(distrustful.is_err(), "it has another certificate");
    // One in clear, one that hung up.
    let refused = "gateway_refusals_total{plane=\"listener\",reason=\"tls\"} 2";
    until(&gateway, refused).await?;
    assert!(
        !gateway.log()?.contains("panicked"),
        "nothing of this is a fault"
    );
    Ok(())
}

#[tokio::test]
async fn somebody_works_in_openclaws_own_page_by_http_2() -> Result<()> {
    let mut place = Place::new().await?;
    let web = json!({"application_type": "web"});
    let client = place.kit.issuer().register(&place.url(""), &web).await?;
    fs::write(place.dir.path().join("client-secret"), &client.secret).expect("a file");
    let shared = format!("client_id = \"{CLIENT_ID}\"");
    let own = format!("client_id = \"{}\"", client.id);
    place.config.text = place.config.text.replacen(&shared, &own, 1);
    let _gateway = place.start().await?;
    let account = format!("tls-{}", secret::mark()?);
    let certificate = place.certificate().display().to_string();
    let environment = [
        ("GATEWAY_URL", &*place.url("")),
        ("ACCOUNT", &account),
        ("CERTIFICATE", &certificate),
    ];
    let limit = Duration::from_secs(180);
    let dir = place.dir.path();
    run_script(&place.kit.install, "browser-tls", &environment, dir, limit).await
}

/// As the first version of this gateway was told, by variables.
#[tokio::test]
async fn the_variables_of_the_first_version_name_a_certificate() -> Result<()> {
    let mut place = Place::new().await?;
    let line = place
        .config
        .text
        .lines()
        .find(|line| line.starts_with("tls = "));
    let line = line.expect("its line").to_owned();
    place.config.text = place.config.text.replacen(&line, "", 1);
    for (name, file) in [("SSL_CERT_PATH", "cert.pem"), ("SSL_KEY_PATH", "key.pem")] {
        let file = place.dir.path().join(file).display().to_string();
        place.config.env.push((name.to_owned(), file));
    }
    let _gateway = place.start().await?;
    let health = place.curl("/health", &["--http2"]).await;
    assert_eq!(health.said, "2 200", "{health:?}");
    Ok(())
}
