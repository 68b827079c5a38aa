use std::fmt;

use super::origin::Origin;

/// Where a browser goes after it has signed in: an absolute address on an origin of ours.
///
/// It is parsed by a grammar narrower than any browser's: only what all browsers read alike, and as
/// an address of the origin it begins with, is one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ReturnTo(String);

/// The longest target in bytes. Several sign-ins that are under way share the space for cookies.
pub(super) const MAX_LENGTH: usize = 1024;

// === impl ReturnTo ===

impl ReturnTo {
    /// Reads a path on the first of the origins, or an address that begins with one of them, byte for
    /// byte.
    pub(super) fn parse(text: &str, origins: &[Origin]) -> Option<Self> {
        if text.len() > MAX_LENGTH {
            return None;
        }
        if text.starts_with('/') {
            let own = origins.first()?;
            return is_path(text).then(|| Self(format!("{own}{text}")));
        }
        origins.iter().find_map(|origin| {
            let rest = text.strip_prefix(origin.as_str())?;
            match rest.chars().next() {
                Some('/') if is_path(rest) => Some(Self(text.to_owned())),
                None => Some(Self(format!("{origin}/"))),
                // `https://app.example.com?a` has no path, and `…com.evil` another host.
                _ => None,
            }
        })
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it leads below this path of the origin.
    pub(super) fn is_below(&self, origin: &Origin, path: &str) -> bool {
        self.0
            .strip_prefix(origin.as_str())
            .and_then(|rest| rest.strip_prefix(path))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']))
    }
}

impl fmt::Display for ReturnTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a path can be a target.
pub(super) fn is_target(path: &str) -> bool {
    path.len() <= MAX_LENGTH && is_path(path)
}

/// A path, with a query and a fragment or not, in ASCII.
///
/// Escapes in the path that somebody behind us might undo, and then read a separator, a dot or a
/// control character, are refused; so are empty and dot segments, which somebody might remove.
fn is_path(text: &str) -> bool {
    let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    let Some(path) = path.strip_prefix('/') else {
        return false;
    };
    let mut segments = path.split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        let is_fit = !matches!(segment, "." | "..") && (is_last || !segment.is_empty());
        if !is_fit || !is_text(segment, b"", |byte| !b"%./\\".contains(&byte)) {
            return false;
        }
    }
    is_text(query, b"/?", |_| true) && is_text(fragment, b"/?", |_| true)
}

/// Characters of a path segment (`pchar` of RFC 3986 section 3.3), these further ones, and escapes
/// of what may be escaped; never of control characters.
fn is_text(text: &str, further: &[u8], may_be_escaped: impl Fn(u8) -> bool) -> bool {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let is_plain = byte.is_ascii_alphanumeric()
            || b"-._~!$&'()*+,;=:@".contains(&byte)
            || further.contains(&byte);
        if is_plain {
            continue;
        }
        let escaped = match byte {
            b'%' => bytes.next().zip(bytes.next()).and_then(unescape),
            _ => None,
        };
        if !escaped.is_some_and(|byte| !byte.is_ascii_control() && may_be_escaped(byte)) {
            return false;
        }
    }
    true
}

