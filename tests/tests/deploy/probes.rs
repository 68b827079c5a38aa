//! What Compose asks of a service to know whether it is well: something that only who serves can answer.

use std::process::Stdio;

use gateway_tests::{error::Result, kit::Kit, nginx::Nginx, port::free_address, tls};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{compose::yaml, deploy, headers::Recorder, shipped};

/// Where nginx is in its container.
const NGINX: &str = "::127.0.0.1:443";

/// What the Dockerfile of an OpenClaw has asked, as Compose would write it.
pub(crate) fn of_openclaw() -> Value {
    let dockerfile = shipped("openclaw/Dockerfile");
    let probe = dockerfile
        .split("\nHEALTHCHECK ")
        .nth(1)
        .and_then(|rest| rest.split("CMD ").nth(1));
    let line = probe.and_then(|probe| probe.lines().next());
    let words = line.and_then(|line| serde_json::from_str::<Vec<String>>(line).ok());
    let mut words = words.expect("a list of words");
    words.insert(0, "CMD".to_owned());
    words.into()
}

/// Whether a probe has one of the forms of which it is known that they fail when nothing answers.
pub(crate) fn needs_an_answer(probe: &Value) -> bool {
    let words = probe.as_array().into_iter().flatten();
    let words: Vec<_> = words.filter_map(Value::as_str).collect();
    match &*words {
        ["CMD", "curl", options @ .., url] => {
            options.contains(&"--fail")
                && options.contains(&NGINX)
                && url.starts_with("https://")
                && url.ends_with("/health")
        }
        ["CMD", "wget", "-q", "--spider", url] => url.starts_with("http://127.0.0.1:"),
        // Bash's own way to connect, and then the status.
        ["CMD", "bash", "-c", script] => {
            script.starts_with("exec 3<>/dev/tcp/127.0.0.1/")
                && script.ends_with(r#"read -r line <&3 && [[ $$line == *" 200 "* ]]"#)
        }
        ["CMD", "node", "-e", script] => {
            script.starts_with("fetch('http://127.0.0.1:")
                && script.ends_with(".then(a => process.exit(a.ok ? 0 : 1), () => process.exit(1))")
        }
        // It connects, and fails unless connections are taken.
        ["CMD", "pg_isready", ..] => true,
        // What redis-cli says ends with 0 when it is an error, too.
        ["CMD-SHELL", script] => script.ends_with("redis-cli ping | grep -q PONG"),
        _ => false,
    }
}

#[test]
fn a_probe_that_nobody_has_to_answer_is_found() {
    for probe in [
        json!(null),
        json!(["NONE"]),
        json!(["CMD", "true"]),
        json!(["CMD", "nginx", "-t", "-c", "/etc/nginx/gateway/nginx.conf"]),
        // It ends well whatever the status is.
        json!([
            "CMD",
            "curl",
            "--silent",
            "--connect-to",
            NGINX,
            "https://a/health"
        ]),
        // Another host than this container.
        json!(["CMD", "curl", "--fail", "https://a/health"]),
        json!([
            "CMD",
            "wget",
            "-q",
            "--spider",
            "http://grafana:3000/api/health"
        ]),
        json!(["CMD", "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/3001"]),
        json!([
            "CMD",
            "node",
            "-e",
            "fetch('http://127.0.0.1:18789/readyz')"
        ]),
        json!(["CMD-SHELL", "redis-cli ping"]),
        json!("redis-cli ping | grep -q PONG"),
    ] {
        assert!(!needs_an_answer(&probe), "{probe}");
    }
}

/// The probe of `compose.yaml` before the nginx of `nginx.conf`, with the name and the port that it has here.
#[tokio::test]
async fn nginx_is_well_while_it_leads_to_a_gateway_and_not_when_it_is_gone() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let log = dir.path().join("compose.log");
    let compose = yaml(&kit, &deploy("compose.yaml"), &log).await?;
    let probe = &compose["services"]["nginx"]["healthcheck"]["test"];
    let words = probe.as_array().into_iter().flatten();
    let words: Vec<_> = words.filter_map(Value::as_str).collect();
    let ["CMD", program, arguments @ .., url] = &*words else {
        panic!("{probe}");
    };
    let host = url.trim_start_matches("https://");
    let host = host.split('/').next().unwrap_or_default();
    for (file, named) in [
        ("nginx/nginx.conf", format!("server_name {host};")),
        (
            "gateway/gateway.toml",
            format!("public_url = \"https://{host}\""),
        ),
    ] {
        assert!(shipped(file).contains(&named), "{file} has no `{named}`");
    }
    let is_well = async |nginx: &str| {
        let mut command = Command::new(program);
        let here = arguments
            .iter()
            .map(|word| if *word == NGINX { nginx } else { word });
        command.env_clear().args(here);
        let status = command
            .arg(url.replacen(host, tls::NAME, 1))
            .stderr(Stdio::null())
            .status()
            .await;
        status.expect("it runs").success()
    };
    let recorder = Recorder::start().await;
    let nginx = Nginx::start(dir.path(), [recorder.address, recorder.address]).await?;
    let at = format!("::{}", nginx.https());
    assert!(is_well(&at).await, "it serves");
    let heads = recorder.take();
    assert!(
        heads.len() == 1 && heads[0].starts_with("get /health "),
        "{heads:?}"
    );
    drop(nginx);
    assert!(!is_well(&at).await, "it is gone");

    let other = dir.path().join("other");
    std::fs::create_dir(&other).expect("a directory");
    let away = [free_address()?, free_address()?];
    let nginx = Nginx::start(&other, away).await?;
    let at = format!("::{}", nginx.https());
    assert!(!is_well(&at).await, "no gateway is there");
    Ok(())
}
