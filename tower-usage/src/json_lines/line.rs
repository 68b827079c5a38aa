use std::{io, sync::Arc, time::SystemTime};

use serde::Serialize;
use serde_json::value::RawValue;

use crate::{Rate, UsageRecord};

/// A record as it is written.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    id: String,
    user_id: &'a str,
    operation: &'static str,
    provider: &'a Option<Arc<str>>,
    model: &'a Option<Arc<str>>,
    requested_model: &'a Option<Arc<str>>,
    session_key: &'a Option<Arc<str>>,
    run_id: &'a Option<Arc<str>>,
    response_id: &'a Option<Arc<str>>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
    #[serde(rename = "cacheWrite1hTokens")]
    cache_write_1h_tokens: Option<u64>,
    reasoning_tokens: Option<u64>,
    total_tokens: u64,
    cost: Option<String>,
    price: Option<Price>,
    source: &'static str,
    outcome: &'static str,
    metadata: Option<Metadata>,
    started_at: String,
    ended_at: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Price {
    input: String,
    output: String,
    cache_read: String,
    cache_write: String,
    #[serde(rename = "cacheWrite1h")]
    cache_write_1h: Option<String>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Metadata {
    Json(Box<RawValue>),
    /// Of somebody who did not make it JSON.
    Text(String),
}

/// Appends the line of a record.
pub(super) fn write(record: &UsageRecord, lines: &mut Vec<u8>) -> io::Result<()> {
    let tokens = &record.tokens;
    let line = Line {
        id: record.id.to_string(),
        user_id: &record.subject,
        operation: record.operation.as_str(),
        provider: &record.provider,
        model: &record.model,
        requested_model: &record.requested_model,
        session_key: &record.session_key,
        run_id: &record.run_id,
        response_id: &record.response_id,
        input_tokens: tokens.input,
        output_tokens: tokens.output,
        cache_read_tokens: tokens.cache_read,
        cache_write_tokens: tokens.cache_write,
        cache_write_1h_tokens: tokens.cache_write_1h,
        reasoning_tokens: tokens.reasoning,
        total_tokens: tokens.total(),
        cost: record.cost.map(|cost| cost.to_string()),
        price: record.rate.map(Price::of),
        source: record.source.as_str(),
        outcome: record.outcome.as_str(),
        metadata: record.metadata.as_deref().map(Metadata::of),
        started_at: rfc3339(record.admitted_at),
        ended_at: rfc3339(record.ended_at),
    };
    serde_json::to_writer(&mut *lines, &line)?;
    lines.push(b'\n');
    Ok(())
}

// === impl Price ===

impl Price {
    fn of(rate: Rate) -> Self {
        Self {
            input: rate.input_price().to_string(),
            output: rate.output_price().to_string(),
            cache_read: rate.cache_read_price().to_string(),
            cache_write: rate.cache_write_price().to_string(),
            cache_write_1h: rate.cache_write_1h_price().map(|price| price.to_string()),
        }
    }
}

// === impl Metadata ===

impl Metadata {
    fn of(text: &str) -> Self {
        // Within JSON, line breaks are between its parts only: RFC 8259, sections 2 and 7.
        let line = text.replace(['\r', '\n'], " ");
        match serde_json::from_str(&line) {
            Ok(json) => Self::Json(json),
            Err(_) => Self::Text(text.to_owned()),
        }
    }
}

/// The time in UTC, to the millisecond: RFC 3339, whose years are 0000 to 9999.
fn rfc3339(time: SystemTime) -> String {
    /// Milliseconds of the first and the last time that can be written.
    const WRITABLE: (i64, i64) = (-62_167_219_200_000, 253_402_300_799_999);
    let millis = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => {
            let nanos = before.duration().as_nanos();
            i64::try_from(nanos.div_ceil(1_000_000)).map_or(i64::MIN, |millis| -millis)
        }
    };
    let millis = millis.clamp(WRITABLE.0, WRITABLE.1);
    let (days, of_day) = (millis.div_euclid(86_400_000), millis.rem_euclid(86_400_000));
    // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days: years begin in March, so that the
    // day of a leap year is the last one.
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let months = (5 * of_year + 2) / 153;
    let day = of_year - (153 * months + 2) / 5 + 1;
    let month = if months < 10 { months + 3 } else { months - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (seconds, millis) = (of_day / 1_000, of_day % 1_000);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::{NanoUsd, Operation, Outcome, Source};

    fn at(seconds: i64, millis: u64) -> SystemTime {
        let distance = Duration::from_secs(seconds.unsigned_abs());
        let time = if seconds < 0 {
            SystemTime::UNIX_EPOCH - distance
        } else {
            SystemTime::UNIX_EPOCH + distance
        };
        time + Duration::from_millis(millis)
    }

    #[test]
    fn writes_times_as_rfc_3339() {
        for (seconds, millis, text) in [
            (0, 0, "1970-01-01T00:00:00.000Z"),
            (-1, 999, "1969-12-31T23:59:59.999Z"),
            (951_827_696, 5, "2000-02-29T12:34:56.005Z"),
            (1_709_251_199, 0, "2024-02-29T23:59:59.000Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799, 999, "9999-12-31T23:59:59.999Z"),
            (253_402_300_800, 0, "9999-12-31T23:59:59.999Z"),
            (-62_167_219_200, 0, "0000-01-01T00:00:00.000Z"),
            (-62_167_219_201, 0, "0000-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(at(seconds, millis)), text);
        }
    }

    #[test]
    fn a_line_says_all_that_is_known() {
        let mut record = UsageRecord::new("al\"ice\n".into(), Operation::ModelCall);
        record.admitted_at = at(86_400, 1);
        record.ended_at = at(86_401, 0);
        let mut lines = Vec::new();
        write(&record, &mut lines).unwrap();
        record.provider = Some("p".into());
        record.model = Some("m".into());
        record.requested_model = Some("r".into());
        record.session_key = Some("s".into());
        record.run_id = Some("run".into());
        record.response_id = Some("res".into());
        record.tokens.input = Some(1);
        record.tokens.output = Some(2);
        record.tokens.cache_read = Some(0);
        record.tokens.cache_write = Some(4);
        record.tokens.cache_write_1h = Some(3);
        record.tokens.reasoning = Some(1);
        record.cost = Some(NanoUsd::from_nanos(75));
        let rate = Rate::new("1".parse().unwrap(), "2.5".parse().unwrap());
        record.rate = Some(rate.cache_write_1h("2".parse().unwrap()));
        record.source = Source::Estimated;
        record.outcome = Outcome::Aborted;
        record.metadata = Some("{\r\n\"status\": 500}".into());
        record.settle_ref = Some("secret ticket".into());
        write(&record, &mut lines).unwrap();
        let text = String::from_utf8(lines).unwrap();
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let id = record.id.to_string();
        assert_eq!(
            lines,
            [
                json!({
                    "id": id, "userId": "al\"ice\n", "operation": "model_call", "provider": null, "model": null,
                    "requestedModel": null, "sessionKey": null, "runId": null, "responseId": null, "inputTokens": null,
                    "outputTokens": null, "cacheReadTokens": null, "cacheWriteTokens": null,
                    "cacheWrite1hTokens": null, "reasoningTokens": null,
                    "totalTokens": 0, "cost": null, "price": null, "source": "exact", "outcome": "complete",
                    "metadata": null, "startedAt": "1970-01-02T00:00:00.001Z", "endedAt": "1970-01-02T00:00:01.000Z",
                }),
                json!({
                    "id": id, "userId": "al\"ice\n", "operation": "model_call", "provider": "p", "model": "m",
                    "requestedModel": "r", "sessionKey": "s", "runId": "run", "responseId": "res", "inputTokens": 1,
                    "outputTokens": 2, "cacheReadTokens": 0, "cacheWriteTokens": 4,
                    "cacheWrite1hTokens": 3, "reasoningTokens": 1,
                    "totalTokens": 7, "cost": "0.000000075",
                    "price": {"input": "1.00", "output": "2.50", "cacheRead": "1.00", "cacheWrite": "1.00", "cacheWrite1h": "2.00"},
                    "source": "estimated", "outcome": "aborted", "metadata": {"status": 500},
                    "startedAt": "1970-01-02T00:00:00.001Z", "endedAt": "1970-01-02T00:00:01.000Z",
                }),
            ]
        );
    }

    proptest! {
        #[test]
        fn whatever_a_record_says_is_one_line(user in any::<String>(), metadata in "[\"{}a:\\r\\n\\\\]{0,12}|\\PC{0,20}") {
            let mut record = UsageRecord::new(user.as_str().into(), Operation::Run);
            record.metadata = Some(metadata.into());
            let mut line = Vec::new();
            write(&record, &mut line).unwrap();
            prop_assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            let line: Value = serde_json::from_slice(&line).unwrap();
            prop_assert_eq!(&line["userId"], &json!(user));
        }
    }
}
