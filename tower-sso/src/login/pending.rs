use std::{
    fmt,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderValue, header::COOKIE};
use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

use super::{
    failure::Failure,
    proof::{is_random, is_same, random},
};
use crate::session::SealingKeys;

/// A sign-in under way: what the browser keeps of it, sealed, until the provider sends it back.
///
/// Each has a cookie of its own, so that tabs do not disturb one another.
#[derive(Deserialize, Serialize)]
pub(super) struct Pending {
    #[serde(rename = "p")]
    pub(super) provider: String,
    #[serde(rename = "s")]
    pub(super) state: String,
    #[serde(rename = "n")]
    pub(super) nonce: String,
    #[serde(rename = "v")]
    pub(super) verifier: String,
    #[serde(rename = "r")]
    pub(super) return_to: String,
    /// In milliseconds since 1970.
    #[serde(rename = "t")]
    issued_at: u64,
}

/// How long a sign-in may take.
pub(super) const LIFETIME: Duration = Duration::from_secs(600);

/// By how much the clocks of servers that share the keys may differ.
const LEEWAY: Duration = Duration::from_secs(60);

/// How many sign-ins a browser may have under way, and how many bytes of cookies with them: common
/// servers take 8 KiB for a header.
const MOST: usize = 5;
const MOST_BYTES: usize = 4 * 1024;

const PREFIX: &str = "__Host-login-";

const PURPOSE: &str = "login";

// === impl Pending ===

impl Pending {
    pub(super) fn new(provider: &str, return_to: &str, now: SystemTime) -> Result<Self, Failure> {
        Ok(Self {
            provider: provider.to_owned(),
            state: random()?,
            nonce: random()?,
            verifier: random()?,
            return_to: return_to.to_owned(),
            issued_at: milliseconds(now),
        })
    }

    /// The one this `state` belongs to, among the cookies of the browser; `None` if it was not begun
    /// there, is over, or is not ours.
    pub(super) fn find(
        state: &str,
        headers: &HeaderMap,
        keys: &SealingKeys,
        now: SystemTime,
    ) -> Option<Self> {
        let wanted = name_of(state)?;
        let mut named = cookies(headers).filter(|(name, _)| *name == wanted);
        let (_, value) = named.next()?;
        // Of two one was planted, whichever comes first.
        if named.next().is_some() {
            return None;
        }
        Self::open(value, keys, now).filter(|pending| is_same(&pending.state, state))
    }

    /// The `Set-Cookie` headers that give it to the browser, and take away the oldest for which there is
    /// no more room.
    pub(super) fn set(
        &self,
        headers: &HeaderMap,
        keys: &SealingKeys,
        now: SystemTime,
    ) -> Result<Vec<HeaderValue>, Failure> {
        let plain = serde_json::to_vec(self).map_err(|_| Failure::Internal)?;
        let sealed = keys.seal(PURPOSE, &plain);
        let name = name_of(&self.state).filter(|_| !sealed.is_empty());
        let name = name.ok_or(Failure::Internal)?;
        let mut room = MOST_BYTES.saturating_sub(name.len() + sealed.len());

        // The youngest first; what does not open is worth nothing.
        let mut held: Vec<(u64, &str, usize)> = cookies(headers)
            .map(|(name, value)| {
                let issued_at = Self::open(value, keys, now).map_or(0, |own| own.issued_at);
                (issued_at, name, name.len() + value.len())
            })
            .collect();
        held.sort_by_key(|(issued_at, ..)| std::cmp::Reverse(*issued_at));

        let mut set = vec![cookie(&name, &sealed, LIFETIME)?];
        for (place, (issued_at, name, size)) in held.into_iter().enumerate() {
            let fits = issued_at != 0 && place + 1 < MOST && size <= room;
            if fits {
                room -= size;
            } else {
                room = 0;
                set.push(cookie(name, "", Duration::ZERO)?);
            }
        }
        Ok(set)
    }

    /// The `Set-Cookie` header that takes it away from the browser.
    pub(super) fn clear(&self) -> Result<HeaderValue, Failure> {
        let name = name_of(&self.state).ok_or(Failure::Internal)?;
        cookie(&name, "", Duration::ZERO)
    }

