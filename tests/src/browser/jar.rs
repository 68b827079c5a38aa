//! A browser's cookies.

use std::collections::HashMap;

use http::{HeaderMap, Uri, header};

use super::url::{authority, is_below};

/// Cookies, each where it belongs. One whose name claims more than its attributes say is not kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Jar(HashMap<Slot, String>);

/// Where a cookie lives: authority, path, name.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Slot {
    authority: String,
    path: String,
    name: String,
}

impl Jar {
    /// The `Cookie` header for `uri`, where there is a cookie for it.
    pub(super) fn header(&self, uri: &Uri) -> Option<String> {
        let own: Vec<_> = self
            .0
            .iter()
            .filter(|(slot, _)| slot.is_for(uri))
            .map(|(slot, value)| format!("{}={value}", slot.name))
            .collect();
        (!own.is_empty()).then(|| own.join("; "))
    }

    /// The value of a cookie for `uri`.
    pub(super) fn value(&self, uri: &Uri, name: &str) -> Option<&str> {
        let mut own = self.0.iter().filter(|(slot, _)| slot.is_for(uri));
        own.find(|(slot, _)| slot.name == name)
            .map(|(_, value)| value.as_str())
    }

    /// Puts a cookie for the whole authority of `uri` in.
    pub(super) fn set(&mut self, uri: &Uri, name: &str, value: &str) {
        let slot = Slot {
            authority: authority(uri),
            path: "/".to_owned(),
            name: name.to_owned(),
        };
        self.0.insert(slot, value.to_owned());
    }

    /// Makes the cookies for the authority of `to` those that are there for that of `from`.
    pub(super) fn share(&mut self, from: &Uri, to: &Uri) {
        let (from, to) = (authority(from), authority(to));
        let shared: Vec<_> = self
            .0
            .iter()
            .filter(|(slot, _)| slot.authority == from)
            .map(|(slot, value)| (slot.clone(), value.clone()))
            .collect();
        self.0.retain(|slot, _| slot.authority != to);
        for (mut slot, value) in shared {
            slot.authority.clone_from(&to);
            self.0.insert(slot, value);
        }
    }

    /// Does what an answer from `uri` says of cookies.
    pub(super) fn keep(&mut self, uri: &Uri, headers: &HeaderMap) {
        let authority = authority(uri);
        for line in headers.get_all(header::SET_COOKIE) {
            let mut parts = line.to_str().unwrap_or_default().split(';').map(str::trim);
            let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else {
                continue;
            };
            let attribute = |wanted: &str| {
                let mut pairs = parts
                    .clone()
                    .map(|part| part.split_once('=').unwrap_or((part, "")));
                pairs
                    .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
                    .map(|(_, value)| value)
            };
            // RFC 6265bis, section 4.1.3.
            let is_secure = attribute("secure").is_some();
            let is_of_host = attribute("path") == Some("/") && attribute("domain").is_none();
            if (name.starts_with("__Secure-") && !is_secure)
                || (name.starts_with("__Host-") && !(is_secure && is_of_host))
            {
                continue;
            }
            let slot = Slot {
                authority: authority.clone(),
                path: attribute("path").unwrap_or("/").to_owned(),
                name: name.to_owned(),
            };
            // Servers delete a cookie by sending it empty, with no time left, or long gone.
            let is_past = attribute("expires").is_some_and(|date| date.contains(" 1970 "));
            if value.is_empty() || attribute("max-age") == Some("0") || is_past {
                self.0.remove(&slot);
            } else {
                self.0.insert(slot, value.to_owned());
            }
        }
    }
}

impl Slot {
    fn is_for(&self, uri: &Uri) -> bool {
        self.authority == authority(uri) && is_below(uri.path(), &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::url::parse, *};

    fn answer(cookies: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            headers.append(header::SET_COOKIE, cookie.parse().unwrap());
        }
        headers
    }

    #[test]
    fn sends_a_cookie_only_where_it_belongs() {
        let mut jar = Jar::default();
        let from = parse("http://127.0.0.1:1/start").unwrap();
        jar.keep(
            &from,
            &answer(&["sid=1; HttpOnly; Path=/auth", "deep=2; path=/a"]),
        );
        assert_eq!(
            jar.header(&parse("http://127.0.0.1:1/auth/x").unwrap())
                .as_deref(),
            Some("sid=1")
        );
        assert_eq!(
            jar.header(&parse("http://127.0.0.1:1/authority").unwrap()),
            None
        );
        assert_eq!(jar.header(&parse("http://127.0.0.1:2/auth").unwrap()), None);
    }

    #[test]
    fn forgets_a_cookie_that_the_server_deletes() {
        let mut jar = Jar::default();
        let from = parse("http://127.0.0.1:1/").unwrap();
        jar.keep(&from, &answer(&["a=1", "b=2"]));
        jar.keep(&from, &answer(&["a=; path=/", "b=gone; Max-Age=0"]));
        assert_eq!(jar.header(&parse("http://127.0.0.1:1/").unwrap()), None);
    }

    #[test]
    fn keeps_no_cookie_that_claims_more_than_it_is() {
        let mut jar = Jar::default();
        let from = parse("http://127.0.0.1:1/").unwrap();
        jar.keep(
            &from,
            &answer(&[
                "__Host-a=1; Path=/",
                "__Host-b=1; Secure",
                "__Host-c=1; Secure; Path=/; Domain=127.0.0.1",
                "__Host-d=1; Secure; Path=/x",
                "__Secure-e=1; Path=/",
                "__Host-f=1; Path=/; Secure; HttpOnly",
            ]),
        );
        assert_eq!(
            jar.header(&parse("http://127.0.0.1:1/x/y").unwrap())
                .as_deref(),
            Some("__Host-f=1")
        );
    }

    #[test]
    fn shares_its_cookies_with_another_server_of_the_same_name() {
        let one = parse("http://127.0.0.1:1/").unwrap();
        let other = parse("http://127.0.0.1:2/").unwrap();
        let mut jar = Jar::default();
        jar.set(&one, "a", "1");
        jar.set(&other, "b", "2");
        jar.share(&one, &other);
        assert_eq!(jar.value(&other, "a"), Some("1"));
        assert_eq!(jar.value(&other, "b"), None);
        assert_eq!(jar.value(&one, "a"), Some("1"));
    }
}
