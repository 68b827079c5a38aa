//! Prices from a `model_prices` file: exactly what is written, or nothing at all and why.
#![cfg(feature = "import")]
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may fail"
)]

use std::{error::Error, fmt::Write as _, time::SystemTime};

use proptest::prelude::*;
use tower_usage::{Import, ImportError, Operation, PriceList, Rate, TokenCounts, UsageRecord};

/// In the form of the file as it is kept, with each thing that occurs in it once.
const FILE: &str = r#"{
    "sample_spec": {
        "input_cost_per_token": 0.0,
        "max_tokens": "LEGACY parameter",
        "litellm_provider": "one of https://docs.litellm.ai/docs/providers",
        "search_context_cost_per_query": {"search_context_size_high": 0.0}
    },
    "1024-x-1024/dall-e-2": {
        "input_cost_per_pixel": 1.9e-08,
        "litellm_provider": "openai",
        "mode": "image_generation",
        "output_cost_per_pixel": 0.0
    },
    "claude-sonnet-4-20250514": {
        "cache_creation_input_token_cost": 3.75e-06,
        "cache_creation_input_token_cost_above_1hr": 6e-06,
        "cache_creation_input_token_cost_above_1hr_above_200k_tokens": 1.2e-05,
        "cache_creation_input_token_cost_above_200k_tokens": 7.5e-06,
        "cache_read_input_token_cost": 3e-07,
        "cache_read_input_token_cost_above_200k_tokens": 6e-07,
        "input_cost_per_token": 3e-06,
        "input_cost_per_token_above_200k_tokens": 6e-06,
        "litellm_provider": "anthropic",
        "mode": "chat",
        "output_cost_per_token": 1.5e-05,
        "output_cost_per_token_above_200k_tokens": 2.25e-05,
        "search_context_cost_per_query": {"search_context_size_high": 0.01}
    },
    "gpt-4o": {"cache_read_input_token_cost": 1.25e-06, "input_cost_per_token": 2.5e-06,
        "input_cost_per_token_batches": 1.25e-06, "input_cost_per_audio_token": null,
        "output_cost_per_token": 1e-05, "output_cost_per_reasoning_token": 1e-05},
    "azure/gpt-4o": {"input_cost_per_token": "2.75e-06", "output_cost_per_token": 0.000011},
    "text-embedding-3-small": {"input_cost_per_token": 2e-08, "mode": "embedding", "output_cost_per_token": null},
    "ollama/llama2": {"input_cost_per_token": 0.0, "litellm_provider": "ollama", "output_cost_per_token": 0.0},
    "whisper-1": {"input_cost_per_second": 0.0001, "output_cost_per_second": 0.0001},
    "by-image": {"input_cost_per_token": 0.0, "output_cost_per_token": 0, "output_cost_per_image": 0.04},
    "qwen-plus": {"tiered_pricing": [{"input_cost_per_token": 5e-08, "range": [0, 256000.0]}]},
    "thinker": {"input_cost_per_token": 2.9999999999999997e-07, "output_cost_per_token": 1e-06,
        "output_cost_per_reasoning_token": 3e-06}
}"#;

fn list(import: Import) -> PriceList {
    PriceList::new(import.entries).unwrap()
}

fn rate(input: &str, output: &str) -> Rate {
    Rate::new(input.parse().unwrap(), output.parse().unwrap())
}

fn prompt(tokens: u64) -> TokenCounts {
    let mut counts = TokenCounts::default();
    counts.input = Some(tokens);
    counts
}

/// A file with one model, whose members these are, on the second line.
fn one(members: &str) -> Result<Import, ImportError> {
    Import::read(&format!("{{\n\"m\": {{{members}}}\n}}"))
}

#[test]
fn d5_55_amounts_are_what_is_written_to_the_nano_usd() {
    let import = Import::read(FILE).unwrap();
    assert_eq!((import.entries.len(), import.left_out), (6, 4));
    let names: Vec<_> = import
        .entries
        .iter()
        .map(|entry| &**entry.model())
        .collect();
    assert_eq!(names[..2], ["claude-sonnet-4-20250514", "gpt-4o"]);
    let prices = list(import);
    for (model, expected) in [
        (
            "gpt-4o",
            Some(rate("2.50", "10.00").cache_read("1.25".parse().unwrap())),
        ),
        ("azure/gpt-4o", Some(rate("2.75", "11.00"))),
        ("text-embedding-3-small", Some(rate("0.02", "0.00"))),
        ("ollama/llama2", Some(rate("0.00", "0.00"))),
        ("thinker", Some(rate("0.30", "1.00"))),
        ("by-image", None),
        ("whisper-1", None),
        ("qwen-plus", None),
        ("sample_spec", None),
        ("4o", None),
    ] {
        assert_eq!(
            prices.rate(model, SystemTime::UNIX_EPOCH),
            expected,
            "{model}"
        );
    }
}

