use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, PoisonError, RwLock},
    time::SystemTime,
};

use super::entry::{PriceEntry, Terms};
use crate::{Rate, TokenCounts};

/// Rates by model, each in force from its date on.
///
/// Immutable; a server that reloads its prices makes a new one. A model that is not listed has no price, and is never
/// priced as another, unless a [`fallback`](Self::fallback) is set.
#[derive(Clone, Debug, Default)]
pub struct PriceList {
    models: HashMap<Arc<str>, Vec<Terms>>,
    fallback: Option<Arc<str>>,
    as_requested: bool,
}

/// What a [`PriceList`] says of one call.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Priced {
    /// The rate to be paid.
    pub rate: Rate,
    /// The model whose rate it is, where that is the fallback; `None` where it is the model's own.
    pub as_model: Option<Arc<str>>,
}

/// What a [`PriceList`] says of one answer, and what it lacked to say it.
#[derive(Clone, Debug, Default)]
pub(super) struct Answered {
    /// The rate to be paid; `None` if there is no price.
    pub(super) rate: Option<Rate>,
    /// As in [`Priced`].
    pub(super) as_model: Option<Arc<str>>,
    /// The model has a price, but none for what was cached for an hour.
    pub(super) lacks_cache_write_1h: bool,
    /// The rate is that of no tier, though the provider named one.
    pub(super) lacks_service_tier: bool,
}

/// The [`PriceList`] in force. Clones share it, and see at once when it is exchanged.
#[derive(Clone, Debug, Default)]
pub struct Prices(Arc<RwLock<Arc<PriceList>>>);

/// A model was given two rates from the same date.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("two prices of {model} begin at the same time")]
pub struct DuplicatePrice {
    model: Arc<str>,
}

/// The model that others should be priced as has no price itself.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{model} has no price that others could be priced by")]
pub struct UnlistedFallback {
    model: Arc<str>,
}

// === impl PriceList ===

