//! What models cost, as this gateway has read it last.

use std::time::SystemTime;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use tower_usage::{PriceEntry, PriceList, Rate};
use utoipa::ToSchema;

use super::{Api, rfc3339};

#[derive(Serialize, ToSchema)]
pub(crate) struct ModelPrices {
    prices: Vec<ModelPrice>,
    /// The model whose price all others have.
    fallback: Option<String>,
}

/// What a model costs, from a time on.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ModelPrice {
    model: String,
    /// Null: since ever.
    #[schema(format = DateTime)]
    from: Option<String>,
    rate: ShownRate,
    /// Of long prompts, and in tiers of service.
    other_rates: Vec<OtherRate>,
}

/// US dollars per million tokens.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ShownRate {
    input: String,
    output: String,
    cache_read: String,
    cache_write: String,
    /// Null: there is none.
    #[serde(rename = "cacheWrite1h")]
    cache_write_1h: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct OtherRate {
    /// As the provider calls it; null: in none.
    service_tier: Option<String>,
    above_prompt_tokens: u64,
    rate: ShownRate,
}

/// The price list in force.
#[utoipa::path(
    get,
    path = "/api/admin/prices",
    responses((
        status = OK,
        body = ModelPrices,
        description = "by model; of one there are several where it is going to cost something else, or did"
    ))
)]
pub(super) async fn list(State(api): State<Api>) -> Json<ModelPrices> {
    Json(all(&api.prices.load()))
}

/// A price list as it is shown.
pub(crate) fn all(list: &PriceList) -> ModelPrices {
    ModelPrices {
        prices: list.entries().iter().map(shown).collect(),
        fallback: list.fallback_model().map(ToString::to_string),
    }
}

fn shown(entry: &PriceEntry) -> ModelPrice {
    let since = entry.effective_since();
    let others = entry.other_rates().map(|(tier, above, other)| OtherRate {
        service_tier: tier.map(str::to_owned),
        above_prompt_tokens: above,
        rate: rate(other),
    });
    ModelPrice {
        model: entry.model().to_string(),
        from: (since > SystemTime::UNIX_EPOCH).then(|| rfc3339(since)),
        rate: rate(entry.rate()),
        other_rates: others.collect(),
    }
}

fn rate(rate: Rate) -> ShownRate {
    ShownRate {
        input: rate.input_price().to_string(),
        output: rate.output_price().to_string(),
        cache_read: rate.cache_read_price().to_string(),
        cache_write: rate.cache_write_price().to_string(),
        cache_write_1h: rate.cache_write_1h_price().map(|price| price.to_string()),
    }
}
