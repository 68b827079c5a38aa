//! The public listener with a certificate of its own, without nginx before it: clients are curl, a browser, and OpenClaw's.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use ::http::StatusCode;
use gateway_tests::{
    chromium::run_script,
    error::{Error, Result},
    gateway::{self, Config, Gateway},
    http,
    issuer::CLIENT_ID,
    kit::Kit,
    person::Person,
    process::Process,
    secret,
    tls::{NAME, Tls, make_certificate},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Command,
    time::{Instant, sleep, timeout},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// A configuration with a certificate, and where it is.
struct Place {
    kit: Kit,
    dir: tempfile::TempDir,
    config: Config,
}

impl Place {
    async fn new() -> Result<Self> {
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

    fn certificate(&self) -> PathBuf {
        self.dir.path().join("cert.pem")
    }

    fn url(&self, path: &str) -> String {
        format!("https://{NAME}:{}{path}", self.config.public.port())
    }

    async fn start(&self) -> Result<Gateway> {
        let mut gateway = Gateway::spawn(self.config.clone(), self.dir.path())?;
        gateway.ready_by_admin().await?;
        Ok(gateway)
    }

    /// What clients without TLS reach it by, with this protocol.
    fn tls(&self, protocols: &[&str]) -> Result<Tls> {
        Tls::new(self.config.public, &self.certificate(), protocols)
    }

    /// What curl says of a path, asked with these arguments.
    async fn curl(&self, path: &str, arguments: &[&str]) -> Curl {
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
struct Curl {
    /// Version and status.
    said: String,
    /// The answer, or why there is none.
    body: String,
}

async fn until(gateway: &Gateway, line: &str) -> Result<()> {
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
    assert!(!connect.said.contains(" 2"), "{connect:?}");

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
    let metrics = http::get(&gateway.admin_url("/metrics"), None)
        .await?
        .text();
    let refused = "gateway_refusals_total{plane=\"listener\",reason=\"tls\"} 2";
    assert!(
        metrics.lines().any(|line| line == refused),
        "one in clear, one that hung up: {metrics}"
    );
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

/// The end of a certificate in the metric, in seconds since 1970.
async fn end_of(certificate: &Path) -> String {
    let end = Command::new("openssl")
        .args(["x509", "-noout", "-enddate", "-dateopt", "iso_8601", "-in"])
        .arg(certificate)
        .output()
        .await
        .expect("openssl");
    let end = String::from_utf8_lossy(&end.stdout).into_owned();
    let date = Command::new("date")
        .args([
            "-u",
            "+%s",
            "-d",
            end.trim().trim_start_matches("notAfter="),
        ])
        .output()
        .await
        .expect("date");
    String::from_utf8_lossy(&date.stdout).trim().to_owned()
}

#[tokio::test]
async fn a_certificate_is_exchanged_while_people_talk_and_a_wrong_one_is_not() -> Result<()> {
    let place = Place::new().await?;
    let mut gateway = place.start().await?;
    let gauge = "gateway_tls_certificate_not_after_seconds";
    until(
        &gateway,
        &format!("{gauge} {}", end_of(&place.certificate()).await),
    )
    .await?;
    let first = place.tls(&["http/1.1"])?;
    let tunnel = first.tunnel().await?;
    let account = secret::mark()?;
    let person = Person::sign_in(&place.kit, &account, &gateway).await?;
    let person = person.through(&tunnel.url(""));
    let mut socket = person.open().await?;
    let turn = socket.turn(&format!("medlar {account}")).await?;
    assert_eq!(turn.text, format!("echo: medlar {account}"));

    // Renewed as by an ACME client: other files under the same names.
    let (key, old) = (
        place.dir.path().join("key.pem"),
        place.dir.path().join("old.pem"),
    );
    fs::copy(place.certificate(), &old).expect("a copy");
    make_certificate(&place.certificate(), &key).await?;
    gateway.reload(place.config.clone())?;
    until(&gateway, "gateway_config_reloads_total{result=\"ok\"} 1").await?;
    until(
        &gateway,
        &format!("{gauge} {}", end_of(&place.certificate()).await),
    )
    .await?;
    let distrustful = Tls::new(place.config.public, &old, &[])?.connect().await;
    assert!(distrustful.is_err(), "it is the new one");
    // Who was here before goes on without looking at it again (RFC 8446 section 2.2).
    first.connect().await?;
    let second = place.tls(&["http/1.1"])?;
    second.connect().await?;
    let turn = socket.turn(&format!("quince {account}")).await?;
    assert_eq!(turn.text, format!("echo: quince {account}"));

    // Cut off in the middle, as by a disk that is full.
    let whole = fs::read(&key).expect("the key");
    fs::write(&key, whole.split_at(whole.len() / 2).0).expect("a file");
    gateway.reload(place.config.clone())?;
    until(
        &gateway,
        "gateway_config_reloads_total{result=\"refused\"} 1",
    )
    .await?;
    second.connect().await?;
    assert!(gateway.log()?.contains("`server.tls.key`: "));
    // Coming and going, it takes effect at the next start.
    let mut clear = place.config.clone();
    let tls = clear.text.lines().find(|line| line.starts_with("tls = "));
    let tls = tls.expect("its line").to_owned();
    clear.text = clear.text.replacen(&tls, "", 1);
    gateway.reload(clear)?;
    until(&gateway, "gateway_config_reloads_total{result=\"ok\"} 2").await?;
    second.connect().await?;
    let turn = socket.turn(&format!("damson {account}")).await?;
    assert_eq!(turn.text, format!("echo: damson {account}"));

    // In the middle of a handshake, too, it ends in time, and says so to whoever is there.
    fs::write(&key, whole).expect("a file");
    let mut silent = tokio::net::TcpStream::connect(place.config.public)
        .await
        .expect("a connection");
    silent.write_all(&[22, 3, 1]).await.expect("it is sent");
    gateway.signal(rustix::process::Signal::TERM);
    assert_eq!(socket.ws.closed().await?.0, 1012);
    assert!(gateway.ended().await?.success());
    let mut rest = Vec::new();
    let hung_up = timeout(PATIENCE, silent.read_to_end(&mut rest)).await;
    assert!(hung_up.is_ok());
    Ok(())
}

/// Runs `openssl` with these arguments, with the clock of that day where one is named.
async fn openssl(dir: &Path, day: Option<&str>, arguments: &str) -> Result<()> {
    let mut command = match day {
        Some(day) => {
            let mut command = Command::new("faketime");
            command.args([day, "openssl"]);
            command
        }
        None => Command::new("openssl"),
    };
    command.args(arguments.split(' ')).current_dir(dir);
    let log = dir.join("openssl.log");
    let mut made = Process::spawn("openssl", command, log)?;
    made.succeed(PATIENCE).await
}

#[tokio::test]
async fn what_is_wrong_with_a_certificate_is_said_before_anybody_is_served() -> Result<()> {
    let place = Place::new().await?;
    let dir = place.dir.path();
    let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -subj /CN=any";
    let named = |name: &str| format!("-addext subjectAltName=DNS:{name}");
    for (day, arguments) in [
        (
            None,
            format!(
                "{new} -nodes -keyout other.key -out other.pem -days 90 {}",
                named("other.example")
            ),
        ),
        (
            None,
            format!(
                "{new} -passout pass:canary -keyout locked.key -out locked.pem -days 90 {}",
                named(NAME)
            ),
        ),
        (
            Some("2020-01-01"),
            format!(
                "{new} -nodes -keyout old.key -out old.pem -days 90 {}",
                named(NAME)
            ),
        ),
        (
            None,
            format!(
                "{new} -nodes -keyout good.key -out good.pem -days 90 {}",
                named(NAME)
            ),
        ),
    ] {
        openssl(dir, day, &arguments).await?;
    }
    fs::write(dir.join("empty.pem"), "nothing").expect("a file");
    fs::write(
        dir.join("broken.pem"),
        "-----BEGIN CERTIFICATE-----\ncanary\n",
    )
    .expect("a file");
    let checked = async |cert: &str, key: &str| {
        let mut config = place.config.text.clone();
        for (own, other) in [("cert.pem", cert), ("key.pem", key)] {
            config = config.replacen(&format!("/{own}"), &format!("/{other}"), 1);
        }
        fs::write(dir.join("gateway.toml"), config).expect("a file");
        gateway::command(dir, &["check-config", "--offline"]).await
    };
    // Of a file that cannot be used: nobody is served with it.
    for (cert, key, said) in [
        ("none.pem", "good.key", "`server.tls.cert`: "),
        (
            "empty.pem",
            "good.key",
            "empty.pem: holds no certificate in PEM form",
        ),
        (
            "broken.pem",
            "good.key",
            "broken.pem: is not a PEM file, or was cut off",
        ),
        (
            "good.key",
            "good.key",
            "good.key: holds no certificate in PEM form",
        ),
        ("good.pem", "none.key", "`server.tls.key`: "),
        (
            "good.pem",
            "good.pem",
            "good.pem: holds no private key in PEM form",
        ),
        (
            "locked.pem",
            "locked.key",
            "one with a passphrase cannot be read",
        ),
        (
            "good.pem",
            "other.key",
            "other.key: is the key of another certificate",
        ),
    ] {
        let wrong = checked(cert, key).await?;
        assert_eq!(wrong.status.code(), Some(2), "{cert} {key}: {wrong:?}");
        assert!(wrong.error.contains(said), "{cert} {key}: {wrong:?}");
        assert!(!wrong.error.contains("canary"), "{wrong:?}");
    }
    // Of one that browsers would refuse, or soon.
    for (cert, code, said) in [
        ("good", 0, "is for localhost, until "),
        ("cert", 0, "see to it that it is renewed"),
        ("old", 1, "has ended at 2020-03-31"),
        ("other", 1, "is not for localhost, the host in `public_url`"),
    ] {
        let key = match cert {
            "cert" => "key.pem".to_owned(),
            cert => format!("{cert}.key"),
        };
        let found = checked(&format!("{cert}.pem"), &key).await?;
        assert_eq!(found.status.code(), Some(code), "{cert}: {found:?}");
        assert!(found.text.contains(said), "{cert}: {found:?}");
    }
    // What the operator calls himself must be by TLS too.
    let https = format!("public_url = \"https://{NAME}");
    let text = place
        .config
        .text
        .replacen(&https, &https.replacen("https", "http", 1), 1);
    fs::write(dir.join("gateway.toml"), text).expect("a file");
    let wrong = gateway::command(dir, &["check-config", "--offline"]).await?;
    assert!(
        wrong
            .error
            .contains("`server.public_url`: must begin with https://"),
        "{wrong:?}"
    );
    Ok(())
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
