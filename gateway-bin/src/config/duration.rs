//! Durations as an operator writes them.

use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error};

/// Reads `"90s"`, `"30m"`, `"12h"` or `"7d"`.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).ok_or_else(|| D::Error::custom(FORM))
}

/// Reads the same, or `"0"`, which is none.
pub(super) fn deserialize_or_none<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    match parse(&text) {
        None if text != "0" => Err(D::Error::custom(format!("{FORM}, or \"0\" for none"))),
        parsed => Ok(parsed),
    }
}

/// How a duration is written.
pub(crate) const FORM: &str =
    "must be a whole number above zero with a unit, like \"90s\", \"30m\", \"12h\" or \"7d\"";

/// Reads what is written in that form.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let unit = match text.chars().next_back()? {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    let digits = text.get(..text.len().checked_sub(1)?)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // A hundred years are for ever, and far from where arithmetic with times ends.
    let seconds = digits.parse::<u64>().ok()?.checked_mul(unit)?;
    (1..=100 * 366 * 86_400)
        .contains(&seconds)
        .then(|| Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_number_and_a_unit() {
        for (text, seconds) in [
            ("90s", 90),
            ("30m", 1_800),
            ("12h", 43_200),
            ("7d", 604_800),
        ] {
            assert_eq!(parse(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "12",
            "h",
            "0s",
            "-1h",
            "+1h",
            "1.5h",
            "1 h",
            "1w",
            "99999999999d",
            "18446744073709551615d",
            "1ä",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
