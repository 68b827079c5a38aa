use super::count::Count;
use crate::TokenCounts;

/// What a provider said about tokens, by class.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Reported {
    pub(super) input: Count,
    pub(super) output: Count,
    pub(super) cache_read: Count,
    pub(super) cache_write: Count,
    pub(super) reasoning: Count,
    /// Two counts contradicted each other, and the one that is taken is a guess.
    pub(super) contradicted: bool,
}

// === impl Reported ===

impl Reported {
    /// Usage that cannot be read.
    pub(super) const INVALID: Self = Self {
        input: Count::Invalid,
        output: Count::Invalid,
        cache_read: Count::Missing,
        cache_write: Count::Missing,
        reasoning: Count::Missing,
        contradicted: false,
    };

    /// What is told now, and of what is not what was told before.
    pub(super) const fn after(self, earlier: Self) -> Self {
        Self {
            input: self.input.or(earlier.input),
            output: self.output.or(earlier.output),
            cache_read: self.cache_read.or(earlier.cache_read),
            cache_write: self.cache_write.or(earlier.cache_write),
            reasoning: self.reasoning.or(earlier.reasoning),
            contradicted: self.contradicted,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What can be believed.
    pub(super) const fn tokens(&self) -> TokenCounts {
        TokenCounts {
            input: self.input.told(),
            output: self.output.told(),
            cache_read: self.cache_read.told(),
            cache_write: self.cache_write.told(),
            reasoning: self.reasoning.told(),
        }
    }

    /// Whether there is something that cannot be believed.
    pub(super) fn is_invalid(&self) -> bool {
        let counts = [
            self.input,
            self.output,
            self.cache_read,
            self.cache_write,
            self.reasoning,
        ];
        self.contradicted || counts.contains(&Count::Invalid)
    }
}