    /// When its `state` is of no use any more, by any server's clock.
    pub(super) fn is_over_at(&self) -> SystemTime {
        let bound = LIFETIME + LEEWAY + LEEWAY;
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.issued_at) + bound
    }

    fn open(sealed: &str, keys: &SealingKeys, now: SystemTime) -> Option<Self> {
        let mut plain = keys.open(PURPOSE, sealed)?;
        let pending: Option<Self> = serde_json::from_slice(&plain).ok();
        plain.zeroize();
        pending.filter(|pending| pending.is_live(now))
    }

    fn is_live(&self, now: SystemTime) -> bool {
        let age = milliseconds(now + LEEWAY).checked_sub(self.issued_at);
        age.is_some_and(|age| u128::from(age) < (LIFETIME + LEEWAY).as_millis())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        for secret in [&mut self.state, &mut self.nonce, &mut self.verifier] {
            secret.zeroize();
        }
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending")
            .field("provider", &self.provider)
            .finish_non_exhaustive()
    }
}

/// The name of the cookie, with as much of the `state` as tells sign-ins of one browser apart.
fn name_of(state: &str) -> Option<String> {
    let part = state.get(..8).filter(|_| is_random(state))?;
    Some(format!("{PREFIX}{part}"))
}

/// The cookies that look like sign-ins under way.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    headers
        .get_all(COOKIE)
        .into_iter()
        .flat_map(|header| header.as_bytes().split(|byte| *byte == b';'))
        .filter_map(|cookie| str::from_utf8(cookie).ok()?.trim().split_once('='))
        .filter(|(name, _)| {
            let part = name.strip_prefix(PREFIX);
            part.is_some_and(|part| {
                part.len() == 8
                    && part
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            })
        })
}

fn cookie(name: &str, value: &str, max_age: Duration) -> Result<HeaderValue, Failure> {
    let max_age = max_age.as_secs();
    let text = format!("{name}={value}; Max-Age={max_age}; Path=/; Secure; HttpOnly; SameSite=Lax");
    let mut header = HeaderValue::try_from(text).map_err(|_| Failure::Internal)?;
    header.set_sensitive(true);
    Ok(header)
}

fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(byte: u8) -> SealingKeys {
        SealingKeys::new([[byte; 32]]).unwrap()
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
    }

    fn begin(return_to: &str, seconds: u64) -> Pending {
        Pending::new("corp", return_to, at(seconds)).unwrap()
    }

    /// A browser: what it was told to keep, in the order of its names.
    #[derive(Default)]
    struct Jar(std::collections::BTreeMap<String, String>);

    impl Jar {
        fn take(&mut self, set: Vec<HeaderValue>) {
            for header in set {
                let text = header.to_str().unwrap().to_owned();
                let (pair, attributes) = text.split_once("; ").unwrap();
                assert!(attributes.ends_with("Path=/; Secure; HttpOnly; SameSite=Lax"));
                let (name, value) = pair.split_once('=').unwrap();
                if attributes.contains("Max-Age=0;") {
                    self.0.remove(name);
                } else {
                    self.0.insert(name.to_owned(), value.to_owned());
                }
            }
        }

        fn headers(&self) -> HeaderMap {
            let pairs = self.0.iter().map(|(name, value)| format!("{name}={value}"));
            let text = pairs.collect::<Vec<_>>().join("; ");
            HeaderMap::from_iter([(COOKIE, HeaderValue::try_from(text).unwrap())])
        }
    }

    #[test]
    fn it_is_found_again_by_its_state_until_it_is_over() {
        let keys = keys(1);
        let pending = begin("https://a.example/b", 0);
        let mut jar = Jar::default();
        jar.take(pending.set(&jar.headers(), &keys, at(0)).unwrap());
        let find = |seconds| Pending::find(&pending.state, &jar.headers(), &keys, at(seconds));

        let found = find(0).unwrap();
        assert_eq!(found.return_to, "https://a.example/b");
        assert_eq!(found.nonce, pending.nonce);
        assert_eq!(found.verifier, pending.verifier);
        assert!(find(599).is_some());
        assert!(find(600).is_none());
        assert!(pending.is_over_at() > at(660));
    }

    #[test]
    fn d7_62_what_was_begun_in_the_future_is_not_live() {
        let keys = keys(1);
        let pending = begin("/", 61);
        let mut jar = Jar::default();
        jar.take(pending.set(&jar.headers(), &keys, at(61)).unwrap());
        assert!(Pending::find(&pending.state, &jar.headers(), &keys, at(0)).is_none());
        assert!(Pending::find(&pending.state, &jar.headers(), &keys, at(1)).is_some());
    }

    #[test]
    fn d7_64_tampered_truncated_planted_and_foreign_cookies_are_nothing() {
        let keys = keys(1);
        let pending = begin("/", 0);
        let mut jar = Jar::default();
        jar.take(pending.set(&jar.headers(), &keys, at(0)).unwrap());
        let text = jar.headers()[COOKIE].to_str().unwrap().to_owned();
        let find = |text: &str, keys: &SealingKeys| {
            let headers = HeaderMap::from_iter([(COOKIE, HeaderValue::try_from(text).unwrap())]);
            Pending::find(&pending.state, &headers, keys, at(0)).is_some()
        };
        assert!(find(&text, &keys));
        assert!(find(&format!("a=b;{text} ;c=d"), &keys));
        assert!(!find(&text, &super::tests::keys(2)), "another server's key");
        assert!(!find(&text[..text.len() - 1], &keys), "cut off");
        assert!(!find(&format!("{text}A"), &keys), "grown");
        assert!(!find(&format!("{text}; {text}"), &keys), "twice");
        let other = begin("/", 0);
        let (_, value) = text.split_once('=').unwrap();
        let renamed = format!("{}={value}", name_of(&other.state).unwrap());
        assert!(!find(&renamed, &keys), "under another name");
        let headers = HeaderMap::from_iter([(COOKIE, HeaderValue::try_from(renamed).unwrap())]);
        assert!(
            Pending::find(&other.state, &headers, &keys, at(0)).is_none(),
            "of another state"
        );
    }

    #[test]
    fn only_the_five_youngest_are_kept() {
        let keys = keys(1);
        let mut jar = Jar::default();
        let mut begun = Vec::new();
        for seconds in 0..8 {
            let pending = begin("https://app.example.com/chat", seconds);
            jar.take(pending.set(&jar.headers(), &keys, at(seconds)).unwrap());
            begun.push(pending);
        }
        assert_eq!(jar.0.len(), MOST);
        let is_kept = |pending: &Pending| {
            Pending::find(&pending.state, &jar.headers(), &keys, at(8)).is_some()
        };
        let kept: Vec<bool> = begun.iter().map(is_kept).collect();
        assert_eq!(kept, [false, false, false, true, true, true, true, true]);
    }

    #[test]
    fn what_is_over_or_not_ours_is_taken_away_first() {
        let keys = keys(1);
        let mut jar = Jar::default();
        jar.0
            .insert("__Host-login-aaaaaaaa".to_owned(), "x".to_owned());
        jar.0.insert("other".to_owned(), "x".to_owned());
        jar.take(begin("/", 0).set(&jar.headers(), &keys, at(0)).unwrap());
        assert_eq!(jar.0.len(), 2, "the other cookie is not ours to take");
        jar.take(begin("/", 700).set(&jar.headers(), &keys, at(700)).unwrap());
        assert_eq!(jar.0.len(), 2, "the first is over");
    }

    #[test]
    fn d7_64_all_of_them_fit_into_a_header() {
        let keys = keys(1);
        let mut jar = Jar::default();
        for seconds in 0..8 {
            let pending = begin(&"a".repeat(1024), seconds);
            let set = pending.set(&jar.headers(), &keys, at(seconds)).unwrap();
            jar.take(set);
            assert!(jar.headers()[COOKIE].len() <= MOST_BYTES + MOST * "; ".len());
            let found = Pending::find(&pending.state, &jar.headers(), &keys, at(seconds));
            assert!(found.is_some(), "the last one is always kept");
        }
    }

    #[test]
    fn d8_71_debug_shows_no_secret() {
        let shown = format!("{:?}", begin("https://canary.example/", 0));
        assert_eq!(shown, "Pending { provider: \"corp\", .. }");
    }
}
