//! What models cost, as this gateway has read it last.

use std::time::SystemTime;

use axum::Json;
use axum::extract::State;
use serde_json::{Map, Value, json};
use tower_usage::{PriceEntry, Rate};

use super::{Api, rfc3339};

/// `GET /api/admin/prices`: the price list in force, in US dollars per million tokens; of one model there are several where
/// it is going to cost something else, or did. `from` is null where it is since ever.
pub(super) async fn list(State(api): State<Api>) -> Json<Value> {
    let list = api.prices.load();
    let prices: Vec<Value> = list.entries().iter().map(shown).collect();
    Json(json!({ "prices": prices, "fallback": list.fallback_model() }))
}

fn shown(entry: &PriceEntry) -> Value {
    let since = entry.effective_since();
    let mut price = rate(entry.rate());
    let others = entry.other_rates().map(|(tier, above, other)| {
        let mut other = rate(other);
        other.insert("serviceTier".to_owned(), json!(tier));
        other.insert("abovePromptTokens".to_owned(), json!(above));
        Value::Object(other)
    });
    let others: Vec<Value> = others.collect();
    price.insert("model".to_owned(), json!(entry.model()));
    price.insert(
        "from".to_owned(),
        json!((since > SystemTime::UNIX_EPOCH).then(|| rfc3339(since))),
    );
    price.insert("otherRates".to_owned(), others.into());
    price.into()
}

fn rate(rate: Rate) -> Map<String, Value> {
    let members = [
        ("input", Some(rate.input_price())),
        ("output", Some(rate.output_price())),
        ("cacheRead", Some(rate.cache_read_price())),
        ("cacheWrite", Some(rate.cache_write_price())),
        ("cacheWrite1h", rate.cache_write_1h_price()),
    ];
    let members = members.map(|(name, price)| {
        let price = price.map(|price| price.to_string());
        (name.to_owned(), json!(price))
    });
    members.into_iter().collect()
}
