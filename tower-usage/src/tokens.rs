/// Tokens of one call by class, as they are billed.
///
/// The classes do not overlap, but for `reasoning`, which is part of `output`, and `cache_write_1h`, which is part of
/// `cache_write`. `None` is *not reported*; `Some(0)` is a reported zero.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub struct TokenCounts {
    /// Prompt tokens that came from no cache and went into none.
    pub input: Option<u64>,
    /// Generated tokens, reasoning included.
    pub output: Option<u64>,
    /// Prompt tokens read from the provider's cache.
    pub cache_read: Option<u64>,
    /// Prompt tokens written to the provider's cache, for however long.
    pub cache_write: Option<u64>,
    /// Prompt tokens written to the provider's cache to stay there for an hour; part of `cache_write`.
    pub cache_write_1h: Option<u64>,
    /// Generated tokens the model thought with; part of `output`.
    pub reasoning: Option<u64>,
}

// === impl TokenCounts ===

impl TokenCounts {
    /// What counts as tokens: input, output, cache reads and cache writes together.
    ///
    /// A class that was not reported adds nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_usage::TokenCounts;
    /// let mut tokens = TokenCounts::default();
    /// tokens.input = Some(20);
    /// tokens.cache_read = Some(100);
    /// tokens.output = Some(30);
    /// tokens.reasoning = Some(25);
    /// assert_eq!(tokens.total(), 150);
    /// ```
    #[must_use]
    pub fn total(&self) -> u64 {
        [self.input, self.output, self.cache_read, self.cache_write]
            .into_iter()
            .flatten()
            .fold(0, u64::saturating_add)
    }

    /// Tokens of the prompt, in whatever cache they were.
    pub(crate) fn prompt(&self) -> u64 {
        [self.input, self.cache_read, self.cache_write]
            .into_iter()
            .flatten()
            .fold(0, u64::saturating_add)
    }
}
