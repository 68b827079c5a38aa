use std::fmt;
use std::str::FromStr;

use serde_json::{Value, json};
use tower_quota::{Dimension, Window};
use tower_usage::NanoUsd;

/// A limit as an operator names it: `tokens/day`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct LimitName {
    pub(super) dimension: Dimension,
    pub(super) window: Window,
}

// === impl LimitName ===

impl LimitName {
    /// Reads an amount, as the API takes it: money as a decimal of dollars, all else as a number.
    ///
    /// # Errors
    ///
    /// The form that it must have.
    pub(super) fn amount(self, text: &str) -> Result<Value, String> {
        let (read, form) = match self.dimension {
            Dimension::Cost => (
                text.parse::<NanoUsd>()
                    .ok()
                    .filter(|amount| *amount >= NanoUsd::ZERO)
                    .map(|amount| json!(amount.to_string())),
                "US dollars that are not negative, with at most nine decimals, like 100.00",
            ),
            _ => (
                Some(text)
                    .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
                    .and_then(|text| text.parse::<i64>().ok())
                    .map(|amount| json!(amount)),
                "a whole number from 0 to 9223372036854775807",
            ),
        };
        read.ok_or_else(|| format!("`{text}` must be {form}"))
    }
}

impl FromStr for LimitName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (dimension, window) = text.split_once('/').unwrap_or((text, ""));
        let dimension = Dimension::ALL
            .into_iter()
            .find(|known| known.as_str() == dimension);
        let window = Window::ALL
            .into_iter()
            .find(|known| known.as_str() == window);
        match (dimension, window) {
            (Some(dimension), Some(window)) => Ok(Self { dimension, window }),
            _ => Err(format!(
                "`{text}` must be tokens, cost or calls, a slash, and minute, hour, day or month, like tokens/day"
            )),
        }
    }
}

impl fmt::Display for LimitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.dimension, self.window)
    }
}
