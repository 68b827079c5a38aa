use std::{fmt::Write, sync::Arc};

use http::StatusCode;

use super::{Refused, error_name::ErrorName, service_tier::ServiceTier};

/// What is known of a call besides its tokens.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// The status that a provider refused with.
    pub(super) status: Option<u16>,
    pub(super) error: Option<ErrorName>,
    /// Both are what somebody tells who answers in place of the provider.
    pub(super) is_told: bool,
    /// The client left before the end.
    pub(super) left: bool,
    /// The tier that the call was served in, if it is not the default.
    pub(super) service_tier: Option<ServiceTier>,
    /// Whether the rest was read all the same, if that was tried.
    pub(super) drained: Option<bool>,
}

// === impl Notes ===

impl Notes {
    pub(super) fn of_status(status: StatusCode) -> Self {
        Self {
            status: (!status.is_success()).then(|| status.as_u16()),
            ..Self::default()
        }
    }

    pub(super) fn of_refused(refused: Refused) -> Self {
        Self {
            status: Some(refused.status.as_u16()),
            error: refused.error,
            is_told: true,
            ..Self::default()
        }
    }

    /// Notes of a client that left.
    pub(super) fn left() -> Self {
        Self {
            left: true,
            ..Self::default()
        }
    }

    /// The text of a JSON object; `None` if there is nothing to say.
    pub(super) fn to_json(&self) -> Option<Arc<str>> {
        let mut json = String::new();
        let mut member = |name: &str, value: &dyn std::fmt::Display| {
            let before = if json.is_empty() { '{' } else { ',' };
            // Writing to a string cannot fail.
            let _ = write!(json, r#"{before}"{name}":{value}"#);
        };
        if let Some(status) = self.status {
            member("status", &status);
        }
        if let Some(error) = &self.error {
            // A name needs no escaping.
            member("error", &format_args!(r#""{error}""#));
        }
        if self.left {
            member("left", &true);
        }
        if let Some(drained) = self.drained {
            member("drained", &drained);
        }
        if let Some(tier) = &self.service_tier {
            member("service_tier", &format_args!(r#""{tier}""#));
        }
        (!json.is_empty()).then(|| (json + "}").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_there_is_in_one_object() {
        assert_eq!(Notes::default().to_json(), None);
        assert_eq!(Notes::of_status(StatusCode::OK).to_json(), None);
        assert_eq!(Notes::left().to_json().as_deref(), Some(r#"{"left":true}"#));
        let all = Notes {
            status: Some(529),
            error: ErrorName::new("overloaded_error"),
            is_told: false,
            left: true,
            drained: Some(false),
            service_tier: Some(ServiceTier::new("flex")),
        };
        assert_eq!(
            all.to_json().as_deref(),
            Some(
                r#"{"status":529,"error":"overloaded_error","left":true,"drained":false,"service_tier":"flex"}"#
            )
        );
    }
}