fn unescape((high, low): (u8, u8)) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use url::Url;

    use super::*;

    /// Targets that must not be followed, one a line, as they arrive in the parameter: decoded once
    /// from the query. `\t`, `\n`, `\r`, `\0` and `\u{…}` stand for the characters themselves.
    const CORPUS: &str = include_str!("open_redirects.txt");

    const OWN: &str = "https://app.example.com";

    fn origins() -> Vec<Origin> {
        [OWN, "https://spa.example.com", "http://localhost:5173"]
            .into_iter()
            .map(|origin| Origin::parse(origin).unwrap())
            .collect()
    }

    fn parse(text: &str) -> Option<String> {
        ReturnTo::parse(text, &origins()).map(|target| target.to_string())
    }

    /// Whether a browser that follows the target stays with one of ours.
    fn stays(target: &str) -> bool {
        let origin = Url::parse(target).unwrap().origin().ascii_serialization();
        origins().iter().any(|own| own.as_str() == origin)
    }

    /// A line of the corpus with its escapes undone.
    fn line(text: &str) -> String {
        let mut line = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("\\") {
            line.push_str(before);
            rest = match after.as_bytes().first() {
                Some(b't') => push(&mut line, '\t', &after[1..]),
                Some(b'n') => push(&mut line, '\n', &after[1..]),
                Some(b'r') => push(&mut line, '\r', &after[1..]),
                Some(b'0') => push(&mut line, '\0', &after[1..]),
                Some(b'u') if after[1..].starts_with('{') => {
                    let (code, after) = after[2..].split_once('}').unwrap();
                    let c = char::from_u32(u32::from_str_radix(code, 16).unwrap()).unwrap();
                    push(&mut line, c, after)
                }
                _ => push(&mut line, '\\', after),
            };
        }
        line.push_str(rest);
        line
    }

    fn push<'a>(line: &mut String, c: char, rest: &'a str) -> &'a str {
        line.push(c);
        rest
    }

    #[test]
    fn d7_63_no_line_of_the_corpus_is_followed() {
        let mut count = 0;
        for text in CORPUS.lines().filter(|text| !text.starts_with("## ")) {
            let target = line(text);
            assert_eq!(parse(&target), None, "{text}");
            count += 1;
        }
        assert!(count >= 150, "{count} lines");
    }

    #[test]
    fn d7_63_what_leads_back_is_followed() {
        for (text, wanted) in [
            ("/", "https://app.example.com/"),
            ("/chat", "https://app.example.com/chat"),
            ("/chat/", "https://app.example.com/chat/"),
            (
                "/chat/a:b@c;d=e?session=agent%3Amain&next=%2Fb%5Cc#part/2?x",
                "https://app.example.com/chat/a:b@c;d=e?session=agent%3Amain&next=%2Fb%5Cc#part/2?x",
            ),
            ("/%C3%A4%20b", "https://app.example.com/%C3%A4%20b"),
            ("/a.b/..c/.d/e..", "https://app.example.com/a.b/..c/.d/e.."),
            (
                "/?to=https://evil.example",
                "https://app.example.com/?to=https://evil.example",
            ),
            (
                "/#//evil.example",
                "https://app.example.com/#//evil.example",
            ),
            ("https://app.example.com", "https://app.example.com/"),
            ("https://app.example.com/a?b", "https://app.example.com/a?b"),
            ("https://spa.example.com/a#b", "https://spa.example.com/a#b"),
            ("http://localhost:5173/a", "http://localhost:5173/a"),
        ] {
            let target = parse(text);
            assert_eq!(target.as_deref(), Some(wanted), "{text}");
            assert!(stays(wanted), "{text}");
        }
    }

    #[test]
    fn the_length_is_bounded() {
        let long = |length: usize| format!("/{}", "a".repeat(length - 1));
        assert!(parse(&long(MAX_LENGTH)).is_some());
        assert!(parse(&long(MAX_LENGTH + 1)).is_none());
    }

    #[test]
    fn knows_what_is_below_a_path() {
        let is_below = |text: &str| {
            let own = Origin::parse(OWN).unwrap();
            ReturnTo::parse(text, &origins())
                .unwrap()
                .is_below(&own, "/auth")
        };
        for text in [
            "/auth",
            "/auth/login",
            "/auth?a",
            "/auth#a",
            "https://app.example.com/auth/",
        ] {
            assert!(is_below(text), "{text}");
        }
        for text in [
            "/",
            "/authors",
            "/a/auth",
            "https://spa.example.com/auth/login",
        ] {
            assert!(!is_below(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn d7_63_whatever_is_followed_stays_here(
            text in r"(https?:|//|/|\\|@|\.|%2[fF]|%5[cC]|%09|%[0-9a-f]{2}|app\.example\.com|evil|[\t\r\n]|#|\?|:|\PC){0,10}"
        ) {
            for text in [text.clone(), format!("/{text}"), format!("{OWN}{text}")] {
                if let Some(target) = parse(&text) {
                    prop_assert!(stays(&target), "{} from {}", target, text);
                    prop_assert!(target.bytes().all(|byte| byte.is_ascii_graphic()));
                    let read = Url::parse(&target).unwrap();
                    prop_assert!(!read.path().contains("//"), "{}", target);
                }
            }
        }
    }
}
