//! When what was not taken is sent again.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::RETRY_AFTER;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// The longest wait after a first failure; it doubles with each further one.
const FIRST: Duration = Duration::from_secs(5);

/// The longest wait of all, also if the receiver asks for a longer one.
const LONGEST: Duration = Duration::from_secs(3_600);

/// The forms of a date in a header, all of which are to be understood (RFC 9110 §5.6.7).
const DATES: [&str; 3] = [
    "%a, %d %b %Y %H:%M:%S GMT",
    "%A, %d-%b-%y %H:%M:%S GMT",
    "%a %b %e %H:%M:%S %Y",
];

/// How long to wait after this many failures, of which there was one at least: between half and the whole of a time that
/// doubles, by `random`, so that what failed together does not come again together; or as long as the receiver has asked.
pub(super) fn wait(failures: u32, random: u8, asked: Option<Duration>) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let whole = FIRST.saturating_mul(1 << doublings).min(LONGEST);
    let half = whole / 2;
    let wait = half + half * u32::from(random) / u32::from(u8::MAX);
    wait.max(asked.unwrap_or_default().min(LONGEST))
}

/// How long a receiver asks to be left alone: seconds or a date in `Retry-After` (RFC 9110 §10.2.3).
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More than a number holds is longer than any wait.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = DATES
        .iter()
        .find_map(|form| DateTime::strptime(form, value).ok())?;
    let at = TimeZone::UTC.to_timestamp(date).ok()?;
    SystemTime::from(at).duration_since(now).ok()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn waits_double_up_to_an_hour() {
        for (failures, seconds) in [(1, 5), (2, 10), (3, 20), (10, 2_560), (11, 3_600)] {
            let whole = Duration::from_secs(seconds);
            assert_eq!(wait(failures, u8::MAX, None), whole, "{failures}");
            assert_eq!(wait(failures, 0, None), whole / 2, "{failures}");
        }
    }

    proptest! {
        #[test]
        fn a_wait_is_never_nothing_nor_longer_than_an_hour(
            failures in any::<u32>(), random in any::<u8>(), asked in any::<Option<u64>>(),
        ) {
            let asked = asked.map(Duration::from_secs);
            let wait = wait(failures, random, asked);
            prop_assert!((FIRST / 2..=LONGEST).contains(&wait), "{wait:?}");
            prop_assert!(wait >= asked.unwrap_or_default().min(LONGEST));
        }

        #[test]
        fn what_a_receiver_writes_is_read_or_left(value in "[ -~]*") {
            if let Ok(value) = HeaderValue::from_str(&value) {
                let headers = HeaderMap::from_iter([(RETRY_AFTER, value)]);
                let _ = retry_after(&headers, UNIX_EPOCH);
            }
        }
    }

    #[test]
    fn a_receiver_asks_in_seconds_or_by_a_date() {
        // 1994-11-06T08:49:37Z, the date of RFC 9110 §5.6.7.
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777 - 30);
        for (value, asked) in [
            ("30", Some(30)),
            ("0", Some(0)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(30)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(30)),
            ("Sun Nov  6 08:49:37 1994", Some(30)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", None),
            ("-30", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))]);
            let seconds = retry_after(&headers, now).map(|asked| asked.as_secs());
            assert_eq!(seconds, asked, "{value}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
