use std::sync::Arc;

use crate::{Dimension, Window};

/// How much of a dimension one period allows.
///
/// The two variants are all there are: an amount or an explicit absence of one.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Allowance {
    /// At most this much, in the dimension's [unit](Dimension::unit). Zero means none at all.
    AtMost(u64),
    /// As much as is asked for; it is counted and never refused.
    Unlimited,
}

/// An [`Allowance`] of one [`Dimension`] in each period of one [`Window`].
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Limit {
    dimension: Dimension,
    window: Window,
    allowance: Allowance,
}

// === impl Limit ===

impl Limit {
    /// A limit of `allowance` for `dimension` in each `window`.
    #[must_use]
    pub const fn new(dimension: Dimension, window: Window, allowance: Allowance) -> Self {
        Self {
            dimension,
            window,
            allowance,
        }
    }

    /// A limit of `amount` of `dimension` in each `window`.
    #[must_use]
    pub const fn at_most(dimension: Dimension, window: Window, amount: u64) -> Self {
        Self::new(dimension, window, Allowance::AtMost(amount))
    }

    /// An explicit absence of a limit for `dimension` in each `window`.
    #[must_use]
    pub const fn unlimited(dimension: Dimension, window: Window) -> Self {
        Self::new(dimension, window, Allowance::Unlimited)
    }

    /// What is limited.
    #[must_use]
    pub const fn dimension(&self) -> Dimension {
        self.dimension
    }

    /// How long an allowance lasts.
    #[must_use]
    pub const fn window(&self) -> Window {
        self.window
    }

    /// How much a period allows.
    #[must_use]
    pub const fn allowance(&self) -> Allowance {
        self.allowance
    }
}

/// The limits of one subject or of a plan, in order, at most one for each dimension and window.
///
/// A dimension and window that is not listed is not limited; it is counted all the same, so a limit added later
/// applies to what the period has used already. The default has no limits. Cloning is cheap.
///
/// # Examples
///
/// ```
/// use tower_quota::{Dimension, Limit, Limits, Window};
///
/// let plan = Limits::new([
///     Limit::at_most(Dimension::Tokens, Window::Day, 2_000_000),
///     Limit::at_most(Dimension::Cost, Window::Month, 100_000_000_000), // 100 USD
/// ])?;
/// assert!(plan.find(Dimension::Calls, Window::Day).is_none());
/// # Ok::<(), tower_quota::DuplicateLimit>(())
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Limits(Arc<[Limit]>);

// === impl Limits ===

impl Limits {
    /// These limits, in this order.
    ///
    /// # Errors
    ///
    /// [`DuplicateLimit`] if two limits are for the same dimension and window.
    pub fn new(limits: impl IntoIterator<Item = Limit>) -> Result<Self, DuplicateLimit> {
        let mut distinct: Vec<Limit> = Vec::new();
        for limit in limits {
            let (dimension, window) = (limit.dimension, limit.window);
            if distinct
                .iter()
                .any(|l| (l.dimension, l.window) == (dimension, window))
            {
                return Err(DuplicateLimit { dimension, window });
            }
            distinct.push(limit);
        }
        Ok(Self(distinct.into()))
    }

    /// These limits with `others` in the place of those for the same dimension and window, and after them the rest of
    /// `others`.
    #[must_use]
    pub fn overridden_by(&self, others: &Self) -> Self {
        if others.0.is_empty() {
            return self.clone();
        }
        let same = |limit: &Limit| others.find(limit.dimension, limit.window);
        let own = self.iter().map(|limit| *same(limit).unwrap_or(limit));
        let besides = others
            .iter()
            .filter(|limit| self.find(limit.dimension, limit.window).is_none());
        Self(own.chain(besides.copied()).collect())
    }

    /// The limit of `dimension` in `window`, if it is listed.
    #[must_use]
    pub fn find(&self, dimension: Dimension, window: Window) -> Option<&Limit> {
        self.iter()
            .find(|l| (l.dimension, l.window) == (dimension, window))
    }

    /// The limits in order.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Limit> {
        self.0.iter()
    }
}

/// Two limits for the same dimension and window.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("more than one limit of {dimension} per {window}")]
pub struct DuplicateLimit {
    dimension: Dimension,
    window: Window,
}

// === impl DuplicateLimit ===

impl DuplicateLimit {
    /// What both limits are of.
    #[must_use]
    pub const fn dimension(&self) -> Dimension {
        self.dimension
    }

    /// The window of both.
    #[must_use]
    pub const fn window(&self) -> Window {
        self.window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_two_limits_for_one_dimension_and_window() {
        let twice = Limits::new([
            Limit::at_most(Dimension::Calls, Window::Day, 1),
            Limit::at_most(Dimension::Calls, Window::Month, 1),
            Limit::unlimited(Dimension::Calls, Window::Day),
        ]);

        assert_eq!(
            twice.unwrap_err().to_string(),
            "more than one limit of calls per day"
        );
    }

    #[test]
    fn keeps_the_order_it_was_given() {
        let given = [
            Limit::at_most(Dimension::Calls, Window::Month, 1),
            Limit::unlimited(Dimension::Tokens, Window::Day),
        ];
        let limits = Limits::new(given).unwrap();

        assert!(limits.iter().eq(&given));
        assert_eq!(limits.find(Dimension::Tokens, Window::Day), Some(&given[1]));
        assert_eq!(limits.find(Dimension::Tokens, Window::Month), None);
    }
}
