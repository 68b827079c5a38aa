use std::sync::Arc;

use crate::{Grant, Limits, TimeZone};

/// What one subject is allowed that others are not: another plan, limits in place of its plan's, more for a time, and
/// days that begin elsewhere.
///
/// The default is nothing special. A store hands them out with a version, so that of two who change them at once the
/// second notices: see [`QuotaStore::set_terms`](crate::QuotaStore::set_terms).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Terms {
    version: u64,
    plan: Option<Arc<str>>,
    limits: Limits,
    grants: Vec<Grant>,
    time_zone: Option<TimeZone>,
}

/// The limits that subjects have together with their plan's name, and where their days begin.
///
/// # Examples
///
/// ```
/// use tower_quota::{Dimension, Limit, Limits, Plans, Terms, TimeZone, Window};
///
/// let calls = |amount| Limits::new([Limit::at_most(Dimension::Calls, Window::Day, amount)]);
/// let plans = Plans::new(calls(100)?)
///     .named("pro", calls(10_000)?)
///     .time_zone(TimeZone::named("America/New_York")?);
/// assert_eq!(plans.limits_of(&Terms::default()), calls(100)?);
/// assert_eq!(plans.limits_of(&Terms::default().plan("pro")), calls(10_000)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Plans {
    default: Limits,
    named: Vec<(Arc<str>, Limits)>,
    time_zone: TimeZone,
}

// === impl Terms ===

impl Terms {
    /// The same terms with this plan. A name that the server has no plan for means the default one.
    #[must_use]
    pub fn plan(mut self, name: impl Into<Arc<str>>) -> Self {
        self.plan = Some(name.into());
        self
    }

    /// The same terms with these limits in the place of the plan's for the same dimensions and windows.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The same terms with one more grant.
    #[must_use]
    pub fn grant(mut self, grant: Grant) -> Self {
        self.grants.push(grant);
        self
    }

    /// The same terms with those grants only that `keep` says to keep.
    #[must_use]
    pub fn retain_grants(mut self, keep: impl FnMut(&Grant) -> bool) -> Self {
        self.grants.retain(keep);
        self
    }

    /// The same terms with days and months of this zone. A period that has begun ends when it would have; the next
    /// one is shorter or longer, so that it ends with a day or a month of the new zone.
    #[must_use]
    pub fn time_zone(mut self, zone: TimeZone) -> Self {
        self.time_zone = Some(zone);
        self
    }

    /// The same terms at this version, as a store keeps them.
    #[must_use]
    pub const fn at_version(mut self, version: u64) -> Self {
        self.version = version;
        self
    }

    /// How often they were set; zero if never.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// The name of the plan, if it is not the default one.
    #[must_use]
    pub const fn plan_name(&self) -> Option<&Arc<str>> {
        self.plan.as_ref()
    }

    /// Limits in place of the plan's.
    #[must_use]
    pub const fn own_limits(&self) -> &Limits {
        &self.limits
    }

    /// What there is more, in the order in which it was granted. Those that have expired stay until they are
    /// [taken away](Self::retain_grants).
    #[must_use]
    pub fn grants(&self) -> &[Grant] {
        &self.grants
    }

    /// The zone of its days and months, if it is not the plans'.
    #[must_use]
    pub const fn zone(&self) -> Option<&TimeZone> {
        self.time_zone.as_ref()
    }
}

// === impl Plans ===

impl Plans {
    /// One plan for all who have no other, with days in UTC.
    #[must_use]
    pub fn new(default: Limits) -> Self {
        Self {
            default,
            ..Self::default()
        }
    }

    /// The same plans and one more, in place of an earlier one of this name.
    #[must_use]
    pub fn named(mut self, name: impl Into<Arc<str>>, limits: Limits) -> Self {
        let name = name.into();
        self.named.retain(|(other, _)| *other != name);
        self.named.push((name, limits));
        self
    }

    /// The same plans with days and months of this zone, for who has no other.
    #[must_use]
    pub fn time_zone(mut self, zone: TimeZone) -> Self {
        self.time_zone = zone;
        self
    }

    /// The limits of who has no terms.
    #[cfg(any(feature = "memory", feature = "postgres", feature = "redis"))]
    pub(crate) const fn default_limits(&self) -> &Limits {
        &self.default
    }

    /// All plans with their limits: the default one, which has no name, then the others in the order in which they were
    /// added.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_quota::{Limits, Plans};
    ///
    /// let plans = Plans::new(Limits::default()).named("pro", Limits::default());
    /// let names: Vec<_> = plans.iter().map(|(name, _)| name.map(|name| &**name)).collect();
    /// assert_eq!(names, [None, Some("pro")]);
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = (Option<&Arc<str>>, &Limits)> {
        let named = self.named.iter();
        let named = named.map(|(name, limits)| (Some(name), limits));
        std::iter::once((None, &self.default)).chain(named)
    }

    /// The zone of who has no other.
    #[must_use]
    pub const fn zone(&self) -> &TimeZone {
        &self.time_zone
    }

    /// Whether there is a plan of this name, besides the default one.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.named.iter().any(|(other, _)| **other == *name)
    }

    /// The limits under these terms, without grants: the plan's in their order, then those that are its subject's
    /// alone.
    #[must_use]
    pub fn limits_of(&self, terms: &Terms) -> Limits {
        let of_plan = terms.plan.as_ref().and_then(|name| {
            let mut named = self.named.iter();
            named.find(|(other, _)| other == name)
        });
        let of_plan = of_plan.map_or(&self.default, |(_, limits)| limits);
        of_plan.overridden_by(&terms.limits)
    }

    /// The zone under these terms.
    #[must_use]
    pub fn zone_of<'a>(&'a self, terms: &'a Terms) -> &'a TimeZone {
        terms.time_zone.as_ref().unwrap_or(&self.time_zone)
    }
}

impl From<Limits> for Plans {
    fn from(default: Limits) -> Self {
        Self::new(default)
    }
}
