//! Nothing that opens anything is in a log, an error or an answer.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use http::Method;
use serde_json::json;
use tower_sso::session::Refresh as _;
use tracing_subscriber::fmt::MakeWriter;

use crate::support::*;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn d8_70_no_code_token_or_secret_is_in_a_log_or_an_answer() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(log.clone())
        .finish();
    // For all tests of this process: what they log must hold no canary either.
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let mut secrets = vec!["canary".to_owned()];
    let mut shown = String::new();
    let keep = |secrets: &mut Vec<String>, shown: &mut String, browser: &Browser, page: &Page| {
        secrets.extend(browser.cookies.values().cloned());
        shown.push_str(&page.body);
    };
    for fault in [
        None,
        Some((
            "/token",
            Fault::Answer(
                400,
                r#"{"error":"invalid_grant","error_description":"canary"}"#,
            ),
        )),
        Some(("/token", Fault::Answer(500, "canary"))),
        Some((
            "/token",
            Fault::Answer(200, "{\"access_token\":\"canary\",\"token_type\":\"x\"}"),
        )),
        Some(("/token", Fault::Error)),
        Some(("/token", Fault::Never)),
        Some(("/keys", Fault::Answer(200, "canary"))),
        Some(("/userinfo", Fault::Answer(403, "canary"))),
        Some((
            "/.well-known/openid-configuration",
            Fault::Answer(200, "canary"),
        )),
    ] {
        let setup = Setup::new();
        let server = setup.server();
        setup.provider.state().claims = json!({"email": null, "name": "canary"});
        setup.provider.state().userinfo = json!({"sub": "alice", "email": "canary@example.com"});
        let mut browser = Browser::default();
        let location = browser.begin(&server, "?return_to=/here").await;
        secrets.push(parameter(&location, "state").unwrap());
        secrets.push(parameter(&location, "nonce").unwrap());
        let callback = setup.provider.authorize(&location);
        let fails = fault.is_some();
        if let Some((path, fault)) = fault {
            setup.provider.fail(path, fault);
        }
        let page = browser.get(&setup.server(), callback.as_str()).await;
        if fails {
            keep(&mut secrets, &mut shown, &browser, &page);
        }
        let page = browser.get(&server, callback.as_str()).await;
        keep(&mut secrets, &mut shown, &browser, &page);
        setup.provider.heal();
        for claims in [
            json!({"sub": "canary"}),
            json!({"nonce": "canary", "sub": "canary"}),
        ] {
            let token = setup.provider.logout_token(&claims);
            let form = [("content-type", "application/x-www-form-urlencoded")];
            let body = format!("logout_token={token}");
            let page = browser
                .send(
                    &server,
                    Method::POST,
                    "/auth/backchannel-logout",
                    &form,
                    &body,
                )
                .await;
            keep(&mut secrets, &mut shown, &browser, &page);
            secrets.push(token);
        }
        let tokens = crate::refresh::tokens("canary-refresh", None);
        let _ = server
            .providers
            .refresh(&crate::refresh::person("corp"), &tokens)
            .await;
        let page = browser
            .send(
                &server,
                Method::POST,
                "/auth/logout",
                &[("origin", ORIGIN)],
                "",
            )
            .await;
        keep(&mut secrets, &mut shown, &browser, &page);
        shown.push_str(&format!(
            "{server:?}",
            server = (&server.service, &server.providers)
        ));
    }

    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(
        log.contains("token endpoint"),
        "something was logged: {log}"
    );
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        assert!(!log.contains(secret), "{secret} in {log}");
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}
