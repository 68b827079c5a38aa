/// A metric, as the table of `deploy/README.md` has it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// What one of it is.
    pub unit: &'static str,
    /// Its labels.
    pub labels: Labels,
    /// What it says.
    pub meaning: &'static str,
}

/// The type of a metric, of those that Prometheus has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Kind {
    /// Goes up.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How often what took how long.
    Histogram,
}

/// The labels of a metric.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Labels {
    /// Their names, and each combination of values that there is.
    Known(&'static [&'static str], &'static [&'static [&'static str]]),
    /// Their names; the values are from the configuration, the routes, or a set of names in the code.
    Open(&'static [&'static str]),
}

// === impl Kind ===

impl Kind {
    /// As Prometheus writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

// === impl Labels ===

impl Labels {
    /// Their names.
    #[must_use]
    pub const fn names(self) -> &'static [&'static str] {
        match self {
            Self::Known(names, _) | Self::Open(names) => names,
        }
    }
}

const NONE: Labels = Labels::Known(&[], &[&[]]);

const LIMITS: Labels = Labels::Known(
    &["limit"],
    &[
        &["minutely_tokens"],
        &["minutely_cost"],
        &["minutely_calls"],
        &["hourly_tokens"],
        &["hourly_cost"],
        &["hourly_calls"],
        &["daily_tokens"],
        &["daily_cost"],
        &["daily_calls"],
        &["monthly_tokens"],
        &["monthly_cost"],
        &["monthly_calls"],
    ],
);

/// Writes the rows: name, type, unit, labels, meaning.
macro_rules! catalog {
    ($($name:literal $kind:ident $unit:literal $labels:expr, $meaning:literal;)*) => {
        /// Every metric of the gateway, and of the crates that it is made of.
        pub const CATALOG: &[Metric] = &[$(Metric {
            name: $name,
            kind: Kind::$kind,
            unit: $unit,
            labels: $labels,
            meaning: $meaning,
        }),*];
    };
}

