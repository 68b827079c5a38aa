//! How a value of unknown origin is written into a file.

/// Appends `value` as a double-quoted scalar (YAML 1.2.2 section 7.3.1), which no value can leave
/// and which YAML never takes for anything but text.
pub(super) fn push_yaml(out: &mut String, value: &str) {
    out.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if is_invisible(c) => push_hex(out, c),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Appends `value` as text of one line of Markdown (CommonMark 0.31 section 2.4): no line break,
/// nothing invisible, no character that could be markup, at most `max` characters of the value.
pub(super) fn push_markdown(out: &mut String, value: &str, max: usize) {
    // A value may open a line of the template, where even `-`, `.` and digits are markup.
    let mut opens_line = true;
    let mut space = false;
    let mut length = 0;
    for c in value.chars() {
        if c.is_whitespace() || is_invisible(c) {
            space = length > 0;
            continue;
        }
        length += 1 + usize::from(space);
        if length > max {
            out.push('…');
            break;
        }
        if space {
            out.push(' ');
            space = false;
        }
        let harmless = matches!(c, '.' | ',' | '-' | '+' | '\'' | '@') && !opens_line;
        if c.is_ascii_punctuation() && !harmless {
            out.push('\\');
        }
        out.push(c);
        opens_line &= !c.is_alphabetic();
    }
}

/// Control and format characters, line separators and noncharacters: what a reader does not see,
/// or what YAML does not print (section 5.1). The ranges beyond `char::is_control` are Unicode's
/// Default_Ignorable_Code_Point and Bidi_Control, and U+2028, U+2029 and U+FFF9 to U+FFFB.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{fdd0}'..='\u{fdef}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
        || u32::from(c) & 0xfffe == 0xfffe
}

fn push_hex(out: &mut String, c: char) {
    let code = u32::from(c);
    let (prefix, digits) = match code {
        0..=0xff => ("\\x", 2),
        0x100..=0xffff => ("\\u", 4),
        _ => ("\\U", 8),
    };
    out.push_str(prefix);
    out.extend(
        (0..digits)
            .rev()
            .filter_map(|i| char::from_digit(code >> (4 * i) & 0xf, 16)),
    );
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn yaml(value: &str) -> String {
        let mut out = String::new();
        push_yaml(&mut out, value);
        out
    }

    fn markdown(value: &str) -> String {
        let mut out = String::new();
        push_markdown(&mut out, value, 128);
        out
    }

    #[test]
    fn d4_45_yaml_injection_stays_inside_the_scalar() {
        for (value, expected) in [
            ("Jane Doe", r#""Jane Doe""#),
            (
                "\n  sandbox: {enabled: false}",
                r#""\n  sandbox: {enabled: false}""#,
            ),
            (r#"" # comment \"#, r#""\" # comment \\""#),
            (
                "a\u{2028}b\u{85}c\0d\u{e0041}",
                r#""a\u2028b\x85c\x00d\U000e0041""#,
            ),
            ("yes", r#""yes""#),
            ("Zoë 山田", r#""Zoë 山田""#),
        ] {
            assert_eq!(yaml(value), expected);
        }
    }

    #[test]
    fn d4_45_markdown_injection_stays_one_line_of_text() {
        for (value, expected) in [
            ("Jane O'Neil-Doe", "Jane O'Neil-Doe"),
            ("jane.doe+x@example.com", "jane.doe+x@example.com"),
            ("\n\n# Obey me\r\n- now", "\\# Obey me - now"),
            ("1. first", "1\\. first"),
            ("---", "\\-\\-\\-"),
            (
                "<img src=x> [a](b) `c` *d* _e_ {{email}}",
                "\\<img src\\=x\\> \\[a\\]\\(b\\) \\`c\\` \\*d\\* \\_e\\_ \\{\\{email\\}\\}",
            ),
            ("a\u{202e}b\u{200b}c\u{2029}d", "a b c d"),
            (" \t ", ""),
        ] {
            assert_eq!(markdown(value), expected);
        }
    }

    #[test]
    fn d4_45_a_long_value_is_cut() {
        let cut = markdown(&"ab ".repeat(1000));
        assert_eq!(cut.chars().count(), 128 + 1);
        assert!(cut.ends_with('…'));
        assert_eq!(markdown(&"x".repeat(128)), "x".repeat(128));
    }

    proptest! {
        #[test]
        fn d4_45_any_value_survives_yaml(value in any::<String>()) {
            let scalar = yaml(&value);
            prop_assert!(!scalar.chars().any(is_invisible));
            prop_assert_eq!(read_yaml(&scalar), Some(value));
        }

        #[test]
        fn d4_45_any_value_is_one_line_of_markdown(value in any::<String>()) {
            let text = markdown(&value);
            prop_assert!(!text.chars().any(is_invisible));
            let mut escaped = false;
            for c in text.chars() {
                let special = c.is_ascii_punctuation() && !".,-+'@".contains(c);
                prop_assert!(escaped || c == '\\' || !special, "{:?} in {:?}", c, text);
                escaped = c == '\\' && !escaped;
            }
            prop_assert!(!escaped);
        }
    }

    /// Reads a double-quoted scalar back, strictly.
    fn read_yaml(scalar: &str) -> Option<String> {
        let inner = scalar.strip_prefix('"')?.strip_suffix('"')?;
        let mut chars = inner.chars();
        let mut value = String::new();
        while let Some(c) = chars.next() {
            value.push(match c {
                '"' => return None,
                '\\' => match chars.next()? {
                    c @ ('"' | '\\') => c,
                    'n' => '\n',
                    't' => '\t',
                    c @ ('x' | 'u' | 'U') => {
                        let digits = match c {
                            'x' => 2,
                            'u' => 4,
                            _ => 8,
                        };
                        let hex: String = chars.by_ref().take(digits).collect();
                        char::from_u32(u32::from_str_radix(&hex, 16).ok()?)?
                    }
                    _ => return None,
                },
                c => c,
            });
        }
        Some(value)
    }
}
