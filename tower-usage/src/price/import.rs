use std::{
    collections::{BTreeMap, HashSet},
    error::Error,
    fmt,
    sync::Arc,
};

use serde_json::value::RawValue;

use super::{decimal::scaled, object::Object};
use crate::{AmountError, Price, PriceEntry, Rate};

/// From dollars per token to nano-USD per million tokens, a power of ten.
const TO_PRICE: i64 = 15;

/// Not a price of ours, but that of what is generated if it is the same.
const REASONING: &str = "output_cost_per_reasoning_token";

/// What the file has among its models to explain itself.
const SAMPLE: &str = "sample_spec";

/// What a `model_prices` file says: the list of models that LiteLLM keeps as `model_prices_and_context_window.json`,
/// and others take over.
///
/// Amounts are read from their decimal text, never as floating point numbers: `2.5e-06` dollars per token is 2.50
/// dollars for a million to the nano-USD. What is finer than a nano-USD for a million tokens, which binary fractions in
/// such files are (`2.9999999999999997e-07`), is rounded half to even; a price that this would make zero is refused.
///
/// - A price that is missing or `null` is zero for input and output, and that of input for cached tokens; what is cached
///   for an hour (`…_above_1hr`) then has none: [`Rate::cache_write_1h`].
/// - `…_above_200k_tokens` is the price of a whole call with a longer prompt: [`PriceEntry::above`].
/// - `…_flex` and `…_priority` are prices of calls in that tier: [`PriceEntry::in_service_tier`]. A tier that lacks one of
///   the prices which the model has otherwise is not applied.
/// - Names are taken as they are. `azure/gpt-4o` is not `gpt-4o`, and a provider answers with names of its own: use
///   [`PriceEntry::model`] and [`PriceEntry::named`] to have an entry under another name too.
///
/// # Examples
///
/// Everything from the file, but for what is priced by hand:
///
/// ```
/// # use std::time::SystemTime;
/// # use tower_usage::{Import, PriceEntry, PriceList, Rate};
/// let file = r#"{
///     "gpt-4o": {"input_cost_per_token": 2.5e-06, "output_cost_per_token": 1e-05, "mode": "chat"},
///     "azure/gpt-4o": {"input_cost_per_token": 2.75e-06, "output_cost_per_token": 1.1e-05},
///     "dall-e-3": {"output_cost_per_image": 0.04, "mode": "image_generation"}
/// }"#;
/// let mut import = Import::read(file)?;
/// assert_eq!((import.entries.len(), import.left_out), (2, 1));
///
/// let by_hand = PriceEntry::new("gpt-4o", Rate::new("2.00".parse()?, "8.00".parse()?));
/// import.entries.retain(|entry| entry.model() != by_hand.model());
/// import.entries.push(by_hand);
/// let prices = PriceList::new(import.entries)?;
/// let rate = |model| prices.rate(model, SystemTime::UNIX_EPOCH).map(|rate| rate.input_price().to_string());
/// assert_eq!(rate("gpt-4o").as_deref(), Some("2.00"));
/// assert_eq!(rate("azure/gpt-4o").as_deref(), Some("2.75"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Import {
    /// The models with prices for tokens, since ever, in the order of the file.
    pub entries: Vec<PriceEntry>,
    /// How many models have none, and are not among the entries: those paid by image, second or page, and those
    /// without any price.
    pub left_out: usize,
    /// Costs in the file that are no part of the entries, such as those of sound or of batches. Calls that make
    /// such costs are priced without them.
    pub unapplied: Vec<Unapplied>,
}

/// A cost in the file that is not applied.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Unapplied {
    /// The model, which may be one that is left out.
    pub model: Arc<str>,
    /// The name of the cost.
    pub member: Arc<str>,
}

/// Why a file was not imported: not any of it.
#[derive(Debug)]
pub struct ImportError {
    line: usize,
    model: Option<Box<str>>,
    member: Option<Box<str>>,
    problem: Problem,
}

#[derive(Debug)]
enum Problem {
    Json(serde_json::Error),
    Entry(serde_json::Error),
    Twice,
    Amount(AmountError),
}

/// The prices of one model above so many prompt tokens.
#[derive(Clone, Copy, Default)]
struct Tier {
    input: Option<Price>,
    output: Option<Price>,
    cache_read: Option<Price>,
    cache_write: Option<Price>,
    cache_write_1h: Option<Price>,
}

/// One of the prices of a tier.
type PriceOf = fn(&mut Tier) -> &mut Option<Price>;

