use crate::AmountError;

/// Digits of the largest `u64`.
const MOST_DIGITS: usize = 20;

/// Reads a decimal as JSON writes numbers (`2.5e-06`), times ten to this power, exactly but for what is beyond the
/// point then: that is rounded half to even. A price that is not zero does not become zero.
pub(super) fn scaled(text: &str, power: i64) -> Result<u64, AmountError> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, read_exponent(exponent)?),
        None => (text, 0),
    };
    let (whole, part) = match mantissa.split_once('.') {
        Some((_, "")) => return Err(AmountError::Malformed),
        Some(parts) => parts,
        None => (mantissa, ""),
    };
    if whole.is_empty() || !is_digits(whole) || !is_digits(part) {
        return Err(AmountError::Malformed);
    }
    if negative {
        return Err(AmountError::Negative);
    }
    let digits = [whole, part].concat();
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Ok(0);
    }
    // How many of the digits are before the point.
    let places = |text: &str| i64::try_from(text.len()).unwrap_or(i64::MAX);
    let before = places(digits)
        .saturating_sub(places(part))
        .saturating_add(power)
        .saturating_add(exponent);
    let Ok(before) = usize::try_from(before) else {
        // 0.0…: less than a tenth.
        return Err(AmountError::TooPrecise);
    };
    if before > MOST_DIGITS {
        return Err(AmountError::OutOfRange);
    }
    let (kept, cut) = digits.split_at_checked(before).unwrap_or((digits, ""));
    let zeros = u32::try_from(before - kept.len()).map_err(|_| AmountError::OutOfRange)?;
    let kept = match kept {
        "" => 0,
        kept => kept.parse::<u64>().map_err(|_| AmountError::OutOfRange)?,
    };
    let scaled = kept
        .checked_mul(10_u64.pow(zeros.min(MOST_DIGITS as u32 - 1)))
        .ok_or(AmountError::OutOfRange)?;
    let up = match cut.split_at_checked(1) {
        Some(("5", rest)) => scaled % 2 == 1 || rest.bytes().any(|digit| digit != b'0'),
        Some((first, _)) => first > "5",
        None => false,
    };
    match scaled.checked_add(u64::from(up)) {
        Some(0) => Err(AmountError::TooPrecise),
        Some(scaled) => Ok(scaled),
        None => Err(AmountError::OutOfRange),
    }
}

/// One that is beyond all reason is as good as any other such.
fn read_exponent(text: &str) -> Result<i64, AmountError> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.is_empty() || !is_digits(digits) {
        return Err(AmountError::Malformed);
    }
    let exponent = digits.parse().unwrap_or(i64::MAX / 2);
    Ok(if negative { -exponent } else { exponent })
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_files_have_exactly() {
        for (text, nanos) in [
            ("2.5e-06", 2_500_000_000),
            ("1e-07", 100_000_000),
            ("7.5E-8", 75_000_000),
            ("5.46875e-07", 546_875_000),
            ("0.0000025", 2_500_000_000),
            ("0.000015", 15_000_000_000),
            ("1", 1_000_000_000_000_000),
            ("1e+0", 1_000_000_000_000_000),
            ("0.0", 0),
            ("0e-999999999999999999999999", 0),
            ("0E+99999999999999999999", 0),
            ("1e-15", 1),
            ("18446.744073709551615", u64::MAX),
            ("18446744073709551615e-15", u64::MAX),
            // What a binary float makes of 3e-07.
            ("2.9999999999999997e-07", 300_000_000),
            ("1.0000000000000001e-07", 100_000_000),
        ] {
            assert_eq!(scaled(text, 15), Ok(nanos), "{text}");
        }
    }

    #[test]
    fn rounds_half_to_even_and_never_to_nothing() {
        for (text, nanos) in [
            ("1.5", 2),
            ("2.5", 2),
            ("2.50", 2),
            ("2.500000000000000000000000000000000001", 3),
            ("2.4999999999999999999999999999999999999", 2),
            ("3.5", 4),
            ("0.51", 1),
            ("9.9", 10),
            ("99.5e0", 100),
        ] {
            assert_eq!(scaled(text, 0), Ok(nanos), "{text}");
        }
        for text in [
            "0.5",
            "0.4",
            "0.05",
            "1e-1000",
            "1e-99999999999999999999999",
        ] {
            assert_eq!(scaled(text, 0), Err(AmountError::TooPrecise), "{text}");
        }
    }

    #[test]
    fn d5_49_refuses_what_is_no_price() {
        for text in [
            "",
            "-",
            ".",
            "1.",
            ".5",
            "+1",
            "e5",
            "1e",
            "1e+",
            "1e1.5",
            "1e5e5",
            "NaN",
            "-NaN",
            "nan",
            "Infinity",
            "-Infinity",
            "inf",
            " 1",
            "1 ",
            "1,5",
            "--1",
            "0x1",
            "1.2.3",
            "١",
            "1_0",
            "$1",
        ] {
            assert_eq!(scaled(text, 15), Err(AmountError::Malformed), "{text:?}");
        }
        for text in ["-1", "-0", "-1e-06", "-1e999"] {
            assert_eq!(scaled(text, 15), Err(AmountError::Negative), "{text:?}");
        }
        for text in [
            "18446.744073709551616",
            "18446.7440737095516155",
            "1e5",
            "1e400",
            "1e99999999999999999999",
        ] {
            assert_eq!(scaled(text, 15), Err(AmountError::OutOfRange), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_whole_numbers(mantissa in 0_u64..1 << 50, point in 0_usize..16, exponent in -20_i64..20) {
            let digits = format!("{mantissa:017}");
            let (whole, part) = digits.split_at(digits.len() - point);
            let dot = if part.is_empty() { "" } else { "." };
            let text = format!("{whole}{dot}{part}e{exponent}");
            let power = exponent + 15 - i64::try_from(point).unwrap();
            let mantissa = u128::from(mantissa);
            let exact = if power >= 0 {
                10_u128.checked_pow(power.try_into().unwrap()).and_then(|ten| mantissa.checked_mul(ten))
            } else {
                let ten = 10_u128.pow((-power).try_into().unwrap());
                let (whole, rest) = (mantissa / ten, mantissa % ten);
                let up = rest * 2 > ten || (rest * 2 == ten && whole % 2 == 1);
                Some(whole + u128::from(up))
            };
            let expected = match exact.and_then(|exact| u64::try_from(exact).ok()) {
                Some(0) if mantissa > 0 => Err(AmountError::TooPrecise),
                Some(nanos) => Ok(nanos),
                None => Err(AmountError::OutOfRange),
            };
            prop_assert_eq!(scaled(&text, 15), expected, "{}", text);
        }

        #[test]
        fn no_text_panics(text in "[-+0-9.eE]{0,40}|\\PC{0,20}", power in -30_i64..30) {
            let _ = scaled(&text, power);
        }
    }
}
