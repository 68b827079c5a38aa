use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, PoisonError, RwLock},
    time::SystemTime,
};

use crate::Rate;

/// Rates by model, each in force from its date on.
///
/// Immutable; a server that reloads its prices makes a new one. A model that is not listed has no price, and is never
/// priced as another.
#[derive(Clone, Debug, Default)]
pub struct PriceList {
    models: HashMap<Arc<str>, Vec<(SystemTime, Rate)>>,
}

/// The [`PriceList`] in force. Clones share it, and see at once when it is exchanged.
#[derive(Clone, Debug, Default)]
pub struct Prices(Arc<RwLock<Arc<PriceList>>>);

/// One line of a [`PriceList`].
#[derive(Clone, Debug)]
pub struct PriceEntry {
    model: Arc<str>,
    from: SystemTime,
    rate: Rate,
}

/// A model was given two rates from the same date.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("two prices of {model} begin at the same time")]
pub struct DuplicatePrice {
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
        for PriceEntry { model, from, rate } in entries {
            let rates = match models.entry(model) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(Vec::with_capacity(1)),
            };
            rates.push((from, rate));
        }
        for (model, rates) in &mut models {
            rates.sort_by_key(|(from, _)| *from);
            let twice = rates
                .windows(2)
                .any(|pair| matches!(pair, [a, b] if a.0 == b.0));
            if twice {
                return Err(DuplicatePrice {
                    model: Arc::clone(model),
                });
            }
        }
        Ok(Self { models })
    }

    /// The rate of a model at a time, if it has one.
    #[must_use]
    pub fn rate(&self, model: &str, at: SystemTime) -> Option<Rate> {
        let rates = self.models.get(model)?;
        rates
            .iter()
            .rev()
            .find(|(from, _)| *from <= at)
            .map(|(_, rate)| *rate)
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

// === impl PriceEntry ===

impl PriceEntry {
    /// The rate of a model since ever.
    pub fn new(model: impl Into<Arc<str>>, rate: Rate) -> Self {
        Self {
            model: model.into(),
            from: SystemTime::UNIX_EPOCH,
            rate,
        }
    }

    /// The rate holds from this time on, until a later entry of the model begins.
    #[must_use]
    pub fn effective_from(self, from: SystemTime) -> Self {
        Self { from, ..self }
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
}