/// The tiers that providers serve in at other prices, and how the names of these end.
const SERVICES: [(&str, &str); 2] = [("flex", "_flex"), ("priority", "_priority")];

/// Where in the file something is.
#[derive(Clone, Copy)]
struct Place<'a> {
    text: &'a str,
    model: &'a str,
}

// === impl Import ===

impl Import {
    /// Reads the text of a file.
    ///
    /// # Errors
    ///
    /// [`ImportError`] if it is not JSON, or not an object of objects; if a model, or a member of a model, is in it
    /// twice; if a price that would be applied is negative, no finite number, or larger or smaller than a [`Price`] can
    /// be.
    pub fn read(text: &str) -> Result<Self, ImportError> {
        let mut import = Self {
            entries: Vec::new(),
            left_out: 0,
            unapplied: Vec::new(),
        };
        let mut models = Object::default();
        let mut json = serde_json::Deserializer::from_str(text);
        let read = models.read(&mut json).and_then(|()| json.end());
        read.map_err(|error| ImportError {
            line: error.line(),
            model: models.unread.take().map(|model| model.into()),
            member: None,
            problem: Problem::Json(error),
        })?;
        let mut seen = HashSet::with_capacity(models.members.len());
        for (model, entry) in &models.members {
            let place = Place { text, model };
            if !seen.insert(model) {
                return Err(place.error(entry, None, Problem::Twice));
            }
            if model != SAMPLE {
                import.add(place, entry)?;
            }
        }
        Ok(import)
    }

    fn add(&mut self, place: Place<'_>, entry: &RawValue) -> Result<(), ImportError> {
        let mut object = Object::default();
        object
            .read(entry)
            .map_err(|error| place.error(entry, None, Problem::Entry(error)))?;
        let mut tiers: BTreeMap<u64, Tier> = BTreeMap::new();
        let mut in_service: BTreeMap<(&str, u64), (Tier, Vec<_>)> = BTreeMap::new();
        let mut unapplied = Vec::new();
        let mut seen = HashSet::with_capacity(object.members.len());
        for (member, value) in &object.members {
            if !seen.insert(member) {
                return Err(place.error(value, Some(member), Problem::Twice));
            }
            if let Some((price, above, service)) = applied(member) {
                let amount = amount(value)
                    .map_err(|error| place.error(value, Some(member), Problem::Amount(error)))?;
                let tier = match service {
                    None => tiers.entry(above).or_default(),
                    Some(service) => {
                        let (tier, members) = in_service.entry((service, above)).or_default();
                        members.push((member, value));
                        tier
                    }
                };
                *price(tier) = amount;
            } else if is_cost(member, value) {
                unapplied.push((member, value));
            }
        }
        let mut services = Vec::new();
        for ((service, above), (tier, members)) in &in_service {
            let otherwise = tiers.get(above).copied().unwrap_or_default();
            let below = in_service.get(&(service, 0)).map(|(tier, _)| *tier);
            if tier.says_all_of(otherwise) && below.is_some() {
                services.push((*service, *above, tier.rate(below.unwrap_or_default())));
            } else {
                unapplied.extend_from_slice(members);
            }
        }
        let base = tiers.remove(&0).unwrap_or_default();
        // Reasoning is part of what is generated.
        unapplied.retain(|(member, value)| {
            *member != REASONING || amount(value).ok().flatten() != base.output
        });
        // What is free by the token and costs something else is not free.
        let priced = match base.input.max(base.output) {
            Some(price) => price != Price::FREE || unapplied.is_empty(),
            None => false,
        };
        let model: Arc<str> = place.model.into();
        self.unapplied
            .extend(unapplied.into_iter().map(|(member, _)| Unapplied {
                model: Arc::clone(&model),
                member: (**member).into(),
            }));
        if !priced {
            self.left_out += 1;
            return Ok(());
        }
        let entry = PriceEntry::new(model, base.rate(Tier::default()));
        let entry = tiers.into_iter().fold(entry, |entry, (above, tier)| {
            entry.above(above, tier.rate(base))
        });
        let entry = services
            .into_iter()
            .fold(entry, |entry, (service, above, rate)| {
                entry.in_service_tier(service, above, rate)
            });
        self.entries.push(entry);
        Ok(())
    }
}

