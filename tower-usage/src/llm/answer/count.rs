use serde_json::value::RawValue;

/// A larger count is not believed: no model reads or writes a thousandth of it in a call.
const MOST_TOKENS: u64 = 1_000_000_000;

/// A number of tokens as a provider tells it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Count {
    /// It does not, or says `null`.
    #[default]
    Missing,
    /// This many.
    Told(u64),
    /// What cannot be: negative, no whole number, absurdly large.
    Invalid,
}

// === impl Count ===

impl Count {
    pub(super) fn read(raw: Option<&RawValue>) -> Self {
        let Some(raw) = raw else { return Self::Missing };
        match raw.get().parse() {
            Ok(count) if count <= MOST_TOKENS => Self::Told(count),
            _ => Self::Invalid,
        }
    }

    pub(super) const fn told(self) -> Option<u64> {
        match self {
            Self::Told(count) => Some(count),
            Self::Missing | Self::Invalid => None,
        }
    }

    /// Adds another, if this one is told.
    pub(super) const fn add(&mut self, other: Self) {
        *self = match (*self, other) {
            (Self::Told(sum), Self::Told(more)) => Self::Told(sum.saturating_add(more)),
            (Self::Told(_), Self::Invalid) => Self::Invalid,
            (sum, _) => sum,
        };
    }

    /// This one, or another if it is missing.
    pub(super) const fn or(self, other: Self) -> Self {
        match self {
            Self::Missing => other,
            Self::Told(_) | Self::Invalid => self,
        }
    }
}