impl PriceList {
    /// A list of these entries.
    ///
    /// # Errors
    ///
    /// [`DuplicatePrice`] if two entries of one model begin at the same time.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::SystemTime;
    /// # use tower_usage::{PriceEntry, PriceList, Rate};
    /// let rate = Rate::new("2.50".parse()?, "10.00".parse()?).cache_read("1.25".parse()?);
    /// let prices = PriceList::new([PriceEntry::new("gpt-4o", rate)])?;
    /// assert_eq!(prices.rate("gpt-4o", SystemTime::UNIX_EPOCH), Some(rate));
    /// assert_eq!(prices.rate("gpt-4o-mini", SystemTime::UNIX_EPOCH), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(entries: impl IntoIterator<Item = PriceEntry>) -> Result<Self, DuplicatePrice> {
        let mut models: HashMap<_, Vec<_>> = HashMap::new();
        for entry in entries {
            let (model, terms) = entry.into_parts();
            let dates = match models.entry(model) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(Vec::with_capacity(1)),
            };
            dates.push(terms);
        }
        for (model, dates) in &mut models {
            dates.sort_by_key(|terms: &Terms| terms.from);
            let twice = dates
                .windows(2)
                .any(|pair| matches!(pair, [a, b] if a.from == b.from));
            if twice {
                return Err(DuplicatePrice {
                    model: Arc::clone(model),
                });
            }
        }
        Ok(Self {
            models,
            fallback: None,
            as_requested: false,
        })
    }

    /// Prices an answer by a model that has no rate as one by the model that was asked for, if that has one, and says so:
    /// see [`UsageRecord::price`](crate::UsageRecord::price). Before the [`fallback`](Self::fallback).
    ///
    /// Providers answer with dated names (`gpt-4o-2024-08-06` to a call for `gpt-4o`), and add some over night. It is for
    /// those who let only models with a price be asked for, so that no call is free: what was
    /// [cached for an hour](Rate::cache_write_1h) and has no price as such is priced as what is cached, and the record
    /// says that, too.
    #[must_use]
    pub fn unlisted_as_requested(self) -> Self {
        Self {
            as_requested: true,
            ..self
        }
    }

    /// The price of an answer by `model`, where it names one, to a call for `requested`, which the provider served in
    /// this tier, if it said so.
    pub(super) fn price_answer(
        &self,
        model: Option<&str>,
        requested: Option<&Arc<str>>,
        service_tier: Option<&str>,
        tokens: &TokenCounts,
        at: SystemTime,
    ) -> Answered {
        let own = |model| {
            let terms = self.terms(model, at)?;
            Some(terms.rate_in(service_tier, tokens))
        };
        let Some(answered) = model.or(requested.map(|requested| &**requested)) else {
            return Answered::default();
        };
        let mut answer = Answered::default();
        let found = own(answered).or_else(|| {
            let requested = requested.filter(|_| self.as_requested)?;
            answer.as_model = Some(Arc::clone(requested));
            own(requested)
        });
        let whole = found.filter(|(rate, _)| rate.is_whole(tokens));
        answer.lacks_cache_write_1h = found.is_some() && whole.is_none();
        let found = whole.or_else(|| {
            let (rate, in_tier) = found.filter(|_| self.as_requested)?;
            Some((rate.cache_write_1h(rate.cache_write_price()), in_tier))
        });
        let found = found.or_else(|| {
            let fallback = self.fallback.as_ref();
            answer.as_model = fallback.map(Arc::clone);
            own(fallback?).filter(|(rate, _)| rate.is_whole(tokens))
        });
        let Some((rate, in_tier)) = found else {
            answer.as_model = None;
            return answer;
        };
        answer.rate = Some(rate);
        answer.lacks_service_tier = !in_tier;
        answer
    }

    /// Prices every model that has no rate as this one, and says so: see [`Priced`].
    ///
    /// Choose a dear one. It is for those who would rather charge too much than nothing; whoever wants to refuse models
    /// without a price asks [`rate`](Self::rate), which stays exact.
    ///
    /// # Errors
    ///
    /// [`UnlistedFallback`] if the list does not have the model.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::SystemTime;
    /// # use tower_usage::{PriceEntry, PriceList, Rate, TokenCounts};
    /// let rate = Rate::new("15.00".parse()?, "75.00".parse()?);
    /// let prices = PriceList::new([PriceEntry::new("dear", rate)])?.fallback("dear")?;
    /// let priced = prices.price("new", &TokenCounts::default(), SystemTime::UNIX_EPOCH);
    /// assert_eq!(priced.and_then(|priced| priced.as_model).as_deref(), Some("dear"));
    /// assert_eq!(prices.rate("new", SystemTime::UNIX_EPOCH), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fallback(self, model: &str) -> Result<Self, UnlistedFallback> {
        let Some((model, _)) = self.models.get_key_value(model) else {
            return Err(UnlistedFallback {
                model: model.into(),
            });
        };
        let fallback = Some(Arc::clone(model));
        Ok(Self { fallback, ..self })
    }

    /// The rate of a model at a time, if it has one: that of a short prompt, and never that of another model.
    #[must_use]
    pub fn rate(&self, model: &str, at: SystemTime) -> Option<Rate> {
        self.terms(model, at).map(Terms::rate)
    }

    /// The rate of a call that was let in at a time and took these tokens: that of its model, and of the tier that its
    /// prompt is in; else that of the [`fallback`](Self::fallback), if there is one.
    ///
    /// A rate without a price for what is [cached for an hour](Rate::cache_write_1h) is none for a call that cached so,
    /// unless the list [lets in only what has a price](Self::unlisted_as_requested).
    #[must_use]
    pub fn price(&self, model: &str, tokens: &TokenCounts, at: SystemTime) -> Option<Priced> {
        let answer = self.price_answer(Some(model), None, None, tokens, at);
        Some(Priced {
            rate: answer.rate?,
            as_model: answer.as_model,
        })
    }

    /// The names of the models, in no order.
    pub fn models(&self) -> impl Iterator<Item = &Arc<str>> {
        self.models.keys()
    }

    /// What the list was made of: by model, and those of one model by the time from which on they hold.
    #[must_use]
    pub fn entries(&self) -> Vec<PriceEntry> {
        let mut models: Vec<_> = self.models.iter().collect();
        models.sort_unstable_by_key(|(model, _)| *model);
        let entries = models.into_iter().flat_map(|(model, dates)| {
            let dates = dates.iter().cloned();
            dates.map(|terms| PriceEntry::of(Arc::clone(model), terms))
        });
        entries.collect()
    }

    /// The model whose price others have, if they have one.
    #[must_use]
    pub const fn fallback_model(&self) -> Option<&Arc<str>> {
        self.fallback.as_ref()
    }

    fn terms(&self, model: &str, at: SystemTime) -> Option<&Terms> {
        let dates = self.models.get(model)?;
        dates.iter().rev().find(|terms| terms.from <= at)
    }
}

// === impl Prices ===

impl Prices {
    /// The list in force now.
    #[must_use]
    pub fn load(&self) -> Arc<PriceList> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another list in force. What is recorded keeps its price.
    pub fn store(&self, list: impl Into<Arc<PriceList>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = list.into();
    }
}

impl From<PriceList> for Prices {
    fn from(list: PriceList) -> Self {
        Self::from(Arc::new(list))
    }
}

impl From<Arc<PriceList>> for Prices {
    fn from(list: Arc<PriceList>) -> Self {
        Self(Arc::new(RwLock::new(list)))
    }
}

// === impl DuplicatePrice ===

impl DuplicatePrice {
    /// The model that has two.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }
}

// === impl UnlistedFallback ===

impl UnlistedFallback {
    /// The model without a price.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Price;

    fn price(text: &str) -> Price {
        text.parse().unwrap()
    }

