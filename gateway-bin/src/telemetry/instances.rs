use std::collections::HashMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::catalog::CATALOG;
use crate::instance::{Upstream, Upstreams};

/// Most instances that are shown by name, those that come first in the alphabet: an operator who gives everybody a cell
/// in the configuration has as many instances as people. All of them are in `gateway_instances`.
const NAMED: usize = 256;

/// The instances, as metrics show them; clones share it.
#[derive(Clone, Debug)]
pub struct InstanceGauges {
    upstreams: Upstreams,
    /// People by instance, as the store said last.
    people: Arc<RwLock<HashMap<String, u32>>>,
}

/// How many sockets people have to one instance from here; clones share it.
#[derive(Clone, Debug, Default)]
pub struct OpenSockets(Arc<AtomicU32>);

/// One of them; dropped, there is one less.
#[derive(Debug)]
#[must_use = "dropped, it is not counted any more"]
pub struct OpenSocket(OpenSockets);

/// What an instance is to people who come now.
fn state(upstream: &Upstream) -> &'static str {
    match upstream {
        _ if !upstream.is_ready() => "down",
        _ if upstream.is_drained() => "draining",
        _ if upstream.health.is_out() => "out",
        _ => "up",
    }
}

// === impl InstanceGauges ===

impl InstanceGauges {
    /// Those that are configured among these. Cells that come and go by themselves have a metric of their own, by which
    /// nobody is named.
    #[must_use]
    pub fn new(upstreams: Upstreams) -> Self {
        Self {
            upstreams,
            people: Arc::default(),
        }
    }

    /// Learns how many people have a place on each instance.
    pub fn set_people(&self, people: HashMap<String, u32>) {
        *self.people.write().unwrap_or_else(PoisonError::into_inner) = people;
    }

    /// Takes how many instances are in which state.
    pub fn measure(&self) {
        let mut counts = [("up", 0_u32), ("draining", 0), ("out", 0), ("down", 0)];
        for upstream in self.upstreams.configured() {
            let state = state(&upstream);
            let mut counts = counts.iter_mut();
            if let Some((_, count)) = counts.find(|(name, _)| *name == state) {
                *count += 1;
            }
        }
        for (state, count) in counts {
            metrics::gauge!("gateway_instances", "state" => state).set(f64::from(count));
        }
    }

    /// Adds them to what Prometheus reads.
    pub fn render(&self, text: &mut String) {
        let mut upstreams = self.upstreams.configured();
        upstreams.truncate(NAMED);
        let flag = u32::from;
        render_gauge("gateway_instance_up", text, &upstreams, |upstream| {
            flag(upstream.is_ready())
        });
        render_gauge("gateway_instance_draining", text, &upstreams, |upstream| {
            flag(upstream.is_drained())
        });
        render_gauge(
            "gateway_instance_connections",
            text,
            &upstreams,
            |upstream| upstream.sockets.count(),
        );
        let people = self.people.read().unwrap_or_else(PoisonError::into_inner);
        render_gauge(
            "gateway_instance_people",
            text,
            &upstreams,
            |upstream| match upstream.is_cell() {
                true => 1,
                false => people.get(&*upstream.name).copied().unwrap_or(0),
            },
        );
        render_gauge("gateway_instance_capacity", text, &upstreams, |upstream| {
            upstream.slots
        });
    }
}

fn render_gauge(
    name: &'static str,
    text: &mut String,
    upstreams: &[Arc<Upstream>],
    value: impl Fn(&Upstream) -> u32,
) {
    let described = CATALOG.iter().find(|metric| metric.name == name);
    let meaning = described.map_or("", |metric| metric.meaning);
    // Writing to a String does not fail.
    let _ = write!(text, "# HELP {name} {meaning}\n# TYPE {name} gauge\n");
    for upstream in upstreams {
        let escaped = upstream.name.replace('\\', r"\\").replace('"', r#"\""#);
        let escaped = escaped.replace('\n', r"\n");
        let _ = writeln!(text, "{name}{{name=\"{escaped}\"}} {}", value(upstream));
    }
    text.push('\n');
}

// === impl OpenSockets ===

impl OpenSockets {
    /// One more.
    pub fn open(&self) -> OpenSocket {
        self.0.fetch_add(1, Ordering::Relaxed);
        OpenSocket(self.clone())
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

// === impl OpenSocket ===

impl Drop for OpenSocket {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}
