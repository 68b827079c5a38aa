use std::fmt;

/// What is limited.
///
/// These three are all there are; an [`Amounts`] holds one number for each.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Dimension {
    /// Tokens of a language model, of whatever class the policy counts.
    Tokens,
    /// Money, in nano-USD: 1,000,000,000 are one US dollar.
    Cost,
    /// Calls, whatever the policy takes for one.
    Calls,
}

// === impl Dimension ===

impl Dimension {
    /// Every dimension, in the order in which this crate lists them.
    pub const ALL: [Self; 3] = [Self::Tokens, Self::Cost, Self::Calls];

    /// The name in lower case: `tokens`, `cost` or `calls`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Cost => "cost",
            Self::Calls => "calls",
        }
    }

    /// The unit that amounts of this dimension count: `tokens`, `nano_usd` or `calls`.
    #[must_use]
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Cost => "nano_usd",
            Self::Calls => "calls",
        }
    }
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An amount of each [`Dimension`], all zero to begin with.
///
/// An amount cannot be negative; the type has no such value.
///
/// # Examples
///
/// ```
/// use tower_quota::{Amounts, Dimension};
///
/// let used = Amounts::new().tokens(1_200).nano_usd(3_600_000).calls(1);
/// assert_eq!(used.get(Dimension::Tokens), 1_200);
/// assert_eq!(used.checked_add(Amounts::new().calls(u64::MAX)), None);
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Amounts([u64; 3]);

// === impl Amounts ===

impl Amounts {
    /// Nothing of anything.
    #[must_use]
    pub const fn new() -> Self {
        Self([0; 3])
    }

    /// The same amounts with `tokens` tokens.
    #[must_use]
    pub const fn tokens(self, tokens: u64) -> Self {
        self.with(Dimension::Tokens, tokens)
    }

    /// The same amounts with a cost of `nano_usd` nano-USD.
    #[must_use]
    pub const fn nano_usd(self, nano_usd: u64) -> Self {
        self.with(Dimension::Cost, nano_usd)
    }

    /// The same amounts with `calls` calls.
    #[must_use]
    pub const fn calls(self, calls: u64) -> Self {
        self.with(Dimension::Calls, calls)
    }

    /// The same amounts with `amount` of `dimension`.
    #[must_use]
    pub const fn with(self, dimension: Dimension, amount: u64) -> Self {
        let [tokens, cost, calls] = self.0;
        Self(match dimension {
            Dimension::Tokens => [amount, cost, calls],
            Dimension::Cost => [tokens, amount, calls],
            Dimension::Calls => [tokens, cost, amount],
        })
    }

    /// The amount of `dimension`, in its [unit](Dimension::unit).
    #[must_use]
    pub const fn get(self, dimension: Dimension) -> u64 {
        let [tokens, cost, calls] = self.0;
        match dimension {
            Dimension::Tokens => tokens,
            Dimension::Cost => cost,
            Dimension::Calls => calls,
        }
    }

    /// Whether every amount is zero.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        matches!(self.0, [0, 0, 0])
    }

    /// The lesser of both amounts, of each dimension.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        let ([a, b, c], [x, y, z]) = (self.0, other.0);
        Self([a.min(x), b.min(y), c.min(z)])
    }

    /// The sums, or `None` if one of them does not fit.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let ([a, b, c], [x, y, z]) = (self.0, other.0);
        Some(Self([
            a.checked_add(x)?,
            b.checked_add(y)?,
            c.checked_add(z)?,
        ]))
    }

    /// The differences, or `None` if one of them would be below zero.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        let ([a, b, c], [x, y, z]) = (self.0, other.0);
        Some(Self([
            a.checked_sub(x)?,
            b.checked_sub(y)?,
            c.checked_sub(z)?,
        ]))
    }

    /// The sums, each `u64::MAX` where it does not fit.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        let ([a, b, c], [x, y, z]) = (self.0, other.0);
        Self([
            a.saturating_add(x),
            b.saturating_add(y),
            c.saturating_add(z),
        ])
    }

    /// The differences, each zero where it would be below.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        let ([a, b, c], [x, y, z]) = (self.0, other.0);
        Self([
            a.saturating_sub(x),
            b.saturating_sub(y),
            c.saturating_sub(z),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_dimension_has_its_own_place() {
        let amounts = Amounts::new().tokens(1).nano_usd(2).calls(3);

        assert_eq!(Dimension::ALL.map(|d| amounts.get(d)), [1, 2, 3]);
        assert_eq!(amounts.with(Dimension::Cost, 9).get(Dimension::Cost), 9);
        assert_eq!(amounts.with(Dimension::Cost, 9).get(Dimension::Calls), 3);
    }

    #[test]
    fn checked_arithmetic_refuses_what_one_dimension_cannot_hold() {
        let full = Amounts::new().nano_usd(u64::MAX);

        assert_eq!(full.checked_add(Amounts::new().nano_usd(1)), None);
        assert_eq!(
            full.checked_add(Amounts::new().calls(1)),
            Some(full.calls(1))
        );
        assert_eq!(Amounts::new().checked_sub(Amounts::new().calls(1)), None);
        assert_eq!(full.checked_sub(full), Some(Amounts::new()));
    }

    #[test]
    fn saturating_arithmetic_stops_at_both_ends() {
        let full = Amounts::new().tokens(u64::MAX);

        assert_eq!(full.saturating_add(Amounts::new().tokens(1)), full);
        assert_eq!(Amounts::new().saturating_sub(full), Amounts::new());
    }

    #[test]
    fn zero_means_every_dimension() {
        assert!(Amounts::new().is_zero());
        assert!(!Amounts::new().calls(1).is_zero());
    }
}