#[test]
fn a_long_prompt_has_its_own_prices() {
    let prices = list(Import::read(FILE).unwrap());
    let price = |tokens| {
        let priced = prices.price(
            "claude-sonnet-4-20250514",
            &prompt(tokens),
            SystemTime::UNIX_EPOCH,
        );
        priced.unwrap().rate
    };
    let short = rate("3", "15")
        .cache_read("0.30".parse().unwrap())
        .cache_write("3.75".parse().unwrap())
        .cache_write_1h("6".parse().unwrap());
    let long = rate("6", "22.50")
        .cache_read("0.60".parse().unwrap())
        .cache_write("7.50".parse().unwrap())
        .cache_write_1h("12".parse().unwrap());
    assert_eq!((price(200_000), price(200_001)), (short, long));

    let import = one(
        r#""input_cost_per_token":1e-6,"output_cost_per_token":2e-6,"input_cost_per_token_above_128000_tokens":3e-6"#,
    );
    let prices = list(import.unwrap());
    let priced = prices.price("m", &prompt(128_001), SystemTime::UNIX_EPOCH);
    assert_eq!(
        priced.unwrap().rate,
        rate("3", "2"),
        "what a tier does not say is as below"
    );
}

#[test]
fn d5_55_no_price_for_an_hour_is_invented() {
    let rate_above = |members: &str| {
        let base = r#""input_cost_per_token":1e-6,"output_cost_per_token":2e-6"#;
        let prices = list(one(&format!("{base},{members}")).unwrap());
        let priced = prices.price("m", &prompt(300_000), SystemTime::UNIX_EPOCH);
        priced.unwrap().rate.cache_write_1h_price()
    };
    let hour = r#""cache_creation_input_token_cost_above_1hr":2e-6"#;
    let price = |text: &str| Some(text.parse().unwrap());
    assert_eq!(
        rate_above(r#""cache_creation_input_token_cost":1e-6"#),
        None
    );
    assert_eq!(rate_above(hour), price("2"));
    let long_input = r#""input_cost_per_token_above_200k_tokens":2e-6"#;
    assert_eq!(rate_above(&format!("{hour},{long_input}")), price("2"));
    let long_write = r#""cache_creation_input_token_cost_above_200k_tokens":2e-6"#;
    assert_eq!(rate_above(&format!("{hour},{long_write}")), None);
    let long_hour = r#""cache_creation_input_token_cost_above_1hr_above_200k_tokens":4e-6"#;
    let all = format!("{hour},{long_write},{long_hour}");
    assert_eq!(rate_above(&all), price("4"));
}

#[test]
fn d5_55_calls_in_a_tier_have_its_prices_if_it_has_all() {
    let priced = |members: &str, tier: &str, input: u64| {
        let base = r#""input_cost_per_token":2e-6,"cache_read_input_token_cost":2e-7,"output_cost_per_token":4e-6"#;
        let import = one(&format!("{base},{members}")).unwrap();
        let unapplied = import.unapplied.len();
        let mut record = UsageRecord::new("alice".into(), Operation::ModelCall);
        record.model = Some("m".into());
        record.tokens.input = Some(input);
        record.metadata = Some(format!(r#"{{"service_tier":"{tier}"}}"#).into());
        record.price(&list(import));
        let marked = record.metadata.unwrap().contains("tier_unpriced");
        let input = record.rate.unwrap().input_price().to_string();
        (input, marked, unapplied)
    };
    let flex = r#""input_cost_per_token_flex":1e-6,"output_cost_per_token_flex":2e-6,"cache_read_input_token_cost_flex":1e-7"#;
    let told = |input: &str, marked, unapplied| (input.to_owned(), marked, unapplied);
    assert_eq!(priced(flex, "flex", 9), told("1.00", false, 0));
    assert_eq!(priced(flex, "priority", 9), told("2.00", true, 0));
    let long = r#""input_cost_per_token_above_272k_tokens":8e-6"#;
    let long = format!("{flex},{long}");
    assert_eq!(priced(&long, "flex", 272_000), told("1.00", false, 0));
    assert_eq!(priced(&long, "flex", 272_001), told("8.00", true, 0));
    let long = format!(r#"{long},"input_cost_per_token_above_272k_tokens_flex":3e-6"#);
    assert_eq!(priced(&long, "flex", 272_001), told("3.00", false, 0));
    let half = r#""input_cost_per_token_priority":9e-6,"output_cost_per_token_priority":9e-6"#;
    assert_eq!(priced(half, "priority", 9), told("2.00", true, 2));
}

#[test]
fn costs_that_are_not_applied_are_told() {
    let import = Import::read(FILE).unwrap();
    let told: Vec<_> = import
        .unapplied
        .iter()
        .map(|cost| (&*cost.model, &*cost.member))
        .collect();
    assert_eq!(
        told,
        [
            ("1024-x-1024/dall-e-2", "input_cost_per_pixel"),
            ("claude-sonnet-4-20250514", "search_context_cost_per_query"),
            ("gpt-4o", "input_cost_per_token_batches"),
            ("whisper-1", "input_cost_per_second"),
            ("whisper-1", "output_cost_per_second"),
            ("by-image", "output_cost_per_image"),
            ("qwen-plus", "tiered_pricing"),
            ("thinker", "output_cost_per_reasoning_token"),
        ]
    );
}

#[test]
fn d5_49_a_price_that_cannot_be_is_refused_with_its_line_model_and_member() {
    for (value, why) in [
        ("-1e-06", "negative"),
        ("-1", "negative"),
        ("-0.0", "negative"),
        ("\"-3e-6\"", "negative"),
        ("\"NaN\"", "not a decimal amount"),
        ("\"Infinity\"", "not a decimal amount"),
        ("\"\"", "not a decimal amount"),
        ("\"", "not a decimal amount"),
        ("\"2.5e-06 USD\"", "not a decimal amount"),
        ("true", "not a decimal amount"),
        ("{}", "not a decimal amount"),
        ("[1e-06]", "not a decimal amount"),
        ("1e400", "out of range"),
        ("20000", "out of range"),
        ("1e-17", "more than nine decimals"),
    ] {
        for member in [
            "input_cost_per_token",
            "output_cost_per_token",
            "cache_read_input_token_cost",
            "cache_creation_input_token_cost",
            "cache_creation_input_token_cost_above_1hr",
            "input_cost_per_token_priority",
            "output_cost_per_token_above_200k_tokens",
        ] {
            let file = format!(
                "{{\n\n  \"good\": {{\"input_cost_per_token\": 1e-06}},\n  \"m\\u0031\": {{\n    \"mode\": \"chat\",\n    \"{member}\": {value}\n  }}\n}}"
            );
            let error = Import::read(&file).unwrap_err();
            if value == "\"" {
                assert_eq!((error.line(), error.model()), (6, Some("m1")));
                continue;
            }
            assert_eq!(error.line(), 6, "{value}");
            assert_eq!(error.model(), Some("m1"));
            assert_eq!(error.member(), Some(member));
            assert_eq!(
                error.to_string(),
                format!(
                    "line 6 of the price file: model \"m1\": {member:?}: not the price of a token"
                )
            );
            assert_eq!(error.source().unwrap().to_string(), why, "{value}");
        }
    }
}

#[test]
fn d5_49_what_is_not_a_file_of_models_is_refused_whole() {
    for (file, line, model) in [
        ("", 1, None),
        ("[]", 1, None),
        ("{\n\"m\": {}\n", 3, None),
        ("{\n\"m\": {}\n}\n{}", 4, None),
        ("{\n\"m\": [1]\n}", 2, Some("m")),
        ("{\n\"m\": null\n}", 2, Some("m")),
        // As Python writes what is no JSON.
        (
            "{\"a\": {},\n\"m\": {\n\"input_cost_per_token\": NaN}}",
            3,
            Some("m"),
        ),
        (
            "{\"a\": {},\n\"m\": {\n\"input_cost_per_token\": -Infinity}}",
            3,
            Some("m"),
        ),
        ("{\"m\": {},\n\"m\": {}}", 2, Some("m")),
        ("{\"m\": {},\n\"\\u006d\": {}}", 2, Some("m")),
        ("{\"m\":\n{\"mode\": 1,\n\"mode\": 2}}", 3, Some("m")),
        (
            "{\"m\":\n{\"input_cost_per_token\": 1,\n\"input_cost_per\\u005ftoken\": 2}}",
            3,
            Some("m"),
        ),
    ] {
        let error = Import::read(file).unwrap_err();
        assert_eq!(
            (error.line(), error.model()),
            (line, model),
            "{file}: {error}"
        );
        assert!(!error.to_string().contains('\n'));
    }
    let import = Import::read("{}").unwrap();
    assert_eq!((import.entries.len(), import.left_out), (0, 0));
}

#[test]
fn what_nests_without_end_costs_little() {
    let deep = "[".repeat(1 << 20);
    let import = one(&format!(r#""x": {deep}{}"#, "]".repeat(1 << 20)));
    assert_eq!(import.unwrap().left_out, 1);
    assert!(one(&format!(r#""x": {deep}"#)).is_err());
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,80}", members in "[\"a-z_{}:,0-9.e\\-]{0,60}") {
        let _ = Import::read(&text);
        let _ = one(&members);
    }

    #[test]
    fn every_price_of_a_price_list_comes_back(nanos in prop::collection::vec(any::<u64>(), 1..20)) {
        let mut file = "{".to_owned();
        for (n, nanos) in nanos.iter().enumerate() {
            let comma = if n > 0 { "," } else { "" };
            // Dollars per token: fifteen places.
            let (whole, part) = (nanos / 10_u64.pow(15), nanos % 10_u64.pow(15));
            write!(file, "{comma}\"{n}\":{{\"input_cost_per_token\":{whole}.{part:015},\"output_cost_per_token\":{nanos}e-15}}").unwrap();
        }
        file.push('}');
        let prices = list(Import::read(&file).unwrap());
        for (n, nanos) in nanos.iter().enumerate() {
            let rate = prices.rate(&n.to_string(), SystemTime::UNIX_EPOCH).unwrap();
            prop_assert_eq!(rate.input_price().as_nanos_per_million(), *nanos);
            prop_assert_eq!(rate.output_price(), rate.input_price());
        }
    }
}
