use std::sync::Arc;

use quick_cache::sync::Cache;

use super::question::{Calendar, Level, Question};
use crate::{Charge, Limits, Plans, Subject, Terms};

/// The plans, and the terms of subjects as they were when the server was last asked about them.
///
/// A question names the version of the terms that it was made by. Where the server has others it says so and decides
/// nothing; they are [learnt](Self::learn) and it is asked again. So terms that change cost one round trip more, once
/// at each client, and are never overlooked.
pub(crate) struct Known {
    plans: Plans,
    /// Only of those who have some.
    terms: Cache<Subject, Arc<Special>>,
}

struct Special {
    terms: Terms,
    limits: Limits,
}

/// How many subjects with terms of their own are remembered.
const REMEMBERED: usize = 50_000;

// === impl Known ===

impl Known {
    pub(crate) fn new(plans: Plans) -> Self {
        Self {
            plans,
            terms: Cache::new(REMEMBERED),
        }
    }

    pub(crate) const fn plans(&self) -> &Plans {
        &self.plans
    }

    /// What to ask the server about a charge, if it is about the time of `calendar` there.
    pub(crate) fn question(&self, charge: &Charge, calendar: Calendar) -> Question {
        let levels = charge.subject().chain();
        Question {
            demands: charge.clone(),
            levels: levels
                .map(|subject| self.level(subject, calendar))
                .collect(),
        }
    }

    /// What the server has to know of one subject.
    pub(crate) fn level(&self, subject: Subject, calendar: Calendar) -> Level {
        match self.terms.get(&subject) {
            Some(special) => Level::new(
                subject,
                &special.terms,
                special.limits.clone(),
                self.plans.zone_of(&special.terms),
                calendar,
            ),
            None => Level::new(
                subject,
                &Terms::default(),
                self.plans.default_limits().clone(),
                self.plans.zone(),
                calendar,
            ),
        }
    }

    /// The terms that the server has.
    pub(crate) fn learn(&self, subject: Subject, terms: Terms) {
        if terms.version() == 0 {
            self.terms.remove(&subject);
            return;
        }
        let limits = self.plans.limits_of(&terms);
        self.terms
            .insert(subject, Arc::new(Special { terms, limits }));
    }
}
