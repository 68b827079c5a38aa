/// The members of `application/x-www-form-urlencoded` text, such as a query.
#[derive(Debug)]
pub(crate) struct Form(Vec<(String, String)>);

/// A parameter that may be there once is there more than once.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Repeated;

// === impl Form ===

impl Form {
    /// Decodes the text; `None` if an escape is broken or what comes out is not UTF-8.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        text.split('&')
            .filter(|member| !member.is_empty())
            .map(|member| {
                let (name, value) = member.split_once('=').unwrap_or((member, ""));
                Some((decode(name)?, decode(value)?))
            })
            .collect::<Option<_>>()
            .map(Self)
    }

    /// The value of a parameter (RFC 6749 section 3.1: one that is empty counts as absent, and none
    /// may be there twice).
    pub(crate) fn one(&self, name: &str) -> Result<Option<&str>, Repeated> {
        let mut values = self.0.iter().filter(|(own, _)| own == name);
        let first = values.next();
        if values.next().is_some() {
            return Err(Repeated);
        }
        Ok(first
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty()))
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|(own, _)| own == name)
    }
}

/// Joins parameters to a query or a form.
pub(crate) fn encode<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::new();
    for (name, value) in pairs {
        if !text.is_empty() {
            text.push('&');
        }
        escape(name, &mut text);
        text.push('=');
        escape(value, &mut text);
    }
    text
}

/// Adds parameters to an address that may have a query already.
pub(crate) fn with_query<'a>(
    address: &str,
    pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> String {
    let joint = if !address.contains('?') {
        "?"
    } else if address.ends_with(['?', '&']) {
        ""
    } else {
        "&"
    };
    format!("{address}{joint}{}", encode(pairs))
}

/// Escapes all but the unreserved characters of RFC 3986. A space is `%20`, which reads the same in a
/// path, in a query, and where a server forgets to decode `+`.
pub(crate) fn escape(text: &str, into: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.push('%');
            for digit in [byte >> 4, byte & 15] {
                into.extend(DIGITS.get(usize::from(digit)).copied().map(char::from));
            }
        }
    }
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => digit(rest.next()?)? << 4 | digit(rest.next()?)?,
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

fn digit(byte: u8) -> Option<u8> {
    let value = char::from(byte).to_digit(16)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_parameters_and_refuses_broken_escapes() {
        let form = Form::parse("a=1&b=x+y%2Fz&&c&d=%C3%A4").unwrap();
        assert_eq!(form.one("a"), Ok(Some("1")));
        assert_eq!(form.one("b"), Ok(Some("x y/z")));
        assert_eq!(form.one("c"), Ok(None), "an empty one is none");
        assert!(form.contains("c"));
        assert_eq!(form.one("d"), Ok(Some("ä")));
        assert_eq!(form.one("e"), Ok(None));
        for broken in ["a=%", "a=%4", "a=%zz", "a=%+1", "a=%ff", "%c3=1"] {
            assert!(Form::parse(broken).is_none(), "{broken}");
        }
    }

    #[test]
    fn a_parameter_twice_is_none_at_all_even_if_equal() {
        for text in ["a=1&a=1", "a=1&a=", "a&a", "a=1&%61=2"] {
            assert_eq!(Form::parse(text).unwrap().one("a"), Err(Repeated), "{text}");
        }
    }

    #[test]
    fn parameters_are_added_to_what_is_there() {
        let pairs = || [("a", "1 &"), ("b", "ä")];
        let added = "a=1%20%26&b=%C3%A4";
        assert_eq!(
            with_query("https://a/b", pairs()),
            format!("https://a/b?{added}")
        );
        assert_eq!(
            with_query("https://a/?p=x", pairs()),
            format!("https://a/?p=x&{added}")
        );
        assert_eq!(
            with_query("https://a/?", pairs()),
            format!("https://a/?{added}")
        );
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read_back(name in "\\PC{1,8}", value in "\\PC{0,16}") {
            let text = encode([(name.as_str(), value.as_str())]);
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
            let form = Form::parse(&text).unwrap();
            let wanted = Some(value.as_str()).filter(|value| !value.is_empty());
            prop_assert_eq!(form.one(&name), Ok(wanted));
        }

        #[test]
        fn never_panics(text in "\\PC{0,64}") {
            let _ = Form::parse(&text);
        }
    }
}