/// Which price of which tier a member is, above how many tokens and in which service, if it is one that is applied.
fn applied(member: &str) -> Option<(PriceOf, u64, Option<&'static str>)> {
    const PRICES: [(&str, PriceOf); 5] = [
        ("input_cost_per_token", |tier| &mut tier.input),
        ("output_cost_per_token", |tier| &mut tier.output),
        ("cache_read_input_token_cost", |tier| &mut tier.cache_read),
        ("cache_creation_input_token_cost", |tier| {
            &mut tier.cache_write
        }),
        ("cache_creation_input_token_cost_above_1hr", |tier| {
            &mut tier.cache_write_1h
        }),
    ];
    let mut services = SERVICES.into_iter();
    let service = services.find_map(|(service, end)| Some((service, member.strip_suffix(end)?)));
    let (service, member) = match service {
        Some((service, member)) => (Some(service), member),
        None => (None, member),
    };
    let mut prices = PRICES.into_iter();
    prices.find_map(|(name, price)| match member.strip_prefix(name)? {
        "" => Some((price, 0, service)),
        tier => {
            let above = tier.strip_prefix("_above_")?.strip_suffix("_tokens")?;
            let above = match above.strip_suffix('k') {
                Some(thousands) => thousands.parse::<u64>().ok()?.checked_mul(1_000)?,
                None => above.parse().ok()?,
            };
            (above > 0).then_some((price, above, service))
        }
    })
}

/// Whether the member is a cost other than none.
fn is_cost(member: &str, value: &RawValue) -> bool {
    let named = member.contains("cost") || member == "tiered_pricing";
    named && !matches!(amount(value), Ok(None | Some(Price::FREE)))
}

/// A price, written as a number or as the text of one.
fn amount(value: &RawValue) -> Result<Option<Price>, AmountError> {
    let text = value.get();
    if text == "null" {
        return Ok(None);
    }
    let quoted = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    scaled(quoted.unwrap_or(text), TO_PRICE).map(|nanos| Some(Price::from_nanos_per_million(nanos)))
}

// === impl Tier ===

impl Tier {
    /// With what it does not say itself taken from the tier below.
    fn rate(self, below: Self) -> Rate {
        let input = self.input.or(below.input).unwrap_or(Price::FREE);
        let mut rate = Rate::new(input, self.output.or(below.output).unwrap_or(Price::FREE));
        if let Some(price) = self.cache_read.or(below.cache_read) {
            rate = rate.cache_read(price);
        }
        if let Some(price) = self.cache_write.or(below.cache_write) {
            rate = rate.cache_write(price);
        }
        // What is written at another price is not written for an hour at that of below.
        let below = below.cache_write_1h.filter(|_| self.cache_write.is_none());
        match self.cache_write_1h.or(below) {
            Some(price) => rate.cache_write_1h(price),
            None => rate,
        }
    }

    /// Whether it has a price wherever another has.
    fn says_all_of(&self, other: Self) -> bool {
        let prices = |tier: &Self| {
            let Self {
                input,
                output,
                cache_read,
                cache_write,
                cache_write_1h,
            } = *tier;
            [input, output, cache_read, cache_write, cache_write_1h]
        };
        let mut both = prices(self).into_iter().zip(prices(&other));
        both.all(|(own, other)| own.is_some() || other.is_none())
    }
}

// === impl Place ===

impl Place<'_> {
    /// What is wrong with a value of the file, which is a part of its text.
    fn error(self, value: &RawValue, member: Option<&str>, problem: Problem) -> ImportError {
        let begin = self.text.as_ptr().addr();
        let offset = value.get().as_ptr().addr().wrapping_sub(begin);
        let before = self.text.as_bytes().get(..offset).unwrap_or_default();
        ImportError {
            line: 1 + before.iter().filter(|byte| **byte == b'\n').count(),
            model: Some(self.model.into()),
            member: member.map(Into::into),
            problem,
        }
    }
}

// === impl ImportError ===

impl ImportError {
    /// The line of the file, from one on.
    #[must_use]
    pub const fn line(&self) -> usize {
        self.line
    }

    /// The model, where it could be read.
    #[must_use]
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// The member of the model, where it is one that is wrong.
    #[must_use]
    pub fn member(&self) -> Option<&str> {
        self.member.as_deref()
    }
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} of the price file: ", self.line)?;
        if let Some(model) = &self.model {
            write!(f, "model {model:?}: ")?;
        }
        if let Some(member) = &self.member {
            write!(f, "{member:?}: ")?;
        }
        f.write_str(match self.problem {
            Problem::Json(_) => "not the JSON of an object",
            Problem::Entry(_) => "not an object",
            Problem::Twice => "is there twice",
            Problem::Amount(_) => "not the price of a token",
        })
    }
}

impl Error for ImportError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.problem {
            Problem::Json(error) | Problem::Entry(error) => Some(error),
            Problem::Amount(error) => Some(error),
            Problem::Twice => None,
        }
    }
}
