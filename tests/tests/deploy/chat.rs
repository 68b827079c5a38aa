//! People chat through nginx, the gateway and an OpenClaw that is started from its template, while Prometheus looks on.

use std::{env, fmt::Write, fs, path::Path};

use gateway_tests::{
    error::Result,
    gateway::{Config, Gateway},
    http,
    kit::Kit,
    nginx::Nginx,
    person::Person,
    secret,
    tls::Tunnel,
};
use tokio::process::Command;

use crate::{instance::Instance, prometheus};

/// Requests at once, to what begins a sign-in: the gateway lets pass 60 of one address, nginx about 100.
const SIGN_INS: usize = 140;

#[tokio::test]
async fn two_people_chat_through_nginx_which_is_reloaded_meanwhile() -> Result<()> {
    let mut kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let openclaw = Instance::start(&kit.install, dir.path()).await?;
    kit.openclaw.clone_from(&openclaw.url);
    kit.openclaw_password.clone_from(&openclaw.password);
    let mut config = Config::new(&kit, dir.path())?;
    let admin = format!("admin = \"{}\"\n", config.admin);
    let trusting = format!("{admin}trusted_proxies = [\"127.0.0.1/32\"]\n");
    config.text = config.text.replacen(&admin, &trusting, 1);
    is_as_it_must_be(&config, dir.path()).await;

    let gateway = Gateway::start(config, dir.path()).await?;
    let address = gateway.config().public;
    let nginx = Nginx::start(dir.path(), [address, address]).await?;
    let prometheus = prometheus::Prometheus::start(dir.path(), &[gateway.config().admin]).await?;
    let tunnel = nginx.tls(&["http/1.1"])?.tunnel().await?;
    let alice = Person::sign_in(&kit, "alice", &gateway)
        .await?
        .through(&tunnel.url(""));
    let bob = Person::sign_in(&kit, "bob", &gateway)
        .await?
        .through(&tunnel.url(""));
    let mark = secret::mark()?;

    let mut hers = alice.open().await?;
    let mut his = bob.open().await?;
    let turn = hers.turn(&format!("{mark} one")).await?;
    assert_eq!(turn.state, "final", "{}", turn.text);

    // A reply of some seconds, through a worker that is told to end in its middle.
    let run = hers
        .start(&format!("{mark} two [[words=60]] [[chunk_delay=50]]"))
        .await?;
    nginx.reload().await?;
    let turn = hers.end_of(&run).await?;
    assert_eq!(turn.state, "final", "{}", turn.text);
    for (socket, message) in [(&mut hers, "three"), (&mut his, "four")] {
        let turn = socket.turn(&format!("{mark} {message}")).await?;
        assert_eq!(
            turn.state, "final",
            "the socket of before the reload: {}",
            turn.text
        );
    }
    let calls = kit.provider().calls_about(&mark).await?;
    assert_eq!(calls.len(), 4, "each message is one model call");

    nobody_becomes_another(&tunnel, &alice).await?;
    nobody_is_elsewhere(&tunnel).await?;
    prometheus.answers_everything().await?;
    drop((hers, his, gateway));
    openclaw.stop().await
}

/// `check-config` has nothing to say about the instance.
async fn is_as_it_must_be(config: &Config, dir: &Path) {
    let path = dir.join("checked.toml");
    fs::write(&path, &config.text).expect("a configuration");
    let binary = env::var_os("GATEWAY_BIN").expect("tests/run says which binary");
    let mut command = Command::new(binary);
    command
        .env_clear()
        .arg("check-config")
        .arg("--config")
        .arg(path);
    let output = command.output().await.expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("instance pool-1 is configured as it must be"),
        "{said}"
    );
    assert!(!said.contains("note  "), "{said}");
}

/// d2_21, to the end: whoever the headers name, it is she who has asked.
async fn nobody_becomes_another(tunnel: &Tunnel, alice: &Person) -> Result<()> {
    for name in [
        "X-User-Id",
        "x_user_id",
        "X-Forwarded-User",
        "x-openclaw-session-key",
        "X-OpenClaw-Anything",
        "X-Auth-Request-User",
    ] {
        let request = ::http::Request::get(tunnel.url("/api/user/info"))
            .header("authorization", format!("Bearer {}", alice.token))
            .header(name, "bob")
            .header(name, "admin");
        let answer = http::send(request, "")
            .await?
            .expect_status(::http::StatusCode::OK)?;
        assert_eq!(answer.json()?["user_id"], "alice", "{name}");
        let stranger = ::http::Request::get(tunnel.url("/api/user/info")).header(name, "bob");
        assert_eq!(
            http::send(stranger, "").await?.status.as_u16(),
            401,
            "{name}"
        );
    }
    Ok(())
}

/// d7_66: one client who claims another address each time is one client to the gateway, and to nginx.
async fn nobody_is_elsewhere(tunnel: &Tunnel) -> Result<()> {
    let (mut by_gateway, mut by_nginx, mut passed) = (0, 0, 0);
    for n in 0..SIGN_INS {
        let mut address = String::new();
        // Writing to a String does not fail.
        let _ = write!(address, "203.0.113.{n}");
        let request = ::http::Request::get(tunnel.url("/auth/login"))
            .header("accept", "application/json")
            .header("x-forwarded-for", &address)
            .header("x-real-ip", &address)
            .header("forwarded", format!("for={address}"));
        let answer = http::send(request, "").await?;
        match (answer.status.as_u16(), answer.header("retry-after")) {
            (429, Some("1")) => by_nginx += 1,
            (429, _) => by_gateway += 1,
            _ => passed += 1,
        }
        let hsts = answer
            .headers
            .get_all("strict-transport-security")
            .iter()
            .count();
        assert_eq!(hsts, 1, "{:?}", answer.headers);
    }
    let counted =
        format!("{passed} passed, {by_gateway} refused by the gateway, {by_nginx} by nginx");
    assert!(
        (60..100).contains(&passed) && by_gateway > 0 && by_nginx > 0,
        "{counted}"
    );
    Ok(())
}
