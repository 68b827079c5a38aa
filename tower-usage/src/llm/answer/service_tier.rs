use std::fmt;

use super::error_name::ErrorName;

/// The tier of service that a provider says a call was served in (OpenAI's API reference, "The chat completion object",
/// `service_tier`: "the processing mode actually used").
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ServiceTier(Tier);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Tier {
    /// The one whose prices are the prices.
    Default,
    Named(ErrorName),
    /// What is no name, and so none that could have a price.
    Odd,
}

// === impl ServiceTier ===

impl ServiceTier {
    /// `auto` is what was asked for, which some answers repeat until it is known.
    pub(super) fn new(text: &str) -> Self {
        Self(match text {
            "default" | "standard" | "auto" => Tier::Default,
            name => ErrorName::new(name).map_or(Tier::Odd, Tier::Named),
        })
    }

    pub(super) const fn is_default(&self) -> bool {
        matches!(self.0, Tier::Default)
    }
}

/// A name that needs no escaping.
impl fmt::Display for ServiceTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Tier::Default => f.write_str("default"),
            Tier::Named(name) => name.fmt(f),
            Tier::Odd => f.write_str("other"),
        }
    }
}
