//! Grafana's dashboards are what Grafana calls one, and their panels stand beside each other.

use std::fs;

use gateway_tests::{error::Result, kit::Kit};
use serde_json::{Value, json};

use crate::{deploy, schema::tells};

/// How many columns a dashboard has. Grafana's "Dashboard JSON model", "Panel size and position".
const COLUMNS: u64 = 24;

/// Where a panel is on the grid.
#[derive(Clone, Copy, Debug)]
struct Place {
    x: u64,
    y: u64,
    w: u64,
    h: u64,
}

/// Those that are shipped.
pub(crate) fn shipped() -> Vec<Value> {
    let files = fs::read_dir(deploy("grafana/dashboards")).expect("dashboards");
    let mut paths: Vec<_> = files
        .map(|file| file.expect("a dashboard").path())
        .collect();
    paths.sort();
    let read = |path| {
        let text = fs::read_to_string(&path).expect("a dashboard");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"))
    };
    paths.into_iter().map(read).collect()
}

/// The panels of a dashboard.
pub(crate) fn panels(dashboard: &Value) -> &[Value] {
    dashboard["panels"].as_array().expect("panels")
}

/// What is wrong with where the panels of a dashboard are.
fn misplaced(dashboard: &Value) -> Vec<String> {
    let panels = panels(dashboard).iter();
    let places: Vec<_> = panels
        .map(|panel| (&panel["title"], Place::of(panel)))
        .collect();
    let mut wrong = Vec::new();
    for (n, (title, place)) in places.iter().enumerate() {
        if !place.is_on_the_grid() {
            wrong.push(format!("{title} goes beyond the last column: {place:?}"));
        }
        for (other, _) in places
            .iter()
            .skip(n + 1)
            .filter(|(_, other)| place.meets(*other))
        {
            wrong.push(format!("{title} lies upon {other}: {place:?}"));
        }
    }
    wrong
}

// === impl Place ===

impl Place {
    fn of(panel: &Value) -> Self {
        let of = |name: &str| {
            let number = panel["gridPos"][name].as_u64();
            number.unwrap_or_else(|| panic!("{} has no {name}", panel["title"]))
        };
        Self {
            x: of("x"),
            y: of("y"),
            w: of("w"),
            h: of("h"),
        }
    }

    fn is_on_the_grid(self) -> bool {
        self.x + self.w <= COLUMNS
    }

    fn meets(self, other: Self) -> bool {
        let beside = self.x + self.w <= other.x || other.x + other.w <= self.x;
        let below = self.y + self.h <= other.y || other.y + other.h <= self.y;
        !beside && !below
    }
}

#[tokio::test]
async fn each_dashboard_is_one_by_what_grafana_documents() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut dashboards = shipped();
    // It has both kinds of panel that there are; those stand first.
    let stats = dashboards.iter().position(|dashboard| {
        panels(dashboard)
            .iter()
            .any(|panel| panel["type"] == "stat")
    });
    dashboards.swap(0, stats.expect("a dashboard with numbers"));
    let mut of_kind = |kind: &str, at: usize| {
        let list = dashboards[0]["panels"].as_array_mut().expect("panels");
        let found = list.iter().position(|panel| panel["type"] == kind);
        list.swap(at, found.expect("a panel of that kind"));
    };
    of_kind("timeseries", 0);
    of_kind("stat", 1);
    let spoiled = [
        ("/schemaVersion", None),
        ("/schemaVersion", Some(json!("39"))),
        ("/uid", Some(json!("usage"))),
        ("/hideControls", Some(json!(true))),
        ("/graphTooltip", Some(json!(3))),
        ("/refresh", Some(json!(30))),
        ("/time/to", None),
        ("/time/until", Some(json!("now"))),
        ("/timepicker/collapse", Some(json!(false))),
        ("/templating/list", Some(json!([{"name": "instance"}]))),
        ("/templating/enable", Some(json!(true))),
        ("/annotations/list", Some(json!([{"name": "Deployments"}]))),
        ("/links/0/type", Some(json!("dashboard"))),
        ("/links/0/type", Some(json!("link"))),
        ("/links/0/tooltip", None),
        ("/links/0/params", Some(json!(""))),
        ("/panels", Some(json!({}))),
        ("/panels/0/type", None),
        ("/panels/0/type", Some(json!("row"))),
        ("/panels/0/span", Some(json!(6))),
        ("/panels/0/id", Some(json!("1"))),
        ("/panels/0/datasource", Some(json!("prometheus"))),
        ("/panels/0/datasource/name", Some(json!("Prometheus"))),
        ("/panels/0/gridPos/h", None),
        ("/panels/0/gridPos/h", Some(json!(0))),
        ("/panels/0/gridPos/w", Some(json!(25))),
        ("/panels/0/gridPos/x", Some(json!(24))),
        ("/panels/0/gridPos/y", Some(json!(-1))),
        ("/panels/0/gridPos/z", Some(json!(0))),
        ("/panels/0/targets/0/expr", None),
        ("/panels/0/targets/0/refId", None),
        ("/panels/0/targets/0/query", Some(json!("up"))),
        ("/panels/0/targets/0/format", Some(json!("graph"))),
        ("/panels/0/fieldConfig/overrides", None),
        ("/panels/0/fieldConfig/defaults/units", Some(json!("s"))),
        ("/panels/0/fieldConfig/defaults/min", Some(json!("0"))),
        (
            "/panels/0/fieldConfig/defaults/thresholds",
            Some(json!({"mode": "absolute"})),
        ),
        (
            "/panels/0/fieldConfig/defaults/custom/fill",
            Some(json!(20)),
        ),
        (
            "/panels/0/fieldConfig/defaults/custom/stacking",
            Some(json!({"mode": "stacked"})),
        ),
        ("/panels/0/options/legend/calcs", None),
        ("/panels/0/options/legend/placement", Some(json!("top"))),
        ("/panels/0/options/tooltip/mode", Some(json!("all"))),
        ("/panels/0/options/colorMode", Some(json!("value"))),
        ("/panels/1/options/colorMode", Some(json!("red"))),
        ("/panels/1/options/textMode", None),
        ("/panels/1/options/reduceOptions/calcs", None),
        ("/panels/1/options/legend", Some(json!({}))),
    ];
    tells(&kit, "grafana-dashboard", &dashboards, &spoiled, dir.path()).await
}

#[test]
fn panels_stand_beside_each_other_on_the_grid() {
    for dashboard in shipped() {
        assert_eq!(misplaced(&dashboard), Vec::<String>::new(), "{dashboard}");
    }
}

#[test]
fn a_panel_that_lies_upon_another_or_leaves_the_grid_is_found() {
    let place = |x: u64, y: u64, w: u64, h: u64| json!({"title": "", "gridPos": {"x": x, "y": y, "w": w, "h": h}});
    for (second, is_misplaced) in [
        (place(12, 0, 12, 8), false),
        (place(0, 8, 12, 8), false),
        (place(0, 0, 12, 8), true),
        (place(11, 0, 12, 8), true),
        (place(0, 7, 12, 8), true),
        (place(4, 2, 1, 1), true),
        (place(13, 0, 12, 8), true),
    ] {
        let dashboard = json!({"panels": [place(0, 0, 12, 8), second]});
        assert_eq!(
            !misplaced(&dashboard).is_empty(),
            is_misplaced,
            "{dashboard}"
        );
    }
}
