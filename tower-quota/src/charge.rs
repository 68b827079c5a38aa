use crate::{Dimension, Subject};

/// How much of one dimension a request needs, and how much of it to set aside.
///
/// It is admitted if `min` is left of every limit of the dimension, and then holds `want` or what is left, whichever
/// is less. Every pair of numbers has a meaning: `want` above `min` takes less when there is less, `want` below `min`
/// asks for more than it holds, and `min: 0` is never refused. Its fields are public since there is nothing to keep
/// right between them, and these two are all there are.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Demand {
    /// What must be left, in the dimension's [unit](Dimension::unit).
    pub min: u64,
    /// What is held if there is so much, in the same unit.
    pub want: u64,
}

// === impl Demand ===

impl Demand {
    /// This much or nothing.
    #[must_use]
    pub const fn exactly(amount: u64) -> Self {
        Self {
            min: amount,
            want: amount,
        }
    }

    /// Something must be left; nothing is held.
    #[must_use]
    pub const fn something_left() -> Self {
        Self { min: 1, want: 0 }
    }
}

/// What a request is to be charged, before it runs.
///
/// A dimension without a demand is not checked.
///
/// # Examples
///
/// ```
/// use tower_quota::{Charge, Demand, Dimension};
///
/// let charge = Charge::new("alice")
///     .exactly(Dimension::Calls, 1)
///     .demand(Dimension::Tokens, Demand { min: 1, want: 4_096 });
/// assert_eq!(charge.demanded(Dimension::Calls), Demand::exactly(1));
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Charge {
    subject: Subject,
    demands: [Demand; 3],
}

// === impl Charge ===

impl Charge {
    /// A charge to `subject` that demands nothing yet.
    #[must_use]
    pub fn new(subject: impl Into<Subject>) -> Self {
        Self {
            subject: subject.into(),
            demands: [Demand::default(); 3],
        }
    }

    /// The same charge with this demand of `dimension`, in place of an earlier one.
    #[must_use]
    pub fn demand(mut self, dimension: Dimension, demand: Demand) -> Self {
        let [tokens, cost, calls] = &mut self.demands;
        *match dimension {
            Dimension::Tokens => tokens,
            Dimension::Cost => cost,
            Dimension::Calls => calls,
        } = demand;
        self
    }

    /// The same charge, demanding exactly `amount` of `dimension`.
    #[must_use]
    pub fn exactly(self, dimension: Dimension, amount: u64) -> Self {
        self.demand(dimension, Demand::exactly(amount))
    }

    /// The same charge, which is never refused: it holds what it wants, or what is left.
    #[must_use]
    pub fn without_minimum(mut self) -> Self {
        for demand in &mut self.demands {
            demand.min = 0;
        }
        self
    }

    /// Whom to charge.
    #[must_use]
    pub const fn subject(&self) -> &Subject {
        &self.subject
    }

    /// What is demanded of `dimension`.
    #[must_use]
    pub const fn demanded(&self, dimension: Dimension) -> Demand {
        let [tokens, cost, calls] = self.demands;
        match dimension {
            Dimension::Tokens => tokens,
            Dimension::Cost => cost,
            Dimension::Calls => calls,
        }
    }
}