catalog! {
    "gateway_connections" Gauge "sockets" NONE, "open sockets of people";
    "gateway_people_connected" Gauge "people" NONE, "people with an open socket here";
    "gateway_people_signed_in" Gauge "people" NONE,
        "people who came to this gateway with a good credential in the last five minutes, or have an open socket here";
    "gateway_sign_ins_total" Counter "sign-ins"
        Labels::Known(&["outcome"], &[&["admitted"], &["refused"], &["unavailable"]]),
        "people whom an issuer sent back signed in; refused: they are disabled, unavailable: the store did not keep them";
    "gateway_verifications_total" Counter "credentials" Labels::Open(&["plane", "result"]),
        "credentials that were verified, of people or of instances' model calls (egress): `ok`, `unavailable`, or the rule that one broke";
    "gateway_verify_cache_hits_total" Counter "credentials" NONE, "of those, what was known from the minute before";
    "gateway_request_seconds" Histogram "seconds" Labels::Open(&["plane", "route", "method", "status"]),
        "from a request of the public listener or of egress to the head of its answer, by route pattern and class of status";
    "gateway_connect_seconds" Histogram "seconds" Labels::Known(&["outcome"], &[&["opened"], &["failed"]]),
        "from a socket's `connect` to its hello-ok";
    "gateway_frames_total" Counter "frames" Labels::Known(&["direction", "kind"], &[
            &["in", "request"], &["out", "response"], &["out", "event"], &["out", "unread"],
        ]),
        "frames of sockets";
    "gateway_runs_total" Counter "runs" NONE, "runs of people that were recorded";
    "gateway_refusals_total" Counter "refusals" Labels::Known(&["plane", "reason"], &[
            &["listener", "full"], &["listener", "tls"], &["api", "sign_in_pace"],
            &["ingress", "unauthorized"], &["ingress", "frame"], &["ingress", "foreign_session"], &["ingress", "quota"],
            &["ingress", "quota_store"], &["ingress", "ledger_full"],
            &["egress", "key"], &["egress", "key_store"], &["egress", "disabled"], &["egress", "workspace"],
            &["egress", "quota"], &["egress", "quota_held"], &["egress", "quota_store"],
        ]),
        "what was refused, and why";
    "gateway_shadow_refusals_total" Counter "refusals" LIMITS, "what would have been, with `mode = \"shadow\"`";
    "gateway_uncounted_total" Counter "calls" Labels::Known(&["plane"], &[&["ingress"], &["egress"]]),
        "what passed while the store was away";
    "gateway_quota_alerts_total" Counter "alerts" LIMITS, "thresholds that were crossed";
    "gateway_quota_overshoot_total" Counter "tokens, nano-USD, calls"
        Labels::Known(&["dimension"], &[&["tokens"], &["cost"], &["calls"]]), "taken beyond what was left";
    "gateway_quota_store_seconds" Histogram "seconds" NONE, "a decision about quota";
    "gateway_quota_store_failures_total" Counter "decisions" NONE, "decisions that the store did not make";
    "gateway_quota_store_ready" Gauge "0 or 1" NONE, "1: the counters say what the ledger says";
    "gateway_store_seconds" Histogram "seconds" Labels::Open(&["store", "operation"]),
        "what was asked of the gateway's own tables (`state`) or of the store of sessions (`sessions`)";
    "gateway_webhook_deliveries_total" Counter "deliveries"
        Labels::Known(&["outcome"], &[&["delivered"], &["failed"], &["given_up"]]), "alerts sent to the webhook";
    "gateway_ledger_backlog_records" Gauge "records" NONE, "records to be written to the file";
    "gateway_ledger_unshipped_records" Gauge "records" NONE, "records that Postgres does not have yet";
    "gateway_ledger_unshipped_seconds" Gauge "seconds" NONE, "age of the oldest of them";
    "gateway_ledger_refused_records" Gauge "records" NONE, "records that Postgres refused";
    "gateway_unpriced_records_total" Counter "records" NONE, "records without a price";
    "gateway_usage_copies_missed_total" Counter "records" NONE, "records that a copy beside the ledger lacks";
    "gateway_usage_unclaimed_total" Counter "calls" NONE,
        "calls with an `Idempotency-Key` that Postgres, or Redis without it, could not be asked about";
    "gateway_observed_records_total" Counter "records" Labels::Known(&["how"], &[&["announced"], &["found"]]),
        "records of instances with `metering = \"observed\"`: announced, or found afterwards";
    "gateway_meters" Gauge "0 or 1" NONE, "1: this gateway meters such an instance";
    "gateway_instances" Gauge "instances" Labels::Known(&["state"], &[&["up"], &["draining"], &["out"], &["down"]]),
        "configured instances: people are sent there, nobody new is, connections failed lately, or it is not ready";
    "gateway_instance_up" Gauge "0 or 1" Labels::Open(&["name"]),
        "1: the instance is reached, ready, and configured as it must be";
    "gateway_instance_draining" Gauge "0 or 1" Labels::Open(&["name"]), "1: nobody new is sent to the instance";
    "gateway_instance_connections" Gauge "sockets" Labels::Open(&["name"]),
        "people's sockets from this gateway to the instance";
    "gateway_instance_people" Gauge "people" Labels::Open(&["name"]),
        "people who have a place on the instance, as the store says";
    "gateway_instance_capacity" Gauge "people" Labels::Open(&["name"]), "people whom the instance takes";
    "gateway_agent_repairs_total" Counter "agents" NONE,
        "agents, or roles, that somebody had changed on an instance and that were put right";
    "gateway_snapshots_total" Counter "snapshots" Labels::Known(&["outcome"], &[&["taken"], &["failed"]]),
        "snapshots of people by schedule";
    "gateway_cells" Gauge "cells" Labels::Known(&["status"], &[&["starting"], &["running"], &["stopping"]]),
        "OpenClaw processes of people's own that this gateway has";
    "gateway_cell_failures_total" Counter "failures" Labels::Known(&["result"], &[&["not_started"], &["died"]]),
        "of these, what did not start or ended by itself";
    "gateway_spans_sent_total" Counter "spans" NONE, "spans that the collector of `[telemetry]` has taken";
    "gateway_spans_dropped_total" Counter "spans" Labels::Known(&["why"], &[&["queue"], &["collector"]]),
        "spans that nobody has: too many waited, or the collector did not take them";
    "gateway_config_reloads_total" Counter "reloads" Labels::Known(&["result"], &[&["ok"], &["refused"]]), "SIGHUPs";
    "gateway_tls_certificate_not_after_seconds" Gauge "seconds" NONE,
        "since 1970, at which the certificate of `server.tls` ends; 0: there is none";
    "usage_records_total" Counter "records" Labels::Open(&["operation", "outcome", "source", "provider"]), "records";
    "usage_tokens_total" Counter "tokens" Labels::Open(&["model", "class"]), "tokens";
    "usage_cost_nano_usd_total" Counter "nano-USD" Labels::Open(&["model", "class"]), "money";
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of the README has the same rows in the same order.
    #[test]
    fn the_table_for_people_says_the_same() {
        let readme = include_str!("../../../deploy/README.md");
        let mut rows = readme
            .lines()
            .filter(|line| line.starts_with("| `gateway_") || line.starts_with("| `usage_"));
        for metric in CATALOG {
            let labels: Vec<_> = metric
                .labels
                .names()
                .iter()
                .map(|name| format!("`{name}`"))
                .collect();
            let row = format!(
                "| `{}` | {} | {} | {} | {} |",
                metric.name,
                metric.kind.as_str(),
                metric.unit,
                labels.join(", "),
                metric.meaning,
            );
            assert_eq!(
                rows.next().map(|row| row.replace("|  |", "| |")),
                Some(row.replace("|  |", "| |"))
            );
        }
        assert_eq!(rows.next(), None);
    }

    #[test]
    fn no_label_is_one_of_prometheus_own_or_names_anybody() {
        for metric in CATALOG {
            for name in metric.labels.names() {
                assert!(
                    ![
                        "instance", "job", "le", "user", "user_id", "path", "session"
                    ]
                    .contains(name),
                    "{name}"
                );
            }
            if let Labels::Known(names, rows) = metric.labels {
                assert!(
                    rows.iter().all(|row| row.len() == names.len()),
                    "{}",
                    metric.name
                );
            }
            assert_eq!(
                metric.name.ends_with("_total"),
                metric.kind == Kind::Counter,
                "{}",
                metric.name
            );
        }
    }
}
