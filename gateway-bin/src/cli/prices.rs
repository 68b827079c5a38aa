//! `gateway prices …`: what models cost, on the gateway's own host.

use clap::{Args, Subcommand};
use http::Method;
use serde::Deserialize;
use serde_json::Value;

use super::operate::{OperateError, Reach, Table, print, printable, read};
use crate::operator::{ClientError, OperatorClient};

/// Shows what models cost, at a gateway that runs on this host.
#[derive(Debug, Args)]
pub(super) struct Prices {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The price list in force, in US dollars per million tokens.
    ///
    /// It is changed in the configuration file, and read again at SIGHUP. What was recorded without a price gets one by
    /// `gateway usage reprice`.
    #[command(after_help = "Example: gateway prices list --model gpt-5")]
    List(List),
}

#[derive(Debug, Args)]
struct List {
    /// Of this model alone.
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Answer {
    prices: Vec<Price>,
    fallback: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Price {
    model: String,
    from: Option<String>,
    rate: Rate,
    other_rates: Vec<OtherRate>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rate {
    input: String,
    output: String,
    cache_read: String,
    cache_write: String,
    cache_write_1h: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OtherRate {
    service_tier: Option<String>,
    above_prompt_tokens: u64,
    rate: Rate,
}

// === impl Prices ===

impl Prices {
    /// Asks, and prints the answer.
    pub(super) async fn run(self) -> Result<(), OperateError> {
        let client = OperatorClient::new(self.reach.socket()?);
        let What::List(List { model }) = self.what;
        let path = "/api/admin/prices";
        let mut answer = client.request(Method::GET, path, None).await?;
        let prices = answer.get_mut("prices").and_then(Value::as_array_mut);
        if let (Some(model), Some(prices)) = (&model, prices) {
            prices.retain(|price| price.get("model").and_then(Value::as_str) == Some(model));
            if prices.is_empty() {
                let message = format!("--model {model}: has no price");
                return Err(OperateError::Argument(printable(&message)));
            }
        }
        print(self.reach.json, answer, shown)
    }
}

fn shown(answer: Value) -> Result<String, ClientError> {
    let Answer { prices, fallback } = read(answer)?;
    if prices.is_empty() {
        return Ok("no model has a price\n".to_owned());
    }
    let mut table = Table::new([
        "MODEL",
        "FROM",
        "CALLS",
        "INPUT",
        "OUTPUT",
        "CACHE READ",
        "CACHE WRITE",
        "FOR AN HOUR",
    ]);
    for price in prices {
        let from = price.from.unwrap_or_else(|| "-".to_owned());
        let others = price.other_rates.into_iter().map(|other| {
            let calls = match (&other.service_tier, other.above_prompt_tokens) {
                (Some(tier), 0) => tier.clone(),
                (Some(tier), above) => format!("{tier}, above {above} tokens"),
                (None, above) => format!("above {above} tokens"),
            };
            (calls, other.rate)
        });
        let all = std::iter::once(("all".to_owned(), price.rate)).chain(others);
        for (calls, rate) in all {
            table.row([
                price.model.clone(),
                from.clone(),
                calls,
                rate.input,
                rate.output,
                rate.cache_read,
                rate.cache_write,
                rate.cache_write_1h.unwrap_or_else(|| "-".to_owned()),
            ]);
        }
    }
    let mut text = table.to_string();
    if let Some(fallback) = fallback {
        text += &format!(
            "\nevery other model costs what {} does\n",
            printable(&fallback)
        );
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_rate_has_a_line() {
        let rate = json!({"input": "3.00", "output": "15.00", "cacheRead": "0.30", "cacheWrite": "3.75", "cacheWrite1h": null});
        let other = json!({"serviceTier": "flex", "abovePromptTokens": 200_000, "rate": rate});
        let price = json!({"model": "m", "from": null, "rate": rate, "otherRates": [other]});
        let shown = shown(json!({ "prices": [price], "fallback": "m" })).unwrap();
        let lines: Vec<_> = shown.lines().collect();
        assert!(lines[1].starts_with("m      -     all"), "{shown}");
        assert!(lines[2].contains("flex, above 200000 tokens"), "{shown}");
        assert_eq!(lines[4], "every other model costs what m does");
    }
}
