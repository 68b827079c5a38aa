use std::{fmt, str::FromStr};

use crate::{
    AmountError, NanoUsd, TokenCounts,
    money::{parse_nanos, write_nanos},
};

/// Prices are per this many tokens.
const PER: u128 = 1_000_000;

/// What a million tokens cost, in nano-USD. Never negative.
///
/// Read from decimal dollars: `"3.00"` is three dollars for a million tokens.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Price(u64);

/// The prices of one model.
///
/// # Examples
///
/// ```
/// # use tower_usage::{NanoUsd, Rate, TokenCounts};
/// let rate = Rate::new("0.075".parse()?, "0.30".parse()?);
/// let mut tokens = TokenCounts::default();
/// tokens.input = Some(1);
/// assert_eq!(rate.cost(&tokens), Some(NanoUsd::from_nanos(75)));
/// # Ok::<(), tower_usage::AmountError>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    input: Price,
    output: Price,
    cache_read: Price,
    cache_write: Price,
    cache_write_1h: Option<Price>,
}

// === impl Price ===

impl Price {
    /// Nothing.
    pub const FREE: Self = Self(0);

    /// This many nano-USD for a million tokens.
    #[must_use]
    pub const fn from_nanos_per_million(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nano-USD for a million tokens.
    #[must_use]
    pub const fn as_nanos_per_million(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_nanos(self.0, f)
    }
}

impl FromStr for Price {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        if text.starts_with('-') {
            return Err(AmountError::Negative);
        }
        parse_nanos(text).map(Self)
    }
}

// === impl Rate ===

impl Rate {
    /// A rate that prices cached tokens as input, and has no price for those that are cached for an hour.
    #[must_use]
    pub const fn new(input: Price, output: Price) -> Self {
        Self {
            input,
            output,
            cache_read: input,
            cache_write: input,
            cache_write_1h: None,
        }
    }

    /// Sets the price of tokens read from the provider's cache. Default: that of input.
    #[must_use]
    pub const fn cache_read(self, price: Price) -> Self {
        Self {
            cache_read: price,
            ..self
        }
    }

    /// Sets the price of tokens written to the provider's cache, but for those of [`cache_write_1h`](Self::cache_write_1h).
    /// Default: that of input.
    #[must_use]
    pub const fn cache_write(self, price: Price) -> Self {
        Self {
            cache_write: price,
            ..self
        }
    }

    /// Sets the price of tokens written to the provider's cache to stay there for an hour. Default: none, and there is
    /// none that could be derived: what such tokens are part of has no [`cost`](Self::cost).
    #[must_use]
    pub const fn cache_write_1h(self, price: Price) -> Self {
        Self {
            cache_write_1h: Some(price),
            ..self
        }
    }

    /// The price of prompt tokens outside of the cache.
    #[must_use]
    pub const fn input_price(&self) -> Price {
        self.input
    }

    /// The price of generated tokens.
    #[must_use]
    pub const fn output_price(&self) -> Price {
        self.output
    }

    /// The price of tokens read from the cache.
    #[must_use]
    pub const fn cache_read_price(&self) -> Price {
        self.cache_read
    }

    /// The price of tokens written to the cache.
    #[must_use]
    pub const fn cache_write_price(&self) -> Price {
        self.cache_write
    }

    /// The price of tokens written to the cache for an hour, if there is one.
    #[must_use]
    pub const fn cache_write_1h_price(&self) -> Option<Price> {
        self.cache_write_1h
    }

    /// Whether there is a price for each class that has tokens.
    pub(crate) fn is_whole(&self, tokens: &TokenCounts) -> bool {
        self.cache_write_1h.is_some() || tokens.cache_write_1h.unwrap_or(0) == 0
    }

    /// What these tokens cost, rounded once, half up, to a whole nano-USD.
    ///
    /// A class that was not reported costs nothing. `None` if the amount does not fit a [`NanoUsd`], or if there are
    /// tokens cached for an hour and no price for them.
    #[must_use]
    pub fn cost(&self, tokens: &TokenCounts) -> Option<NanoUsd> {
        let [.., (_, whole)] = self.running_cost(tokens)?;
        i64::try_from(whole).ok().map(NanoUsd::from_nanos)
    }

