//! What the ledger has of the calls of the SDKs.

use gateway_tests::{
    ledger::{Recorded, price, record_of},
    provider::{Api, ModelCall, Tokens},
};

/// Without what may be unknown, being part of the output.
fn classes(mut tokens: Tokens) -> Tokens {
    tokens.reasoning = 0;
    tokens
}

/// Each record is what the provider bills for its call, and together they are what it bills somebody.
pub(crate) fn compare(calls: &[ModelCall], rows: &[Recorded]) {
    let (mut guessed, mut unbilled) = (0, 0);
    for call in calls.iter().filter(|call| call.status == 200) {
        let row = record_of(call, rows);
        let row = row.unwrap_or_else(|| panic!("no record of {call:?}: {rows:#?}"));
        let provider = if call.api == Api::Messages {
            "anthropic"
        } else {
            "openai"
        };
        assert_eq!(row.provider.as_deref(), Some(provider), "{call:?}");
        if row.source == "exact" {
            assert_eq!(
                classes(row.tokens),
                classes(call.tokens()),
                "{call:?} {row:?}"
            );
            // Part of the output, so that it may be unknown.
            let reasoning = row.reasoning.unwrap_or(call.reasoning_tokens);
            assert_eq!(reasoning, call.reasoning_tokens, "{call:?} {row:?}");
            assert_eq!(row.total, call.tokens().total(), "{call:?} {row:?}");
            assert_eq!(row.nano_usd, Some(price(row.tokens)), "{call:?} {row:?}");
            assert!(call.finished, "{call:?} {row:?}");
        } else {
            // It was not read to its end.
            assert!(!call.finished, "{call:?} {row:?}");
            assert_eq!(
                (row.source.as_str(), row.outcome.as_str()),
                ("estimated", "aborted")
            );
            guessed += row.total;
            unbilled += call.tokens().total();
        }
    }
    let failures = calls.iter().filter(|call| call.status != 200).count();
    let failed: Vec<_> = rows.iter().filter(|row| row.outcome == "failed").collect();
    assert_eq!(failed.len(), failures, "{failed:#?}");
    assert!(failed.iter().all(|row| row.total == 0), "{failed:#?}");
    let left = calls
        .iter()
        .filter(|call| call.last_user.contains("-aborted:"))
        .count();
    let aborted = rows.iter().filter(|row| row.outcome == "aborted").count();
    assert_eq!(aborted, left, "{rows:#?}");

    let billed: Tokens = calls.iter().map(ModelCall::tokens).sum();
    let total: u64 = rows.iter().map(|row| row.total).sum();
    assert_eq!(total - guessed, billed.total() - unbilled);
    if guessed == 0 {
        let cost: u64 = rows.iter().filter_map(|row| row.nano_usd).sum();
        assert_eq!(cost, price(billed));
    }
}
