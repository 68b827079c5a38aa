use std::{fmt, str::FromStr};

const NANOS: u64 = 1_000_000_000;

/// An amount of money in billionths of a US dollar.
///
/// An `i64` of them reaches ±9.2 billion dollars. Shown and read as exact decimal dollars.
///
/// # Examples
///
/// ```
/// # use tower_usage::NanoUsd;
/// let fee: NanoUsd = "0.000000075".parse()?;
/// assert_eq!(fee, NanoUsd::from_nanos(75));
/// assert_eq!(NanoUsd::from_nanos(3_000_000_000).to_string(), "3.00");
/// # Ok::<(), tower_usage::AmountError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct NanoUsd(i64);

/// Why a text is not an amount of money.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AmountError {
    /// Not digits with at most one decimal point, as `12`, `0.5` or `-3.25`.
    #[error("not a decimal amount")]
    Malformed,
    /// More than nine decimals, which would have to be rounded.
    #[error("more than nine decimals")]
    TooPrecise,
    /// Larger than the type holds.
    #[error("out of range")]
    OutOfRange,
    /// A negative amount where there can be none.
    #[error("negative")]
    Negative,
}

// === impl NanoUsd ===

impl NanoUsd {
    /// No money.
    pub const ZERO: Self = Self(0);

    /// This many billionths of a dollar.
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// The amount in billionths of a dollar.
    #[must_use]
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// The sum, or `None` if it does not fit.
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(nanos) => Some(Self(nanos)),
            None => None,
        }
    }

    /// The sum, at most the largest amount.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for NanoUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 0 {
            f.write_str("-")?;
        }
        write_nanos(self.0.unsigned_abs(), f)
    }
}

impl FromStr for NanoUsd {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let nanos = i128::from(parse_nanos(digits)?);
        let signed = if negative { -nanos } else { nanos };
        i64::try_from(signed)
            .map(Self)
            .map_err(|_| AmountError::OutOfRange)
    }
}

/// Writes billionths as a decimal with two to nine places.
pub(crate) fn write_nanos(nanos: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (whole, mut part) = (nanos / NANOS, nanos % NANOS);
    let mut places = 9;
    while places > 2 && part % 10 == 0 {
        part /= 10;
        places -= 1;
    }
    write!(f, "{whole}.{part:0places$}")
}

/// Reads an unsigned decimal with at most nine places, exactly.
pub(crate) fn parse_nanos(text: &str) -> Result<u64, AmountError> {
    let (whole, part) = match text.split_once('.') {
        Some((_, "")) => return Err(AmountError::Malformed),
        Some((whole, part)) => (whole, part),
        None => (text, ""),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) {
        return Err(AmountError::Malformed);
    }
    let part = part.trim_end_matches('0');
    if part.len() > 9 {
        return Err(AmountError::TooPrecise);
    }
    let places = u32::try_from(part.len()).map_err(|_| AmountError::TooPrecise)?;
    let part = match part {
        "" => 0,
        part => part.parse::<u64>().map_err(|_| AmountError::Malformed)?,
    };
    whole
        .parse::<u64>()
        .ok()
        .and_then(|whole| whole.checked_mul(NANOS))
        .and_then(|whole| whole.checked_add(part * 10_u64.pow(9 - places)))
        .ok_or(AmountError::OutOfRange)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shows_two_to_nine_decimals() {
        for (nanos, text) in [
            (0, "0.00"),
            (75, "0.000000075"),
            (1_500_000_000, "1.50"),
            (-2_250_000_000, "-2.25"),
            (i64::MAX, "9223372036.854775807"),
            (i64::MIN, "-9223372036.854775808"),
        ] {
            assert_eq!(NanoUsd::from_nanos(nanos).to_string(), text);
            assert_eq!(text.parse(), Ok(NanoUsd::from_nanos(nanos)));
        }
    }

    #[test]
    fn refuses_what_is_not_an_exact_decimal() {
        for text in [
            "", ".", "1.", ".5", "+1", "1e3", "NaN", "inf", " 1", "1,5", "--1", "0x1", "1.2.3", "١",
        ] {
            assert_eq!(
                text.parse::<NanoUsd>(),
                Err(AmountError::Malformed),
                "{text:?}"
            );
        }
        assert_eq!(
            "0.0000000001".parse::<NanoUsd>(),
            Err(AmountError::TooPrecise)
        );
        assert_eq!(
            "9223372036.854775808".parse::<NanoUsd>(),
            Err(AmountError::OutOfRange)
        );
        assert_eq!(
            "99999999999999999999999".parse::<NanoUsd>(),
            Err(AmountError::OutOfRange)
        );
    }

    #[test]
    fn reads_zeros_beyond_the_ninth_place() {
        assert_eq!(
            "1.0000000000000".parse(),
            Ok(NanoUsd::from_nanos(1_000_000_000))
        );
    }

    proptest! {
        #[test]
        fn reads_back_what_it_shows(nanos: i64) {
            let amount = NanoUsd::from_nanos(nanos);
            prop_assert_eq!(amount.to_string().parse(), Ok(amount));
        }
    }
}
