//! Certificates that are right, renewed, or wrong.

use std::{fs, path::Path};

use gateway_tests::{
    error::Result,
    gateway,
    person::Person,
    process::Process,
    secret,
    tls::{NAME, Tls, make_certificate},
};
use tokio::{io::AsyncWriteExt, process::Command};

use crate::{PATIENCE, Place, until};

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

    // Who is in the middle of a handshake, or has not said a word of HTTP/2 after it, is not waited for.
    fs::write(&key, whole).expect("a file");
    let mut silent = tokio::net::TcpStream::connect(place.config.public)
        .await
        .expect("a connection");
    silent.write_all(&[22, 3, 1]).await.expect("it is sent");
    let mute = place.tls(&["h2"])?.connect().await?;
    gateway.signal(rustix::process::Signal::TERM);
    assert_eq!(socket.ws.closed().await?.0, 1012);
    assert!(gateway.ended().await?.success());
    assert!(!gateway.log()?.contains("did not end in time"));
    drop((silent, mute));
    Ok(())
}

/// The operator reads in the log that browsers refuse it. It is served all the same: somebody else may take it.
#[tokio::test]
async fn a_certificate_that_browsers_refuse_is_told_of_at_the_start_and_at_each_reload()
-> Result<()> {
    let place = Place::new().await?;
    let dir = place.dir.path();
    let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=any -days 90 \
               -keyout key.pem -out cert.pem -addext subjectAltName=DNS:";
    openssl(dir, None, &format!("{new}other.example")).await?;
    let mut gateway = place.start().await?;
    let refused = "browsers refuse the certificate of `server.tls`: it ";
    assert!(
        gateway
            .log()?
            .contains(&format!("{refused}is not for {NAME}"))
    );
    for (day, reloads, told) in [
        ("2020-01-01", 1, "has ended at 2020-03-31"),
        ("2099-01-01", 2, "begins at 2099-01-01"),
    ] {
        openssl(dir, Some(day), &format!("{new}{NAME}")).await?;
        gateway.reload(place.config.clone())?;
        let reloaded = format!("gateway_config_reloads_total{{result=\"ok\"}} {reloads}");
        until(&gateway, &reloaded).await?;
        let log = gateway.log()?;
        assert!(log.contains(&format!("{refused}{told}")), "{told}");
    }
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
            Some("2099-01-01"),
            format!(
                "{new} -nodes -keyout new.key -out new.pem -days 90 {}",
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
        ("good", 0, "is for https://localhost:"),
        ("cert", 0, "see to it that it is renewed"),
        ("old", 1, "has ended at 2020-03-31"),
        ("new", 1, "begins at 2099-01-01"),
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
