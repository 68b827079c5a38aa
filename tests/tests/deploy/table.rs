//! What a running gateway exposes, against the table for people.

use std::collections::{BTreeMap, BTreeSet};

use crate::{expressions::base, shipped};

/// More series than a gateway with a handful of instances and models ever has, whoever asks it for whatever.
const MOST: usize = 3_000;

/// A row of the table.
struct Row {
    name: String,
    kind: String,
    labels: BTreeSet<String>,
    meaning: String,
}

fn rows() -> Vec<Row> {
    let readme = shipped("README.md");
    let cells = |line: &str| {
        let cells = line.trim_matches('|').split(" |");
        cells.map(|cell| cell.trim().to_owned()).collect::<Vec<_>>()
    };
    let rows = readme.lines().filter_map(|line| {
        let [name, kind, _, labels, meaning] = cells(line).try_into().ok()?;
        let is_metric = ["counter", "gauge", "histogram"].contains(&kind.as_str());
        let unquoted = |text: &str| text.trim_matches('`').to_owned();
        is_metric.then(|| Row {
            name: unquoted(&name),
            kind,
            labels: labels
                .split(", ")
                .map(unquoted)
                .filter(|label| !label.is_empty())
                .collect(),
            meaning,
        })
    });
    rows.collect()
}

/// The labels of a sample, and their values.
pub(crate) fn labels(line: &str) -> BTreeMap<String, String> {
    let Some((labels, _)) = line
        .split_once('{')
        .and_then(|(_, rest)| rest.rsplit_once('}'))
    else {
        return BTreeMap::new();
    };
    // No value of ours has a quotation mark in it; patterns of routes have braces.
    let parts = labels.split("\",");
    let pairs = parts.filter_map(|pair| pair.split_once("=\""));
    pairs
        .map(|(name, value)| (name.to_owned(), value.trim_end_matches('"').to_owned()))
        .collect()
}

/// The samples of an exposition.
pub(crate) fn samples(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines();
    lines.filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Every row is exposed as it says, and nothing else is, by a gateway at which people have chatted.
pub(crate) fn is_as_documented(text: &str) {
    let rows = rows();
    assert!(rows.len() > 35, "{}", rows.len());
    for Row {
        name,
        kind,
        labels: documented,
        meaning,
    } in &rows
    {
        let of = |line: &&str| {
            let series = line.split(['{', ' ']).next().unwrap_or_default();
            series == name || (kind == "histogram" && base(series) == name)
        };
        for line in [
            format!("# TYPE {name} {kind}"),
            format!("# HELP {name} {meaning}"),
        ] {
            assert!(text.lines().any(|shown| shown == line), "no `{line}`");
        }
        let mut samples = samples(text).filter(of).peekable();
        assert!(samples.peek().is_some(), "{name} has no sample");
        for sample in samples {
            let mut shown: BTreeSet<String> = labels(sample).into_keys().collect();
            shown.remove("le");
            assert_eq!(shown, *documented, "{sample}");
        }
    }
    let known: BTreeSet<_> = rows.iter().map(|row| row.name.as_str()).collect();
    for sample in samples(text) {
        let series = sample.split(['{', ' ']).next().unwrap_or_default();
        assert!(known.contains(base(series)), "{sample}");
    }
    let count = samples(text).count();
    assert!(count < MOST, "{count} series");
    println!("{count} series of {} metrics", rows.len());
}

#[test]
fn labels_of_a_sample_are_found() {
    let line = r#"x_total{route="/api/{id}",method="GET"} 1"#;
    let found = labels(line);
    assert_eq!(found["route"], "/api/{id}");
    assert_eq!(found["method"], "GET");
    assert!(labels("x_total 1").is_empty());
}
