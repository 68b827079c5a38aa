//! Quotas as an administrator sets them: at once in force, kept, and refused by the field that is wrong.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::{fmt::Write, time::Duration};

use ::http::{Method, StatusCode};
use gateway_tests::{
    browser::Browser,
    error::Result,
    gateway::{Config, Gateway},
    http,
    kit::Kit,
    person::{Person, send_params},
    secret,
    stopwatch::Stopwatch,
    webhook::Webhook,
};
use serde_json::{Value, json};
use tokio::time::timeout;

fn standing<'a>(quota: &'a Value, dimension: &str, window: &str) -> &'a Value {
    let limits = quota["standing"].as_array().into_iter().flatten();
    let mut limits = limits.filter(|limit| limit["dimension"] == dimension);
    limits
        .find(|limit| limit["window"] == window)
        .expect("the limit is shown")
}

#[tokio::test]
async fn what_an_administrator_sets_is_in_force_at_once_and_stays() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut config = Config::new(&kit, dir.path())?;
    config.text += "\n[plan.trial]\ncalls_per_hour = 1\n";
    let mut gateway = Gateway::start(config, dir.path()).await?;
    let mut admin = Browser::new();
    admin.sign_in_at(&gateway, "admin").await?;
    let quota = gateway.url("/api/admin/users/quota-sue/quota");
    let sue = Person::sign_in(&kit, "quota-sue", &gateway).await?;
    let mut socket = sue.open().await?;

    let put = |version: u64, rest: Value| {
        let mut whole = json!({"version": version});
        for (name, value) in rest.as_object().into_iter().flatten() {
            whole[name] = value.clone();
        }
        whole.to_string()
    };
    let none = put(
        0,
        json!({"limits": [{"dimension": "calls", "window": "day", "limit": 0}]}),
    );
    let set = admin.fetch(Method::PUT, &quota, &none).await?;
    let set = set.expect_status(StatusCode::OK)?.json()?;
    assert_eq!(set["version"], 1);
    let refused = socket.ws.request("chat.send", send_params("no")?).await?;
    assert_eq!(refused["error"]["code"], "API_CALLS_EXCEEDED", "{refused}");

    // A grant unblocks within a second, and so does a limit that is raised.
    let more = json!({
        "dimension": "calls", "window": "day", "amount": 1, "expiresAt": "2126-01-01T00:00:00Z",
    });
    let grants = format!("{quota}/grants");
    let begun = Stopwatch::start();
    let granted = admin
        .fetch(Method::POST, &grants, &more.to_string())
        .await?;
    granted.expect_status(StatusCode::CREATED)?;
    let run = socket.start("one more").await?;
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    socket.end_of(&run).await?;
    let refused = socket.ws.request("chat.send", send_params("no")?).await?;
    assert_eq!(refused["error"]["details"]["limit"], 1, "{refused}");
    let shown = admin.fetch(Method::GET, &quota, "").await?.json()?;
    assert_eq!(
        standing(&shown, "calls", "day")["limit"],
        1,
        "with what is granted"
    );
    assert_eq!(shown["limits"][0]["limit"], 0, "without");

    // Of two who have read the same, the second is told to read again.
    let raised = json!({
        "plan": "trial", "timeZone": "Pacific/Kiritimati",
        "limits": [
            {"dimension": "calls", "window": "day", "limit": 5},
            {"dimension": "cost", "window": "month", "limit": "12.5"},
            {"dimension": "tokens", "window": "day", "limit": null},
        ],
    });
    for (version, status) in [
        (1, StatusCode::CONFLICT),
        (2, StatusCode::OK),
        (2, StatusCode::CONFLICT),
    ] {
        let body = put(version, raised.clone());
        let answer = admin.fetch(Method::PUT, &quota, &body).await?;
        assert_eq!(answer.status, status, "{version}: {}", answer.text());
    }

    // The plan's hour is used up by nothing: what counted before it was limited by the hour does not count there.
    socket.turn("another").await?;
    let refused = socket.ws.request("chat.send", send_params("no")?).await?;
    assert_eq!(
        refused["error"]["details"]["limit"], 1,
        "an hour's: {refused}"
    );

    // What is wrong is named, and changes nothing.
    let limit = |limit: Value| json!({"limits": [{"dimension": "tokens", "window": "day", "limit": limit}]});
    let cost =
        |limit: &str| json!({"limits": [{"dimension": "cost", "window": "day", "limit": limit}]});
    for (wrong, field) in [
        (limit(json!(-1)), "limits[0].limit"),
        (limit(json!(1.5)), "limits[0].limit"),
        (limit(json!(u64::MAX)), "limits[0].limit"),
        (limit(json!("5")), "limits[0].limit"),
        (cost("-1"), "limits[0].limit"),
        (cost("NaN"), "limits[0].limit"),
        (cost("inf"), "limits[0].limit"),
        (cost("1e400"), "limits[0].limit"),
        (cost("99999999999999999999"), "limits[0].limit"),
        (
            json!({"limits": [{"dimension": "x", "window": "day", "limit": 1}]}),
            "limits[0].dimension",
        ),
        (
            json!({"limits": [{"dimension": "calls", "window": "week", "limit": 1}]}),
            "limits[0].window",
        ),
        (
            json!({"limits": [
                {"dimension": "calls", "window": "day", "limit": 1}, {"dimension": "calls", "window": "day", "limit": 2},
            ]}),
            "limits",
        ),
        (json!({"timeZone": "Mars/Olympus"}), "timeZone"),
        (json!({"plan": "none"}), "plan"),
        (
            json!({"grants": [{"dimension": "calls", "window": "day", "amount": 1, "expiresAt": "soon"}]}),
            "grants[0].expiresAt",
        ),
        (json!({"more": 1}), "more"),
    ] {
        let answer = admin
            .fetch(Method::PUT, &quota, &put(3, wrong.clone()))
            .await?;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{wrong}");
        assert!(answer.text().contains(field), "{wrong}: {}", answer.text());
    }
    let mut nobody = Browser::new();
    nobody.sign_in_at(&gateway, "quota-tim").await?;
    for method in [Method::GET, Method::PUT] {
        let answer = nobody
            .fetch(method, &quota, &put(3, raised.clone()))
            .await?;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
    }

    // After a crash it is as it was.
    let before = admin.fetch(Method::GET, &quota, "").await?.json()?;
    drop(socket);
    timeout(
        Duration::from_secs(30),
        sue.wait_for("/api/quota", |quota| {
            let limits = quota["limits"].as_array().into_iter().flatten();
            let mut reserved = limits.filter_map(|limit| limit["reserved"].as_u64());
            reserved.all(|reserved| reserved == 0)
        }),
    )
    .await
    .expect("both runs end")?;
    gateway.kill9().await?;
    gateway.start_again().await?;
    let after = admin.fetch(Method::GET, &quota, "").await?.json()?;
    for what in ["plan", "timeZone", "limits", "grants"] {
        assert_eq!(after[what], before[what], "{what}");
    }
    assert_eq!(after["plan"], "trial");
    let calls = standing(&after, "calls", "hour");
    assert_eq!(calls["limit"], 1);
    Ok(())
}

