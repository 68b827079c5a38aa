//! An OpenClaw is stopped, and the alert says so.

use std::{collections::BTreeSet, fmt::Write, time::Duration};

use gateway_tests::{
    error::Result,
    gateway::{Config, Gateway},
    http,
    kit::Kit,
    openclaw::OpenClaw,
    person::Person,
    secret,
};

use crate::{
    prometheus::Prometheus,
    table::{labels, samples},
};

/// Requests of strangers, each with words of its own.
const STRANGERS: usize = 2_000;

/// People who come for the first time, each with a token of the issuer.
const NEWCOMERS: usize = 300;

async fn metrics(gateway: &Gateway) -> Result<String> {
    let answer = http::get(&gateway.admin_url("/metrics"), None).await?;
    Ok(answer.text())
}

fn series(text: &str) -> BTreeSet<String> {
    let names = samples(text).filter_map(|line| line.rsplit_once(' '));
    names.map(|(name, _)| name.to_owned()).collect()
}

/// d8_72: paths, methods, queries, tokens, headers and virtual keys that nobody has used before make no series, nor do people.
async fn strangers_make_no_series(kit: &Kit, gateway: &Gateway) -> Result<()> {
    let sign_in = async |range: std::ops::Range<usize>| -> Result<()> {
        for n in range {
            let token = kit.issuer().token(&format!("stranger-{n}")).await?;
            let answer = http::get(&gateway.url("/api/user/info"), Some(&token)).await?;
            answer.expect_status(::http::StatusCode::OK)?;
        }
        Ok(())
    };
    let come = async |range: std::ops::Range<usize>| -> Result<()> {
        for n in range {
            let mut word = String::new();
            // Writing to a String does not fail.
            let _ = write!(word, "stranger-{n}");
            let method = match n % 4 {
                0 => ::http::Method::GET,
                1 => ::http::Method::POST,
                2 => ::http::Method::DELETE,
                _ => {
                    ::http::Method::from_bytes(format!("STRANGER{n}").as_bytes()).expect("a method")
                }
            };
            let url = match n % 5 {
                0 => gateway.url(&format!("/{word}?{word}={word}")),
                1 => gateway.url(&format!("/api/admin/users/{word}/quota")),
                2 => gateway.url(&format!("/v1/models/{word}")),
                3 => gateway.egress_url(&format!("/{word}/v1/chat/completions")),
                _ => gateway.egress_url(&format!("/openai/v1/{word}")),
            };
            let request = ::http::Request::builder()
                .method(method)
                .uri(url)
                .header("authorization", format!("Bearer {word}"))
                .header("x-user-id", &word);
            http::send(request, "").await?;
        }
        Ok(())
    };
    come(0..40).await?;
    sign_in(0..2).await?;
    let before = series(&metrics(gateway).await?);
    come(40..STRANGERS).await?;
    sign_in(2..NEWCOMERS).await?;
    let text = metrics(gateway).await?;
    let new: Vec<_> = series(&text).difference(&before).cloned().collect();
    assert_eq!(new, Vec::<String>::new());
    for sample in samples(&text) {
        for value in labels(sample).values() {
            let value = value.to_ascii_lowercase();
            assert!(
                !value.contains("stranger") && !value.contains("alice"),
                "{sample}"
            );
        }
    }
    Ok(())
}

/// The value of a metric of the instance.
async fn of_instance(gateway: &Gateway, metric: &str) -> Result<Option<String>> {
    let text = metrics(gateway).await?;
    let start = format!("{metric}{{name=\"pool-1\"}} ");
    let mut values = samples(&text).filter_map(|line| line.strip_prefix(&*start));
    Ok(values.next().map(str::to_owned))
}

#[tokio::test]
async fn an_alert_says_which_instance_was_stopped() -> Result<()> {
    let mut kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let password = secret::random()?;
    let openclaw = dir.path().join("openclaw");
    let mut openclaw = OpenClaw::start(kit.install.clone(), &openclaw, &password).await?;
    kit.openclaw = openclaw.url();
    kit.openclaw_password = password;
    let config = Config::new(&kit, dir.path())?;
    let gateway = Gateway::start(config, dir.path()).await?;
    let prometheus =
        Prometheus::start_for(dir.path(), &[gateway.config().admin], Some("1s")).await?;

    let alice = Person::sign_in(&kit, "alice", &gateway).await?;
    let mut hers = alice.open().await?;
    assert_eq!(hers.turn("hello").await?.state, "final");
    prometheus
        .until_there_are(r#"gateway_instance_connections{name="pool-1"} == 1"#)
        .await?;
    prometheus
        .until_there_are("gateway_people_connected == 1 and gateway_people_signed_in == 1")
        .await?;
    // The store is asked twice a minute.
    prometheus
        .until_there_are(r#"gateway_instance_people{name="pool-1"} == 1"#)
        .await?;
    strangers_make_no_series(&kit, &gateway).await?;
    let firing = prometheus.firing().await?;
    assert!(firing.is_empty(), "nothing is wrong yet: {firing:?}");

    openclaw.stop().await?;
    let alert = prometheus
        .fires("InstanceDown", Duration::from_secs(30))
        .await?;
    assert_eq!(alert["labels"]["name"], "pool-1");
    assert_eq!(alert["labels"]["severity"], "critical");
    let said = alert["annotations"]["summary"].as_str().unwrap_or_default();
    assert!(said.contains("pool-1"), "{said}");
    assert_eq!(
        of_instance(&gateway, "gateway_instance_up")
            .await?
            .as_deref(),
        Some("0")
    );
    prometheus
        .until_there_are(r#"gateway_instances{state="down"} == 1"#)
        .await?;
    let sockets = of_instance(&gateway, "gateway_instance_connections").await?;
    assert_eq!(sockets.as_deref(), Some("0"), "her socket ended with it");
    drop(hers);
    Ok(())
}