    /// The same by class: `input`, `output`, `cache_read` and `cache_write`, whatever was cached for an hour in that.
    ///
    /// Together they are exactly [`cost`](Self::cost), and each is within one nano-USD of what its tokens cost alone.
    #[must_use]
    pub fn cost_by_class(&self, tokens: &TokenCounts) -> Option<[(&'static str, NanoUsd); 4]> {
        self.cost(tokens)?;
        let mut before = 0;
        let by_class = self.running_cost(tokens)?.map(|(class, whole)| {
            let part = i64::try_from(whole - before);
            before = whole;
            Some((class, NanoUsd::from_nanos(part.ok()?)))
        });
        let [input, output, cache_read, cache_write] = by_class;
        Some([input?, output?, cache_read?, cache_write?])
    }

    /// What the tokens of a class and of those before it cost together, in nano-USD.
    fn running_cost(&self, tokens: &TokenCounts) -> Option<[(&'static str, u128); 4]> {
        if !self.is_whole(tokens) {
            return None;
        }
        let price = |count: u64, Price(price)| u128::from(count) * u128::from(price);
        let long = tokens.cache_write_1h.unwrap_or(0);
        let short = tokens.cache_write.unwrap_or(0).saturating_sub(long);
        let long = price(long, self.cache_write_1h.unwrap_or_default());
        let mut sum = PER / 2;
        let mut running = |class, part| {
            sum = u128::checked_add(sum, part?)?;
            Some((class, sum / PER))
        };
        Some([
            running("input", Some(price(tokens.input.unwrap_or(0), self.input)))?,
            running(
                "output",
                Some(price(tokens.output.unwrap_or(0), self.output)),
            )?,
            running(
                "cache_read",
                Some(price(tokens.cache_read.unwrap_or(0), self.cache_read)),
            )?,
            running(
                "cache_write",
                price(short, self.cache_write).checked_add(long),
            )?,
        ])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn price(text: &str) -> Price {
        text.parse().unwrap()
    }

    fn tokens(input: u64, output: u64, cache_read: u64, cache_write: u64) -> TokenCounts {
        TokenCounts {
            input: Some(input),
            output: Some(output),
            cache_read: Some(cache_read),
            cache_write: Some(cache_write),
            cache_write_1h: None,
            reasoning: None,
        }
    }

    #[test]
    fn d5_55_one_cheap_token_is_not_free() {
        let rate = Rate::new(price("0.075"), price("0.30"));
        assert_eq!(
            rate.cost(&tokens(1, 0, 0, 0)),
            Some(NanoUsd::from_nanos(75))
        );
        let rate = Rate::new(price("0.0375"), price("0.15"));
        assert_eq!(
            rate.cost(&tokens(1, 0, 0, 0)),
            Some(NanoUsd::from_nanos(38)),
            "37.5 is rounded up"
        );
    }

    #[test]
    fn prices_each_class_by_itself() {
        // 200 input, 10 output, 1,000 read, 100 written at 3.00, 15.00, 0.30, 3.75 dollars.
        let rate = Rate::new(price("3.00"), price("15.00"))
            .cache_read(price("0.30"))
            .cache_write(price("3.75"));
        assert_eq!(
            rate.cost(&tokens(200, 10, 1_000, 100)),
            Some("0.001425".parse().unwrap()),
        );
    }

    #[test]
    fn prices_cached_tokens_as_input_where_nothing_else_is_said() {
        let rate = Rate::new(price("3.00"), price("15.00"));
        assert_eq!(
            rate.cost(&tokens(0, 0, 5, 5)),
            rate.cost(&tokens(10, 0, 0, 0))
        );
    }

    #[test]
    fn d5_55_prices_what_is_cached_for_an_hour_apart_and_does_not_invent_a_price() {
        // Anthropic's documentation, "Prompt caching", "Pricing": 3.75 for five minutes, 6.00 for an hour.
        let rate = Rate::new(price("3.00"), price("15.00")).cache_write(price("3.75"));
        let mut written = tokens(0, 0, 0, 248);
        assert_eq!(
            rate.cost(&written),
            Some(NanoUsd::from_nanos(248 * 3_750)),
            "none of them is said to be"
        );
        written.cache_write_1h = Some(0);
        assert!(rate.cost(&written).is_some());
        written.cache_write_1h = Some(100);
        assert_eq!(rate.cost(&written), None);
        let rate = rate.cache_write_1h(price("6.00"));
        assert_eq!(
            rate.cost(&written),
            Some(NanoUsd::from_nanos(148 * 3_750 + 100 * 6_000))
        );
        assert_eq!(written.total(), 248, "part of what is written");
    }

    #[test]
    fn counts_reasoning_once() {
        let rate = Rate::new(price("1"), price("2"));
        let mut thought = tokens(1, 100, 0, 0);
        thought.reasoning = Some(90);
        assert_eq!(rate.cost(&thought), rate.cost(&tokens(1, 100, 0, 0)));
    }

    #[test]
    fn refuses_a_price_that_is_negative_infinite_or_too_precise() {
        assert_eq!("-1".parse::<Price>(), Err(AmountError::Negative));
        assert_eq!("-0".parse::<Price>(), Err(AmountError::Negative));
        for text in ["NaN", "inf", "1e6", ""] {
            assert_eq!(
                text.parse::<Price>(),
                Err(AmountError::Malformed),
                "{text:?}"
            );
        }
        assert_eq!(
            "0.0000000001".parse::<Price>(),
            Err(AmountError::TooPrecise)
        );
        assert_eq!(
            "18446744073.709551616".parse::<Price>(),
            Err(AmountError::OutOfRange)
        );
    }

    #[test]
    fn a_cost_that_does_not_fit_is_none() {
        let rate = Rate::new(Price(u64::MAX), Price(u64::MAX));
        let most = tokens(u64::MAX, u64::MAX, u64::MAX, u64::MAX);
        assert_eq!(rate.cost(&most), None);
        assert_eq!(rate.cost_by_class(&most), None);
        // Each class fits, and all of them do not.
        let dear = Rate::new(price("1000000"), price("1000000"));
        let many = tokens(6_000_000_000, 6_000_000_000, 0, 0);
        assert_eq!((dear.cost(&many), dear.cost_by_class(&many)), (None, None));
    }

    proptest! {
        #[test]
        fn a_cost_is_within_half_a_nano_of_the_exact_one(
            counts in prop::array::uniform4(0_u64..1_000_000_000),
            prices in prop::array::uniform4(0_u64..1_000_000_000_000),
        ) {
            let [input, output, read, write] = counts;
            let [a, b, c, d] = prices.map(Price);
            let rate = Rate::new(a, b).cache_read(c).cache_write(d);
            let exact: u128 = counts.iter().zip(prices).map(|(n, p)| u128::from(*n) * u128::from(p)).sum();
            let by_class = rate.cost_by_class(&tokens(input, output, read, write));
            match rate.cost(&tokens(input, output, read, write)) {
                Some(cost) => {
                    let scaled = u128::try_from(cost.as_nanos()).unwrap() * PER;
                    prop_assert!(scaled.abs_diff(exact) * 2 <= PER);
                    let by_class = by_class.unwrap();
                    let sum: i64 = by_class.iter().map(|(_, cost)| cost.as_nanos()).sum();
                    prop_assert_eq!(sum, cost.as_nanos());
                    for ((_, cost), (n, p)) in by_class.iter().zip(counts.iter().zip(prices)) {
                        let exact = u128::from(*n) * u128::from(p);
                        let cost = u128::try_from(cost.as_nanos()).unwrap();
                        prop_assert!((cost * PER).abs_diff(exact) < PER);
                    }
                }
                None => prop_assert!(exact / PER >= i64::MAX as u128 && by_class.is_none()),
            }
        }

        #[test]
        fn more_tokens_never_cost_less(input in 0_u64..1 << 40, more in 0_u64..1 << 20, nanos in 0_u64..1 << 40) {
            let rate = Rate::new(Price(nanos), Price(0));
            prop_assert!(rate.cost(&tokens(input + more, 0, 0, 0)) >= rate.cost(&tokens(input, 0, 0, 0))
                || rate.cost(&tokens(input + more, 0, 0, 0)).is_none());
        }
    }
}