#[tokio::test]
async fn d5_54_who_has_used_a_part_of_a_limit_is_told_once_for_each_part() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut config = Config::new(&kit, dir.path())?;
    let plan = "[plan.default]\nalert_at = [100, 50]\n";
    config.text = config.text.replacen("[plan.default]\n", plan, 1);
    let mut gateway = Gateway::start(config, dir.path()).await?;
    let mut admin = Browser::new();
    admin.sign_in_at(&gateway, "admin").await?;
    let quota = gateway.url("/api/admin/users/quota-uma/quota");
    let limit = json!({
        "version": 0, "limits": [{"dimension": "tokens", "window": "day", "limit": 1_000}],
    });
    let uma = Person::sign_in(&kit, "quota-uma", &gateway).await?;
    let mut socket = uma.open().await?;
    let set = admin.fetch(Method::PUT, &quota, &limit.to_string()).await?;
    set.expect_status(StatusCode::OK)?;
    let told = |alerts: &Value| {
        let alerts = alerts["alerts"].as_array().into_iter().flatten();
        let told = alerts.rev().map(|alert| alert["threshold"].as_u64());
        told.flatten().collect::<Vec<_>>()
    };
    socket.turn("[[in=500]] [[out=50]] half").await?;
    uma.wait_for("/api/alerts", |alerts| told(alerts) == [50])
        .await?;
    socket.turn("[[in=500]] [[out=50]] all").await?;
    let alerts = uma
        .wait_for("/api/alerts", |alerts| told(alerts) == [50, 100])
        .await?;
    let last = &alerts["alerts"][0];
    assert_eq!(
        (&last["limit"], &last["amount"]),
        (&json!("daily_tokens"), &json!(1_000))
    );

    // Administrators see everybody's, and say what has become of one; a restart tells nothing again.
    gateway.restart().await?;
    let all = gateway.url("/api/admin/alerts?state=triggered&user=quota-uma");
    let shown = admin.fetch(Method::GET, &all, "").await?.json()?;
    assert_eq!(told(&shown), [50, 100]);
    let id = last["id"].as_str().unwrap_or_default();
    let resolve = gateway.url(&format!("/api/admin/alerts/{id}/resolve"));
    let note = r#"{"note":"more from tomorrow on"}"#;
    let mut nobody = Browser::new();
    nobody.sign_in_at(&gateway, "quota-tim").await?;
    let answer = nobody.fetch(Method::POST, &resolve, note).await?;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let answer = admin.fetch(Method::POST, &resolve, note).await?;
    let resolved = answer.expect_status(StatusCode::OK)?.json()?;
    assert_eq!(
        (&resolved["resolvedBy"], &resolved["state"]),
        (&json!("admin"), &json!("resolved"))
    );
    let acknowledge = gateway.url(&format!("/api/admin/alerts/{id}/acknowledge"));
    let answer = admin.fetch(Method::POST, &acknowledge, "").await?;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    let shown = admin.fetch(Method::GET, &all, "").await?.json()?;
    assert_eq!(told(&shown), [50]);
    Ok(())
}

