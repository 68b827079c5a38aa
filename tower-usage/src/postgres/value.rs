//! Values as Postgres has them.

use std::{borrow::Cow, error::Error, time::SystemTime};

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

use crate::sqlite::row::{millis, time};

/// A text, in which Postgres has no place for NUL.
#[derive(Debug)]
pub(crate) struct Text<'a>(pub(crate) &'a str);

/// A time, to the millisecond.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Moment(pub(super) SystemTime);

/// What is meant to be the text of a JSON object.
#[derive(Debug)]
pub(super) struct Json<'a>(pub(super) &'a str);

type BoxError = Box<dyn Error + Sync + Send>;

/// 2000-01-01 in milliseconds since 1970: the epoch of a `timestamptz`, which counts microseconds.
const EPOCH: i64 = 946_684_800_000;

/// The first and the last millisecond that a `timestamptz` has, since 2000: 4714-11-24 BC and the end of 294276
/// (PostgreSQL documentation, "Date/Time Types").
const FIRST: i64 = -210_866_803_200_000;
const LAST: i64 = 9_223_371_331_199_999;

// === impl Text ===

impl ToSql for Text<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, BoxError> {
        out.put_slice(without_nul(self.0).as_bytes());
        Ok(IsNull::No)
    }

    accepts!(TEXT);
    to_sql_checked!();
}

fn without_nul(text: &str) -> Cow<'_, str> {
    match text.contains('\0') {
        true => text.replace('\0', "\u{fffd}").into(),
        false => text.into(),
    }
}

// === impl Moment ===

impl ToSql for Moment {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, BoxError> {
        let since = millis(self.0).saturating_sub(EPOCH).clamp(FIRST, LAST);
        out.put_i64(since.saturating_mul(1_000));
        Ok(IsNull::No)
    }

    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}

impl FromSql<'_> for Moment {
    fn from_sql(_: &Type, raw: &[u8]) -> Result<Self, BoxError> {
        let since = i64::from_be_bytes(raw.try_into()?);
        // What others store may be more exact.
        Ok(Self(time(since.div_euclid(1_000).saturating_add(EPOCH))))
    }

    accepts!(TIMESTAMPTZ);
}

// === impl Json ===

impl ToSql for Json<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, BoxError> {
        // The version of the format.
        out.put_u8(1);
        out.put_slice(storable(self.0).as_bytes());
        Ok(IsNull::No)
    }

    accepts!(JSONB);
    to_sql_checked!();
}

/// The text itself if Postgres keeps it, which is pickier than JSON: no NUL, no surrogate alone, no boundless number.
fn storable(text: &str) -> Cow<'_, str> {
    let is_json = serde_json::from_str::<serde_json::Value>(text).is_ok();
    match is_json && !text.contains("\\u0000") {
        true => text.into(),
        false => serde_json::json!({ "text": without_nul(text) })
            .to_string()
            .into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stored(moment: Moment) -> Moment {
        let mut out = BytesMut::new();
        let _ = moment.to_sql(&Type::TIMESTAMPTZ, &mut out).unwrap();
        Moment::from_sql(&Type::TIMESTAMPTZ, &out).unwrap()
    }

    #[test]
    fn the_wildest_times_are_stored_as_the_last_there_are() {
        for (wild, kept) in [
            (i64::MIN, FIRST + EPOCH),
            (i64::MAX, LAST + EPOCH),
            (FIRST + EPOCH, FIRST + EPOCH),
            (0, 0),
        ] {
            assert_eq!(millis(stored(Moment(time(wild))).0), kept, "{wild}");
        }
    }

    #[test]
    fn what_is_no_json_for_postgres_is_the_text_of_an_object() {
        for text in [
            "",
            "{",
            "a\0b",
            r#"{"a":"\u0000"}"#,
            r#"{"a":"\ud800"}"#,
            r#"{"a":1e400}"#,
            &"[".repeat(100_000),
        ] {
            let kept: serde_json::Value = serde_json::from_str(&storable(text)).unwrap();
            assert_eq!(kept["text"].as_str(), Some(&*without_nul(text)));
        }
        assert_eq!(storable(r#"{"status": 429}"#), r#"{"status": 429}"#);
    }

    proptest! {
        #[test]
        fn a_time_is_read_back(millis_ in -62_135_596_800_000_i64..253_402_300_800_000) {
            prop_assert_eq!(stored(Moment(time(millis_))), Moment(time(millis_)));
        }
    }
}
