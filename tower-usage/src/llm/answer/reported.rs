use super::count::Count;
use crate::TokenCounts;

/// What a provider said about tokens, by class.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Reported {
    pub(super) input: Count,
    pub(super) output: Count,
    pub(super) cache_read: Count,
    pub(super) cache_write: Count,
    /// Part of `cache_write`, and never more.
    pub(super) cache_write_1h: Count,
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
        cache_write_1h: Count::Missing,
        reasoning: Count::Missing,
        contradicted: false,
    };

    /// What is told now, and of what is not what was told before.
    pub(super) fn after(self, earlier: Self) -> Self {
        let all = Self {
            input: self.input.or(earlier.input),
            output: self.output.or(earlier.output),
            cache_read: self.cache_read.or(earlier.cache_read),
            cache_write: self.cache_write.or(earlier.cache_write),
            cache_write_1h: self.cache_write_1h.or(earlier.cache_write_1h),
            reasoning: self.reasoning.or(earlier.reasoning),
            contradicted: self.contradicted,
        };
        all.with_parts_within()
    }

    /// Of tokens cached for an hour that are more than are cached at all nothing is believed.
    pub(super) fn with_parts_within(mut self) -> Self {
        if self.cache_write_1h.told() > self.cache_write.told() {
            self.cache_write_1h = Count::Invalid;
        }
        self
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
            cache_write_1h: self.cache_write_1h.told(),
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
            self.cache_write_1h,
            self.reasoning,
        ];
        self.contradicted || counts.contains(&Count::Invalid)
    }
}
