use metrics::Gauge;

/// One of what a gauge counts; dropped, there is one less.
#[derive(Debug)]
#[must_use = "dropped, it is not counted any more"]
pub(crate) struct Counted(Gauge);

// === impl Counted ===

impl Counted {
    /// One more.
    pub(crate) fn new(gauge: Gauge) -> Self {
        gauge.increment(1);
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}
