//! URLs, as far as a browser takes them apart.

use http::Uri;

use crate::error::{Error, Result};

/// A `Location` is a whole URL or begins with a slash.
pub(super) fn resolve(base: &str, location: &str) -> Result<String> {
    if location.starts_with('/') {
        return Ok(format!("{}{location}", origin(base)?));
    }
    parse(location).map(|_| location.to_owned())
}

pub(super) fn origin(url: &str) -> Result<String> {
    let uri = parse(url)?;
    match (uri.scheme(), uri.authority()) {
        (Some(scheme), Some(authority)) => Ok(format!("{scheme}://{authority}")),
        _ => Err(Error::unexpected("URL", url)),
    }
}

/// How a page's origin stands to what it asks (Fetch Metadata). Ports do not matter to a site.
pub(super) fn site(from: &str, url: &str) -> Result<&'static str> {
    let host = |url: &str| Ok(parse(url)?.host().map(str::to_owned));
    if from == origin(url)? {
        Ok("same-origin")
    } else if from != "null" && host(from)? == host(url)? {
        Ok("same-site")
    } else {
        Ok("cross-site")
    }
}

pub(super) fn authority(uri: &Uri) -> String {
    uri.authority().map(ToString::to_string).unwrap_or_default()
}

pub(super) fn parse(url: &str) -> Result<Uri> {
    url.parse().map_err(|_| Error::unexpected("URL", url))
}

/// The parts of a path and query that mean something in a query.
pub(super) fn encode(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

pub(super) fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || prefix.ends_with('/') || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_where_a_page_stands_as_browsers_do() {
        let url = "http://127.0.0.1:1/x";
        for (from, said) in [
            ("http://127.0.0.1:1", "same-origin"),
            ("http://127.0.0.1:2", "same-site"),
            ("http://localhost:1", "cross-site"),
            ("null", "cross-site"),
        ] {
            assert_eq!(site(from, url).unwrap(), said, "{from}");
        }
    }

    #[test]
    fn resolves_a_location_against_the_page() {
        assert_eq!(resolve("http://h:1/a?b", "/c?d").unwrap(), "http://h:1/c?d");
        assert_eq!(resolve("http://h:1/a", "http://g/").unwrap(), "http://g/");
    }
}
