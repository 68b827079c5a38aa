use std::time::Duration;

/// How much of a tree is looked at, whatever its owner has made of it.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use tower_workspace::fs::Bounds;
///
/// let bounds = Bounds::new().entries(10_000).time(Duration::from_secs(5));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub(super) entries: u64,
    pub(super) depth: usize,
    pub(super) time: Option<Duration>,
    pub(super) bytes: u64,
}

// === impl Bounds ===

impl Bounds {
    /// A million entries, 64 levels of directories, 64 GiB of content, any time.
    #[must_use]
    pub fn new() -> Self {
        Self {
            entries: 1_000_000,
            depth: 64,
            time: None,
            bytes: 64 << 30,
        }
    }

    /// Sets how many files, directories and others are looked at.
    #[must_use]
    pub fn entries(mut self, entries: u64) -> Self {
        self.entries = entries;
        self
    }

    /// Sets how many levels of directories are entered, at most 256: each holds a descriptor.
    #[must_use]
    pub fn depth(mut self, depth: usize) -> Self {
        self.depth = depth.min(DEPTH_MAX);
        self
    }

    /// Sets how long it may take.
    #[must_use]
    pub fn time(mut self, time: Duration) -> Self {
        self.time = Some(time);
        self
    }

    /// Sets how many bytes of content an export has.
    #[must_use]
    pub fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self::new()
    }
}

/// A quarter of the descriptors that a process may have by default.
const DEPTH_MAX: usize = 256;
