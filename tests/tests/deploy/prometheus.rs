//! Prometheus with the files that are shipped, before a gateway.

use std::{
    collections::BTreeSet,
    fmt::Write,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use gateway_tests::{
    error::{Error, Result},
    http,
    port::free_address,
    process::Process,
};
use serde_json::Value;
use tokio::{
    process::Command,
    time::{Instant, sleep},
};

use crate::{
    deploy,
    expressions::{self, Expression, metrics_of, unknown},
    shipped,
    table::is_as_documented,
};

const LIMIT: Duration = Duration::from_secs(60);

/// A running Prometheus.
pub(crate) struct Prometheus {
    address: SocketAddr,
    gateways: Vec<SocketAddr>,
    _process: Process,
}

impl Prometheus {
    /// Starts it with our rules and our targets, which are these gateways.
    pub(crate) async fn start(dir: &Path, gateways: &[SocketAddr]) -> Result<Self> {
        Self::start_for(dir, gateways, None).await
    }

    /// The same, with alerts that are raised as soon as what they say has been so for that long.
    pub(crate) async fn start_for(
        dir: &Path,
        gateways: &[SocketAddr],
        patience: Option<&str>,
    ) -> Result<Self> {
        let dir = dir.join("prometheus");
        fs::create_dir(&dir).expect("a directory");
        for rules in ["rules.yml", "alerts.yml"] {
            let mut text = shipped(&format!("prometheus/{rules}"));
            if let Some(patience) = patience {
                text = hurried(&text, patience);
            }
            fs::write(dir.join(rules), text).expect("rules");
        }
        let address = free_address()?;
        let targets = gateways
            .iter()
            .map(SocketAddr::to_string)
            .collect::<Vec<_>>()
            .join(", ");
        let mut config = shipped("prometheus/prometheus.yml");
        for (old, new) in [
            ("gateway-1:3001, gateway-2:3001", targets.as_str()),
            ("localhost:9090", &address.to_string()),
            ("scrape_interval: 15s", "scrape_interval: 1s"),
            ("evaluation_interval: 15s", "evaluation_interval: 1s"),
        ] {
            assert!(config.contains(old), "prometheus.yml has no `{old}`");
            config = config.replacen(old, new, 1);
        }
        fs::write(dir.join("prometheus.yml"), config).expect("a configuration");
        let mut command = Command::new("prometheus");
        command
            .arg(format!(
                "--config.file={}",
                dir.join("prometheus.yml").display()
            ))
            .arg(format!(
                "--storage.tsdb.path={}",
                dir.join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"));
        let mut process = Process::spawn("prometheus", command, dir.join("prometheus.log"))?;
        process
            .ready(&format!("http://{address}/-/ready"), LIMIT)
            .await?;
        Ok(Self {
            address,
            gateways: gateways.to_vec(),
            _process: process,
        })
    }

    /// Every rule and every expression of a dashboard is answered, with data where there are any.
    pub(crate) async fn answers_everything(&self) -> Result<()> {
        let mut scraped = BTreeSet::new();
        for gateway in &self.gateways {
            let mut count = 0;
            let url = format!("http://{gateway}/metrics");
            let text = http::get(&url, None).await?.text();
            is_as_documented(&text);
            for line in text.lines().filter(|line| !line.starts_with('#')) {
                let name = line.split(['{', ' ']).next().unwrap_or_default();
                if !name.is_empty() {
                    scraped.insert(name.to_owned());
                    count += 1;
                }
            }
            // How fast something grows is known of what was seen twice.
            let target = format!(r#"job="gateway",instance="{gateway}""#);
            let whole = format!("scrape_samples_scraped{{{target}}} >= {count}");
            self.until_there_are(&format!("count_over_time(({whole})[30s:1s]) >= 4"))
                .await?;
        }
        let mut without = Vec::new();
        for Expression { place, text } in expressions::of_dashboards() {
            let answered = self.query(&text).await?;
            // A filter may match nothing: nobody was refused, say.
            let has_data = |name: &String| {
                name == "up" || name == "scrape_duration_seconds" || scraped.contains(name)
            };
            let must = metrics_of(&text).iter().all(has_data) && !text.contains("reason=");
            match (answered.is_empty(), must) {
                (true, true) => return Err(unanswered(&place, &text)),
                (true, false) => without.push(place),
                _ => {}
            }
        }
        println!(
            "no data, since nothing of the kind has happened: {}",
            without.join("; ")
        );
        for must in [
            "People and connections: \"Open sockets\"",
            "Instances: \"Ready\"",
            "Latency: \"Answer to a request, 99 %\"",
            "Runs, tokens and money: \"USD in a day\"",
            "Runs, tokens and money: \"Runs\"",
        ] {
            assert!(!without.iter().any(|place| place == must), "{must}");
        }
        let rules = self.get("/api/v1/rules").await?;
        let groups = rules["data"]["groups"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let rules: Vec<&Value> = groups
            .iter()
            .filter_map(|group| group["rules"].as_array())
            .flatten()
            .collect();
        assert!(rules.len() > 15, "{}", rules.len());
        for rule in rules {
            assert_ne!(rule["health"], "err", "{rule}");
            // All is well, and none of them may say otherwise.
            assert_ne!(rule["state"], "firing", "{rule}");
        }
        Ok(())
    }

    /// The alerts that are firing, by name.
    pub(crate) async fn firing(&self) -> Result<Vec<Value>> {
        let answer = self.get("/api/v1/alerts").await?;
        let alerts = answer["data"]["alerts"].as_array().cloned();
        let mut alerts = alerts.unwrap_or_default();
        alerts.retain(|alert| alert["state"] == "firing");
        Ok(alerts)
    }

    /// Waits until an alert fires.
    pub(crate) async fn fires(&self, name: &str, limit: Duration) -> Result<Value> {
        let deadline = Instant::now() + limit;
        loop {
            let mut firing = self.firing().await?.into_iter();
            if let Some(alert) = firing.find(|alert| alert["labels"]["alertname"] == name) {
                return Ok(alert);
            }
            if Instant::now() > deadline {
                return Err(Error::Late(limit, name.to_owned()));
            }
            sleep(Duration::from_millis(250)).await;
        }
    }

    pub(crate) async fn until_there_are(&self, expression: &str) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        while self.query(expression).await?.is_empty() {
            if Instant::now() > deadline {
                return Err(Error::Late(LIMIT, expression.to_owned()));
            }
            sleep(Duration::from_millis(250)).await;
        }
        Ok(())
    }

    async fn query(&self, expression: &str) -> Result<Vec<Value>> {
        let mut query = String::from("/api/v1/query?query=");
        for byte in expression.bytes() {
            // Writing to a String does not fail.
            let _ = write!(query, "%{byte:02X}");
        }
        let answer = self.get(&query).await?;
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        Ok(answer["data"]["result"]
            .as_array()
            .cloned()
            .unwrap_or_default())
    }

    async fn get(&self, path: &str) -> Result<Value> {
        http::get(&format!("http://{}{path}", self.address), None)
            .await?
            .json()
    }
}

fn unanswered(place: &str, text: &str) -> Error {
    panic!("{place} has no data: {text}")
}

/// The same rules, of which each waits only so long.
fn hurried(rules: &str, patience: &str) -> String {
    let lines = rules.lines().map(|line| match line.find("for: ") {
        Some(at) if line.trim_start().starts_with("for: ") => {
            let (indent, _) = line.split_at(at);
            format!("{indent}for: {patience}\n")
        }
        _ => format!("{line}\n"),
    });
    lines.collect()
}

/// Runs `promtool`, which must be content.
async fn promtool(arguments: &[&str], file: &Path, log: PathBuf) -> Result<()> {
    let mut command = Command::new("promtool");
    command.args(arguments).arg(file);
    Process::spawn("promtool", command, log)?
        .succeed(LIMIT)
        .await
}

#[tokio::test]
async fn rules_and_dashboards_are_valid_and_name_nothing_that_does_not_exist() -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let log = || dir.path().join("promtool.log");
    promtool(
        &["check", "config"],
        &deploy("prometheus/prometheus.yml"),
        log(),
    )
    .await?;
    let mut expressions = expressions::of_dashboards();
    let mut recorded = BTreeSet::new();
    for rules in ["prometheus/rules.yml", "prometheus/alerts.yml"] {
        promtool(
            &["check", "rules", "--lint=all", "--lint-fatal"],
            &deploy(rules),
            log(),
        )
        .await?;
        let text = shipped(rules);
        let mut rules = 0;
        for line in text.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix("- record: ") {
                recorded.insert(name.to_owned());
            }
            rules += usize::from(line.starts_with("- record: ") || line.starts_with("- alert: "));
            if let Some(expression) = line.strip_prefix("expr: ") {
                rules -= 1;
                expressions.push(Expression {
                    place: line.to_owned(),
                    text: expression.to_owned(),
                });
            }
        }
        assert_eq!(rules, 0, "each rule has its expression on a line");
    }
    // `promtool` parses rules: each expression of a dashboard becomes one.
    let mut as_rules = String::from("groups:\n  - name: dashboards\n    rules:\n");
    for (n, Expression { place, text }) in expressions.iter().enumerate() {
        assert_eq!(
            unknown(text, &recorded),
            Vec::<String>::new(),
            "{place}: {text}"
        );
        // Writing to a String does not fail. A JSON text is a YAML text.
        let _ = writeln!(
            as_rules,
            "      - record: dashboard:expression:{n}\n        expr: {}",
            Value::from(text.as_str())
        );
    }
    let file = dir.path().join("dashboards.yml");
    fs::write(&file, as_rules).expect("rules");
    promtool(&["check", "rules"], &file, log()).await
}