/// Waits until so many deliveries have had an outcome.
async fn deliveries(gateway: &Gateway, outcome: &str, count: u64) -> Result<()> {
    let start = format!(r#"gateway_webhook_deliveries_total{{outcome="{outcome}"}} "#);
    let counted = async {
        loop {
            let metrics = http::get(&gateway.admin_url("/metrics"), None)
                .await?
                .text();
            let mut lines = metrics.lines().filter_map(|line| line.strip_prefix(&start));
            let counted = lines.next().and_then(|value| value.parse::<u64>().ok());
            if counted >= Some(count) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let limit = Duration::from_secs(60);
    timeout(limit, counted)
        .await
        .expect("deliveries are counted")
}

#[tokio::test]
async fn an_alert_is_sent_to_the_webhook_until_it_takes_it_whatever_happens_to_the_gateway()
-> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let webhook = Webhook::start(StatusCode::INTERNAL_SERVER_ERROR).await?;
    let (token, old, new) = (secret::random()?, secret::webhook()?, secret::webhook()?);
    let secrets = dir.path().join("webhook-secrets");
    std::fs::write(&secrets, format!("{new}\n{old}\n")).expect("a file");
    let mut config = Config::new(&kit, dir.path())?;
    let plan = "[plan.default]\nalert_at = [50]\n";
    config.text = config.text.replacen("[plan.default]\n", plan, 1);
    let url = webhook.url(&format!("/alerts?token={token}"));
    let secrets = secrets.display();
    write!(
        config.text,
        "\n[alerts]\nwebhook_url = \"{url}\"\nwebhook_secret_file = \"{secrets}\"\n",
    )
    .expect("a text takes everything");
    let mut gateway = Gateway::start(config, dir.path()).await?;
    let mut admin = Browser::new();
    admin.sign_in_at(&gateway, "admin").await?;
    let quota = gateway.url("/api/admin/users/quota-vera/quota");
    let limit = json!({
        "version": 0, "limits": [{"dimension": "tokens", "window": "day", "limit": 1_000}],
    });
    let vera = Person::sign_in(&kit, "quota-vera", &gateway).await?;
    let mut socket = vera.open().await?;
    let set = admin.fetch(Method::PUT, &quota, &limit.to_string()).await?;
    set.expect_status(StatusCode::OK)?;

    socket.turn("[[in=500]] [[out=50]] half").await?;
    webhook.wait_for(StatusCode::INTERNAL_SERVER_ERROR).await?;
    deliveries(&gateway, "failed", 1).await?;
    drop(socket);
    gateway.kill9().await?;
    webhook.answer(StatusCode::NO_CONTENT);
    gateway.start_again().await?;
    let arrived = webhook.wait_for(StatusCode::NO_CONTENT).await?;
    deliveries(&gateway, "delivered", 1).await?;

    let shown = vera.get("/api/alerts").await?;
    let alert = &shown["alerts"][0];
    for delivery in &arrived {
        let asked = delivery
            .uri
            .path_and_query()
            .map_or("", |asked| asked.as_str());
        assert_eq!(asked, format!("/alerts?token={token}"));
        assert_eq!(delivery.header("webhook-id"), alert["id"]);
        assert!(delivery.is_signed_with(&old) && delivery.is_signed_with(&new));
        let body = delivery.json()?;
        assert_eq!(
            (&body["type"], &body["data"]),
            (&json!("quota.alert"), alert)
        );
    }
    assert_eq!(alert["user"], "quota-vera");
    assert_eq!(webhook.deliveries().len(), arrived.len(), "no more");
    let log = gateway.log()?;
    for secret in [&token, &old, &new] {
        let bare = secret.trim_start_matches("whsec_");
        assert!(!log.contains(bare), "a secret is in the log");
    }
    Ok(())
}
