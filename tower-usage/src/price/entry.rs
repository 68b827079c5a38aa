use std::{sync::Arc, time::SystemTime};

use crate::{Rate, TokenCounts};

/// One line of a [`PriceList`](crate::PriceList).
#[derive(Clone, Debug)]
pub struct PriceEntry {
    model: Arc<str>,
    terms: Terms,
}

/// What a model costs from a time on.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) from: SystemTime,
    rate: Rate,
    above: Above,
    /// The rates of calls that the provider serves in a tier, by its name; those above no tokens are of all its calls.
    services: Vec<(Arc<str>, Above)>,
}

/// Rates of calls with more than so many prompt tokens, in the order of that number.
#[derive(Clone, Debug, Default)]
struct Above(Vec<(u64, Rate)>);

// === impl PriceEntry ===

impl PriceEntry {
    /// The rate of a model since ever.
    pub fn new(model: impl Into<Arc<str>>, rate: Rate) -> Self {
        Self {
            model: model.into(),
            terms: Terms {
                from: SystemTime::UNIX_EPOCH,
                rate,
                above: Above::default(),
                services: Vec::new(),
            },
        }
    }

    /// The rate holds from this time on, until a later entry of the model begins.
    #[must_use]
    pub fn effective_from(mut self, from: SystemTime) -> Self {
        self.terms.from = from;
        self
    }

    /// Another rate for the whole of a call whose prompt, cached tokens included, has more than so many tokens.
    ///
    /// There may be several; the greatest number that the prompt exceeds decides. The latter of two with one number
    /// holds.
    #[must_use]
    pub fn above(mut self, tokens: u64, rate: Rate) -> Self {
        self.terms.above.set(tokens, rate);
        self
    }

    /// Another rate for calls that the provider says it served in this tier (`flex` or `priority`, in OpenAI's API
    /// reference the member `service_tier` of an answer) and whose prompt has more than so many tokens; zero is all of
    /// them.
    ///
    /// A call in a tier that has no rate is priced as any other, and its record says so: see
    /// [`UsageRecord::price`](crate::UsageRecord::price). So is one whose prompt has a rate of its own
    /// ([`above`](Self::above)) that the tier lacks.
    #[must_use]
    pub fn in_service_tier(mut self, tier: &str, above: u64, rate: Rate) -> Self {
        let services = &mut self.terms.services;
        match services.iter_mut().find(|(name, _)| **name == *tier) {
            Some((_, rates)) => rates.set(above, rate),
            None => services.push((tier.into(), Above(vec![(above, rate)]))),
        }
        self
    }

    /// The same terms under another name.
    #[must_use]
    pub fn named(self, model: impl Into<Arc<str>>) -> Self {
        Self {
            model: model.into(),
            ..self
        }
    }

    /// The model.
    #[must_use]
    pub const fn model(&self) -> &Arc<str> {
        &self.model
    }

    /// When it begins to hold; the beginning of 1970 is since ever.
    #[must_use]
    pub const fn effective_since(&self) -> SystemTime {
        self.terms.from
    }

    /// The rate of a short prompt, in no tier of service.
    #[must_use]
    pub const fn rate(&self) -> Rate {
        self.terms.rate()
    }

    /// Other rates: the tier of service, if it is of one, the number of prompt tokens above which it holds, and the rate.
    pub fn other_rates(&self) -> impl Iterator<Item = (Option<&str>, u64, Rate)> {
        let Terms {
            above, services, ..
        } = &self.terms;
        let in_tiers = services.iter().map(|(name, rates)| (Some(&**name), rates));
        let all = std::iter::once((None, above)).chain(in_tiers);
        all.flat_map(|(tier, Above(rates))| {
            let rates = rates.iter();
            rates.map(move |&(tokens, rate)| (tier, tokens, rate))
        })
    }

    pub(super) const fn of(model: Arc<str>, terms: Terms) -> Self {
        Self { model, terms }
    }

    pub(super) fn into_parts(self) -> (Arc<str>, Terms) {
        (self.model, self.terms)
    }
}

// === impl Terms ===

impl Terms {
    /// That of a short prompt.
    pub(super) const fn rate(&self) -> Rate {
        self.rate
    }

    /// The rate of a call, and whether it is that of its tier, if it is in one.
    pub(super) fn rate_in(&self, service_tier: Option<&str>, tokens: &TokenCounts) -> (Rate, bool) {
        let prompt = tokens.prompt();
        let (above, rate) = self.above.find(prompt).unwrap_or((0, self.rate));
        let Some(tier) = service_tier else {
            return (rate, true);
        };
        let of_tier = self.services.iter().find(|(name, _)| **name == *tier);
        let of_tier = of_tier.and_then(|(_, rates)| rates.find(prompt));
        // A long prompt is not served at the price of a short one.
        match of_tier.filter(|(of_tier, _)| *of_tier >= above) {
            Some((_, rate)) => (rate, true),
            None => (rate, false),
        }
    }
}

// === impl Above ===

impl Above {
    fn set(&mut self, tokens: u64, rate: Rate) {
        let Self(rates) = self;
        rates.retain(|(above, _)| *above != tokens);
        rates.push((tokens, rate));
        rates.sort_by_key(|(above, _)| *above);
    }

    fn find(&self, prompt: u64) -> Option<(u64, Rate)> {
        let holds = |above: u64| above == 0 || prompt > above;
        let Self(rates) = self;
        rates.iter().rev().find(|(above, _)| holds(*above)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d5_55_a_call_in_a_tier_has_its_rate_and_a_long_one_that_of_long_ones_or_none() {
        let rate = |price: &str| Rate::new(price.parse().unwrap(), price.parse().unwrap());
        let entry = PriceEntry::new("m", rate("2"))
            .above(200, rate("4"))
            .in_service_tier("flex", 0, rate("1"))
            .in_service_tier("priority", 0, rate("9"))
            .in_service_tier("priority", 200, rate("5"))
            .in_service_tier("priority", 0, rate("3"));
        let (_, terms) = entry.into_parts();
        for (tier, input, price, in_tier) in [
            (None, 200, "2", true),
            (None, 201, "4", true),
            (Some("flex"), 200, "1", true),
            (Some("flex"), 201, "4", false),
            (Some("priority"), 0, "3", true),
            (Some("priority"), 201, "5", true),
            (Some("scale"), 200, "2", false),
        ] {
            let tokens = TokenCounts {
                input: Some(input),
                ..TokenCounts::default()
            };
            let found = terms.rate_in(tier, &tokens);
            assert_eq!(found, (rate(price), in_tier), "{tier:?} {input}");
        }
    }
}
