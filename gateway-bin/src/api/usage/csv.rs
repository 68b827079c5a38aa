use std::fmt::Write;

use tower_usage::UsageRecord;

use crate::api::rfc3339;

/// The first line of a table (RFC 4180). What came later is at its end, for those who count columns.
pub(super) const HEADER: &str = "id,userId,operation,provider,model,requestedModel,sessionKey,runId,responseId,inputTokens,\
    outputTokens,cacheReadTokens,cacheWriteTokens,reasoningTokens,totalTokens,costUsd,inputPrice,outputPrice,cacheReadPrice,\
    cacheWritePrice,source,outcome,metadata,startedAt,endedAt,cacheWrite1hTokens,cacheWrite1hPrice\r\n";

/// Adds the line of a record.
pub(super) fn line(record: &UsageRecord, to: &mut String) {
    let tokens = &record.tokens;
    let number = |count: Option<u64>| count.map_or_else(String::new, |count| count.to_string());
    let rate = record.rate.as_ref();
    let price = |of: fn(&tower_usage::Rate) -> tower_usage::Price| {
        rate.map_or_else(String::new, |rate| of(rate).to_string())
    };
    let cells = [
        record.id.to_string(),
        text(&record.subject),
        record.operation.to_string(),
        optional(record.provider.as_deref()),
        optional(record.model.as_deref()),
        optional(record.requested_model.as_deref()),
        optional(record.session_key.as_deref()),
        optional(record.run_id.as_deref()),
        optional(record.response_id.as_deref()),
        number(tokens.input),
        number(tokens.output),
        number(tokens.cache_read),
        number(tokens.cache_write),
        number(tokens.reasoning),
        tokens.total().to_string(),
        record
            .cost
            .map_or_else(String::new, |cost| cost.to_string()),
        price(tower_usage::Rate::input_price),
        price(tower_usage::Rate::output_price),
        price(tower_usage::Rate::cache_read_price),
        price(tower_usage::Rate::cache_write_price),
        record.source.to_string(),
        record.outcome.to_string(),
        optional(record.metadata.as_deref()),
        rfc3339(record.admitted_at),
        rfc3339(record.ended_at),
        number(tokens.cache_write_1h),
        rate.and_then(tower_usage::Rate::cache_write_1h_price)
            .map_or_else(String::new, |price| price.to_string()),
    ];
    for (n, cell) in cells.iter().enumerate() {
        let comma = if n == 0 { "" } else { "," };
        // A string takes everything.
        let _ = write!(to, "{comma}{cell}");
    }
    to.push_str("\r\n");
}

fn optional(cell: Option<&str>) -> String {
    cell.map_or_else(String::new, text)
}

/// A text as a cell. What a spreadsheet would take for a formula is put behind an apostrophe (OWASP, "CSV Injection"): an
/// issuer says what people are called, and a provider what answers are.
fn text(cell: &str) -> String {
    let is_formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let shown = match is_formula {
        true => format!("'{cell}"),
        false => cell.to_owned(),
    };
    match shown.contains([',', '"', '\r', '\n']) {
        true => format!("\"{}\"", shown.replace('"', "\"\"")),
        false => shown,
    }
}

#[cfg(test)]
mod tests {
    use tower_usage::{NanoUsd, Operation};

    use super::*;

    #[test]
    fn a_line_has_as_many_cells_as_the_header() {
        let mut record = UsageRecord::new("alice".into(), Operation::ModelCall);
        record.cost = Some(NanoUsd::from_nanos(75));
        record.tokens.input = Some(0);
        let mut csv = String::new();
        line(&record, &mut csv);
        assert_eq!(csv.matches(',').count(), HEADER.matches(',').count());
        assert!(csv.contains(",model_call,") && csv.ends_with("\r\n"));
        assert!(csv.contains(",0.000000075,") && csv.contains(",,0,,"));
    }

    #[test]
    fn a_text_is_one_cell_and_no_formula() {
        for (cell, shown) in [
            ("alice", "alice"),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            ("=1+1", "'=1+1"),
            ("-rf", "'-rf"),
            ("@x,", "\"'@x,\""),
        ] {
            assert_eq!(text(cell), shown);
        }
    }
}