    #[test]
    fn a_rate_begins_at_its_date() {
        let from = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let (old, new) = (
            Rate::new(price("1"), price("1")),
            Rate::new(price("2"), price("2")),
        );
        let later = PriceEntry::new("m", new).effective_from(from);
        let prices = PriceList::new([later.clone(), PriceEntry::new("m", old)]).unwrap();
        assert_eq!(prices.rate("m", from - Duration::from_millis(1)), Some(old));
        assert_eq!(prices.rate("m", from), Some(new));
        let prices = PriceList::new([later]).unwrap();
        assert_eq!(prices.rate("m", from - Duration::from_millis(1)), None);
    }

    #[test]
    fn a_list_says_what_it_was_made_of() {
        let rate = |amount: &str| Rate::new(price(amount), price(amount));
        let from = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let first = PriceEntry::new("b", rate("1"))
            .above(200, rate("2"))
            .in_service_tier("flex", 0, rate("3"));
        let later = PriceEntry::new("b", rate("4")).effective_from(from);
        let list = PriceList::new([later, first, PriceEntry::new("a", rate("5"))]).unwrap();
        let entries = list.entries();
        let told = entries
            .iter()
            .map(|entry| (&**entry.model(), entry.effective_since(), entry.rate()));
        assert_eq!(
            told.collect::<Vec<_>>(),
            [
                ("a", SystemTime::UNIX_EPOCH, rate("5")),
                ("b", SystemTime::UNIX_EPOCH, rate("1")),
                ("b", from, rate("4")),
            ]
        );
        let others: Vec<_> = entries[1].other_rates().collect();
        assert_eq!(
            others,
            [(None, 200, rate("2")), (Some("flex"), 0, rate("3"))]
        );
        let again = PriceList::new(entries.clone()).unwrap().entries();
        assert_eq!(format!("{again:?}"), format!("{entries:?}"));
    }

    #[test]
    fn an_unknown_model_has_no_price() {
        let prices =
            PriceList::new([PriceEntry::new("m", Rate::new(price("1"), price("1")))]).unwrap();
        for model in ["", "M", "m-mini", "m "] {
            assert_eq!(
                prices.rate(model, SystemTime::UNIX_EPOCH),
                None,
                "{model:?}"
            );
        }
    }

    #[test]
    fn refuses_two_rates_from_one_date() {
        let entry = PriceEntry::new("m", Rate::new(price("1"), price("1")));
        assert_eq!(
            PriceList::new([entry.clone(), entry]).unwrap_err().model(),
            "m"
        );
    }

    fn prompt(input: u64, cache_read: u64, cache_write: u64) -> TokenCounts {
        TokenCounts {
            input: Some(input),
            cache_read: Some(cache_read),
            cache_write: Some(cache_write),
            ..TokenCounts::default()
        }
    }

    #[test]
    fn a_long_prompt_has_the_rate_of_its_tier() {
        let [short, long, longest] =
            ["1", "2", "4"].map(|text| Rate::new(price(text), price(text)));
        let entry = PriceEntry::new("m", short)
            .above(500, longest)
            .above(200, short)
            .above(200, long);
        let prices = PriceList::new([entry]).unwrap();
        let mut answered = prompt(200, 0, 0);
        answered.output = Some(9_999);
        for (tokens, rate) in [
            (TokenCounts::default(), short),
            (answered, short),
            (prompt(201, 0, 0), long),
            (prompt(1, 100, 100), long),
            (prompt(500, 0, 0), long),
            (prompt(0, 501, 0), longest),
            (prompt(u64::MAX, u64::MAX, 1), longest),
        ] {
            let priced = prices.price("m", &tokens, SystemTime::UNIX_EPOCH).unwrap();
            assert_eq!((priced.rate, priced.as_model), (rate, None), "{tokens:?}");
        }
        assert_eq!(prices.rate("m", SystemTime::UNIX_EPOCH), Some(short));
    }

    #[test]
    fn d5_55_only_a_fallback_prices_what_is_not_listed_and_says_so() {
        let from = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let [own, dear] = ["1", "9"].map(|text| Rate::new(price(text), price(text)));
        let entries = [
            PriceEntry::new("m", own).effective_from(from),
            PriceEntry::new("dear", dear).effective_from(from),
        ];
        let exact = PriceList::new(entries).unwrap();
        assert_eq!(exact.price("new", &prompt(1, 0, 0), from), None);
        assert_eq!(
            exact.clone().fallback("new").unwrap_err().model(),
            "new",
            "what has no price cannot price others"
        );

        let prices = exact.fallback("dear").unwrap();
        let price = |model, at| prices.price(model, &prompt(1, 0, 0), at);
        let as_dear = Priced {
            rate: dear,
            as_model: Some("dear".into()),
        };
        assert_eq!(price("new", from), Some(as_dear));
        assert_eq!(
            price("m", from),
            Some(Priced {
                rate: own,
                as_model: None
            })
        );
        assert_eq!(price("dear", from).unwrap().as_model, None);
        let before = from - Duration::from_secs(1);
        assert_eq!(price("new", before), None, "the fallback had no price yet");
        assert_eq!(prices.rate("new", from), None, "stays exact");
    }
}
