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
use serde_json::{Value, json};
use tokio::{
    process::Command,
    time::{Instant, sleep},
};

use crate::{
    deploy,
    expressions::{self, Expression, unknown},
    shipped,
    table::{is_as_documented, samples},
};

const LIMIT: Duration = Duration::from_secs(60);

/// In so long something is scraped, and rules are evaluated, several times.
const SEEN: Duration = Duration::from_secs(15);

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

    /// Every rule and every expression of a dashboard is answered, with data. How fast things go is asked of the last minute:
    /// somebody must have opened a socket and chatted within it.
    pub(crate) async fn answers_everything(&self) -> Result<()> {
        for gateway in &self.gateways {
            let url = format!("http://{gateway}/metrics");
            let text = http::get(&url, None).await?.text();
            is_as_documented(&text);
            let count = samples(&text).count();
            // How fast something grows is known of what was seen twice.
            let target = format!(r#"job="gateway",instance="{gateway}""#);
            let whole = format!("scrape_samples_scraped{{{target}}} >= {count}");
            self.until_there_are(&format!("count_over_time(({whole})[30s:1s]) >= 4"))
                .await?;
        }
        let rules = self.get("/api/v1/rules").await?;
        let groups = rules["data"]["groups"].as_array();
        let rules: Vec<&Value> = groups
            .into_iter()
            .flatten()
            .filter_map(|group| group["rules"].as_array())
            .flatten()
            .collect();
        assert!(rules.len() > 30, "{}", rules.len());
        let mut expressions = expressions::of_dashboards();
        for rule in rules {
            assert_ne!(rule["health"], "err", "{rule}");
            // All is well, and none of them may say otherwise.
            assert_ne!(rule["state"], "firing", "{rule}");
            if rule["type"] == "recording" {
                let name = rule["name"].as_str().expect("a name").to_owned();
                expressions.push(Expression {
                    place: "rules.yml".to_owned(),
                    text: name,
                });
            }
        }
        self.answers(expressions).await
    }

    /// Each of these expressions has data, at the latest when what has just happened was seen.
    async fn answers(&self, mut expressions: Vec<Expression>) -> Result<()> {
        let deadline = Instant::now() + SEEN;
        loop {
            let mut without = Vec::new();
            for expression in expressions {
                if self.query(&expression.text).await?.is_empty() {
                    without.push(expression);
                }
            }
            if without.is_empty() {
                return Ok(());
            }
            assert!(Instant::now() < deadline, "no data: {without:#?}");
            expressions = without;
            sleep(Duration::from_millis(250)).await;
        }
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

    /// The samples that an expression has now. What is divided by nothing is no number, and is none.
    async fn query(&self, expression: &str) -> Result<Vec<Value>> {
        let mut query = String::from("/api/v1/query?query=");
        for byte in expression.bytes() {
            // Writing to a String does not fail.
            let _ = write!(query, "%{byte:02X}");
        }
        let answer = self.get(&query).await?;
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        let samples = answer["data"]["result"].as_array().cloned();
        let mut samples = samples.unwrap_or_default();
        samples.retain(|sample| sample["value"][1] != "NaN");
        Ok(samples)
    }

    async fn get(&self, path: &str) -> Result<Value> {
        http::get(&format!("http://{}{path}", self.address), None)
            .await?
            .json()
    }
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

/// What `rules.yml` and `alerts.yml` say of the series of three planes: of one nothing fails, of one nobody asks any more,
/// of one half of all requests fail.
#[tokio::test]
async fn the_share_of_failed_requests_is_zero_before_the_first_one_fails() -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let rules = ["rules.yml", "alerts.yml"].map(|file| deploy("prometheus").join(file));
    let series = |plane: &str, status: &str, values: &str| {
        let name = format!(r#"gateway_request_seconds_count{{plane="{plane}",status="{status}"}}"#);
        json!({"series": name, "values": values})
    };
    let share = |plane: &str, share: f64| {
        let name = format!(r#"gateway:requests_failed:ratio5m{{plane="{plane}"}}"#);
        json!({"labels": name, "value": share})
    };
    let told = json!({
        "exp_labels": {"severity": "warning", "plane": "failing"},
        "exp_annotations": {
            "summary": "50% of requests (failing) end in an error of ours",
            "description": "The dashboard Latency says which routes; look at the gateways' logs.",
        },
    });
    // A JSON text is a YAML text.
    let test = json!({
        "rule_files": rules,
        "evaluation_interval": "15s",
        "tests": [{
            "interval": "15s",
            "input_series": [
                series("good", "2xx", "0+1x80"),
                series("silent", "2xx", "5+0x80"),
                series("failing", "2xx", "0+1x80"),
                series("failing", "5xx", "0+1x80"),
            ],
            "promql_expr_test": [{
                "expr": "gateway:requests_failed:ratio5m",
                "eval_time": "20m",
                "exp_samples": [share("failing", 0.5), share("good", 0.0), share("silent", 0.0)],
            }],
            "alert_rule_test": [
                {"alertname": "RequestsFail", "eval_time": "5m", "exp_alerts": []},
                {"alertname": "RequestsFail", "eval_time": "20m", "exp_alerts": [told]},
            ],
        }],
    });
    let file = dir.path().join("test.yml");
    fs::write(&file, test.to_string()).expect("a test");
    promtool(&["test", "rules"], &file, dir.path().join("promtool.log")).await
}

#[tokio::test]
async fn a_certificate_is_told_of_two_weeks_before_it_ends() -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let series = |gateway: &str, end: u64| {
        let name = format!(r#"gateway_tls_certificate_not_after_seconds{{instance="{gateway}"}}"#);
        json!({"series": name, "values": format!("{end}+0x240")})
    };
    let told = json!({
        "exp_labels": {"severity": "warning", "instance": "gateway-1"},
        "exp_annotations": {
            "summary": "The certificate of gateway-1 ends within two weeks",
            "description": "Browsers refuse it then. Renew it and reload the gateway; gateway check-config says until when it is good.",
        },
    });
    let at = |time: &str, told: &[&Value]| json!({"alertname": "CertificateEnds", "eval_time": time, "exp_alerts": told});
    // It ends twenty days after the beginning of time.
    let test = json!({
        "rule_files": [deploy("prometheus").join("alerts.yml")],
        "evaluation_interval": "1h",
        "tests": [{
            "interval": "1h",
            // The other one speaks no TLS.
            "input_series": [series("gateway-1", 20 * 86_400), series("gateway-2", 0)],
            "alert_rule_test": [at("5d", &[]), at("7d", &[&told])],
        }],
    });
    let file = dir.path().join("test.yml");
    fs::write(&file, test.to_string()).expect("a test");
    promtool(&["test", "rules"], &file, dir.path().join("promtool.log")).await
}

#[tokio::test]
async fn what_is_no_number_is_no_data() -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let prometheus = Prometheus::start(dir.path(), &[]).await?;
    for (expression, samples) in [
        ("vector(0)", 1),
        ("vector(0) / 0", 0),
        ("vector(1) / 0", 1),
        ("up == 2", 0),
    ] {
        let found = prometheus.query(expression).await?;
        assert_eq!(found.len(), samples, "{expression}: {found:?}");
    }
    Ok(())
}
