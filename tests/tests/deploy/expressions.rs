//! What dashboards and rules ask, and which metrics there are.

use std::{collections::BTreeSet, fs, path::Path};

use crate::{dashboards, deploy, shipped};

/// What Prometheus itself knows of every target.
const OF_PROMETHEUS: [&str; 2] = ["up", "scrape_duration_seconds"];

/// Words of PromQL that no parenthesis follows.
const WORDS: [&str; 8] = [
    "and", "or", "unless", "bool", "offset", "on", "ignoring", "le",
];

/// An expression, and where it stands.
#[derive(Debug)]
pub(crate) struct Expression {
    pub(crate) place: String,
    pub(crate) text: String,
}

/// Those of all dashboards, for a window of a minute.
pub(crate) fn of_dashboards() -> Vec<Expression> {
    let mut expressions = Vec::new();
    for dashboard in dashboards::shipped() {
        let title = dashboard["title"].as_str().expect("a title");
        let panels = dashboards::panels(&dashboard);
        let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
        assert_eq!(
            ids.len(),
            panels.len(),
            "{title}: each panel has an id of its own"
        );
        for panel in panels {
            let targets = panel["targets"].as_array().into_iter().flatten();
            for target in targets {
                assert_eq!(target["datasource"]["uid"], "prometheus", "{title}");
                let text = target["expr"].as_str().expect("an expression");
                expressions.push(Expression {
                    place: format!("{title}: {}", panel["title"]),
                    text: text.replace("$__rate_interval", "1m"),
                });
            }
        }
    }
    assert!(expressions.len() > 30, "{}", expressions.len());
    expressions
}

/// The metrics of an expression: what is no function, label, text or number in it.
fn metrics_of(expression: &str) -> BTreeSet<String> {
    let mut bare = String::new();
    let (mut depth, mut text) = (0_usize, false);
    for c in expression.chars() {
        match c {
            '"' => text = !text,
            '{' | '[' if !text => depth += 1,
            '}' | ']' if !text => depth -= 1,
            c if !text && depth == 0 => bare.push(c),
            _ => {}
        }
    }
    for word in ["by", "without", "on"] {
        while let Some(at) = bare.find(&format!(" {word} (")) {
            let end = bare[at..].find(')').map_or(bare.len(), |end| at + end + 1);
            bare.replace_range(at..end, "");
        }
    }
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '.');
    let mut names = BTreeSet::new();
    let mut rest = bare.as_str();
    while let Some(start) = rest.find(part) {
        let length = rest[start..]
            .find(|c| !part(c))
            .unwrap_or(rest.len() - start);
        let (name, after) = rest[start..].split_at(length);
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic());
        if is_name && !after.trim_start().starts_with('(') && !WORDS.contains(&name) {
            names.insert(name.to_owned());
        }
        rest = after;
    }
    names
}

/// The metrics of the table in the README.
pub(crate) fn documented() -> BTreeSet<String> {
    let readme = shipped("README.md");
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| `"));
    let rows = rows.filter(|row| {
        ["| counter |", "| gauge |", "| histogram |"]
            .iter()
            .any(|kind| row.contains(kind))
    });
    rows.filter_map(|row| row.split('`').next())
        .map(str::to_owned)
        .collect()
}

/// Those that the sources make.
fn in_sources() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let root = deploy("..");
    for package in [
        "gateway-bin",
        "tower-sso",
        "tower-quota",
        "tower-usage",
        "tower-workspace",
    ] {
        read(&root.join(package).join("src"), &mut names);
    }
    names
}

fn read(dir: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).expect("sources") {
        let path = entry.expect("a source").path();
        if path.is_dir() {
            read(&path, names);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap_or_default();
        for kind in ["counter!(", "gauge!(", "histogram!(", "render_gauge("] {
            for (at, _) in text.match_indices(kind) {
                let name = text[at + kind.len()..].trim_start().strip_prefix('"');
                names.extend(
                    name.and_then(|name| name.split('"').next())
                        .map(str::to_owned),
                );
            }
        }
    }
}

/// The metric that a series belongs to: histograms have several.
pub(crate) fn base(series: &str) -> &str {
    let of_histogram = ["_bucket", "_sum", "_count"].iter();
    let mut bases = of_histogram.filter_map(|suffix| series.strip_suffix(suffix));
    bases
        .find(|base| base.ends_with("_seconds"))
        .unwrap_or(series)
}

/// What `expression` names and nobody makes.
pub(crate) fn unknown(expression: &str, recorded: &BTreeSet<String>) -> Vec<String> {
    let documented = documented();
    let names = metrics_of(expression);
    let made = |name: &String| {
        documented.contains(base(name))
            || recorded.contains(name)
            || OF_PROMETHEUS.contains(&name.as_str())
    };
    let names = names.into_iter().inspect(|name| assert!(!name.is_empty()));
    names.filter(|name| !made(name)).collect()
}

#[test]
fn every_metric_is_documented_and_no_other() {
    assert_eq!(documented(), in_sources());
}

#[test]
fn the_metrics_of_an_expression_are_found() {
    for (expression, names) in [
        (
            r#"sum by (a, b) (rate(x_total{y="z_total"}[5m])) / 1e9"#,
            &["x_total"][..],
        ),
        (r#"sum(up{job="gateway"}) == 0"#, &["up"]),
        (
            "histogram_quantile(0.99, sum by (le) (rate(h_bucket[1m]))) > other:rule",
            &["h_bucket", "other:rule"],
        ),
    ] {
        let found = metrics_of(expression);
        assert!(found.iter().eq(names), "{expression}: {found:?}");
    }
    assert_eq!(
        unknown(
            "rate(gateway_runs_total[5m]) + gateway_nonsense",
            &BTreeSet::new()
        ),
        ["gateway_nonsense"]
    );
}
