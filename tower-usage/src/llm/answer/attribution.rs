use std::{sync::Arc, time::SystemTime};

/// To whom and what a model call belongs, as the server around the layer knows it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Attribution {
    /// Who pays.
    pub subject: Arc<str>,
    /// Who serves the call.
    pub provider: Option<Arc<str>>,
    /// What the ledger hands to its settler once the record is stored: opaque to this crate.
    pub settle_ref: Option<Arc<str>>,
    /// When the call was let in. Default: when the meter sees it.
    pub admitted_at: Option<SystemTime>,
    /// The conversation the call belongs to, where it is known beforehand.
    pub session_key: Option<Arc<str>>,
    /// The run the call belongs to, where it is known beforehand.
    pub run_id: Option<Arc<str>>,
}

// === impl Attribution ===

impl Attribution {
    /// A call that this subject pays.
    #[must_use]
    pub const fn new(subject: Arc<str>) -> Self {
        Self {
            subject,
            provider: None,
            settle_ref: None,
            admitted_at: None,
            session_key: None,
            run_id: None,
        }
    }
}
