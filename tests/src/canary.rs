//! Secrets of a run, looked for where they must not be: in what the gateways log at the finest level, and in whatever
//! the instance has written.
//!
//! `tests/run` names a directory; every gateway then logs into it at TRACE, and every issuer writes there what it
//! issues. When all tests are over, `kit canary` looks for that, and for everything that has the shape of a credential.

use std::{
    collections::{BTreeMap, HashMap},
    env, fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use aho_corasick::AhoCorasick;
use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    error::{Error, Result},
    issuer::{CLIENT_ID, CLIENT_SECRET},
    kit::Kit,
    provider::ModelCall,
};

/// The variable that names the directory.
const VARIABLE: &str = "GATEWAY_TEST_LOGS";

/// How the file begins in which an issuer writes down what it issues.
const ISSUED: &str = "issued-";

/// A new file for the log of a gateway, if this run keeps them.
#[must_use]
pub fn log_file() -> Option<PathBuf> {
    file("gateway-", "log")
}

/// A new file for what an issuer issues, if this run keeps it: lines of a kind and a secret.
#[must_use]
pub fn issued_file() -> Option<PathBuf> {
    file(ISSUED, "txt")
}

fn file(start: &str, end: &str) -> Option<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let dir = PathBuf::from(env::var_os(VARIABLE)?);
    let (process, n) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    Some(dir.join(format!("{start}{process}-{n}.{end}")))
}

/// What is looked for.
#[derive(Debug, Default)]
pub struct Canary {
    /// Words of `A-Z`, `a-z`, `0-9`, `-` and `_`, and of what kind each is.
    words: HashMap<String, String>,
    /// Texts that may hold other characters.
    texts: Vec<(String, &'static str)>,
    /// Whether what only looks like a credential counts.
    shapes: bool,
}

/// A secret where it must not be. It is not repeated here.
#[derive(Debug, Eq, PartialEq)]
pub struct Leak {
    /// The file.
    pub file: PathBuf,
    /// The line in it, from 1.
    pub line: usize,
    /// What kind of secret.
    pub kind: String,
}

/// Libraries of the gateway that have secrets in their hands and say a lot at TRACE.
const TALKATIVE: [&str; 3] = ["fred", "hyper_util", "tokio_postgres"];

/// Shapes of credentials: how a word begins that is one, how long it is at least, and what it is then.
const SHAPES: [(&str, usize, &str); 4] = [
    // A JSON object in base64: the header of a JWT, or of what `jose` calls compact.
    ("eyJ", 20, "JWT"),
    ("ocg_pat_", 16, "personal access token"),
    ("ocg-pw-", 16, "gateway password"),
    ("ocg-vk-", 16, "virtual key"),
];

/// Parameters of sign-in that are good for something, each with what is after it up to a `&`.
const PARAMETERS: [&str; 9] = [
    "code",
    "state",
    "code_verifier",
    "client_secret",
    "access_token",
    "refresh_token",
    "id_token",
    "id_token_hint",
    "logout_token",
];

// === impl Canary ===

impl Canary {
    /// Everything secret of a run, by what the issuers have written into `logs`, and what was said to the models.
    ///
    /// # Errors
    ///
    /// [`Error::File`], and [`Error::Unexpected`] where a run has issued nothing: then nothing would be found.
    pub fn of_run(kit: &Kit, calls: &[ModelCall], logs: &Path) -> Result<Self> {
        let mut canary = Self::of_people(kit, logs)?;
        canary.shapes = true;
        let words = calls.iter().flat_map(|call| words_of(&call.last_user));
        let marks = words.filter(|word| word.starts_with("mark-"));
        for mark in marks {
            canary
                .words
                .insert(mark.to_owned(), "what somebody said".to_owned());
        }
        canary.text(&kit.openclaw_password, "the instance's password");
        for url in [&kit.postgres, &kit.redis] {
            let password = url.split(['@', ':']).nth(2);
            canary.text(password.unwrap_or(url), "a store's password");
        }
        Ok(canary)
    }

    /// What is people's or the operator's, and no instance may know: all but what people say, and the instance's own.
    ///
    /// # Errors
    ///
    /// As [`of_run`](Self::of_run).
    pub fn of_people(kit: &Kit, logs: &Path) -> Result<Self> {
        let mut canary = Self::default();
        for path in files(logs)? {
            if !is_called(&path, ISSUED) {
                continue;
            }
            for line in read(&path)?.lines() {
                if let Some((kind, secret)) = line.split_once(' ') {
                    canary.words.insert(secret.to_owned(), kind.to_owned());
                }
            }
        }
        let count = |kind: &str| canary.words.values().filter(|is| *is == kind).count();
        for kind in ["AuthorizationCode", "RefreshToken"] {
            if count(kind) < 10 {
                let got = format!("{} of {}", count(kind), canary.words.len());
                return Err(Error::unexpected("issued secrets of each kind", got));
            }
        }
        let basic = STANDARD.encode(format!("{CLIENT_ID}:{CLIENT_SECRET}"));
        canary.text(&basic, "the client's secret");
        canary.text(CLIENT_SECRET, "the client's secret");
        canary.text(&kit.provider_key, "the provider's key");
        canary.text(&kit.user_key, "a user's provider key");
        Ok(canary)
    }

    /// Makes sure that the gateways have logged all they could: else there is nothing to be found.
    ///
    /// # Errors
    ///
    /// [`Error::Unexpected`] with who has logged nothing at TRACE, [`Error::File`].
    pub fn expect_traces(logs: &Path) -> Result<()> {
        let mut silent = TALKATIVE.to_vec();
        for file in files(logs)? {
            let text = read(&file)?;
            silent.retain(|name| !text.contains(&format!("TRACE {name}")));
        }
        match silent.is_empty() {
            true => Ok(()),
            false => Err(Error::unexpected("silence at TRACE", silent.join(", "))),
        }
    }

    /// What is found in the files of a directory and all below it.
    ///
    /// # Errors
    ///
    /// [`Error::File`].
    pub fn search(&self, dir: &Path) -> Result<Vec<Leak>> {
        let hints = self.hints()?;
        let mut leaks = Vec::new();
        for file in files(dir)? {
            if is_called(&file, ISSUED) {
                continue;
            }
            let text = read(&file)?;
            let found = self.find(&hints, &text).into_iter();
            leaks.extend(found.map(|(line, kind)| Leak {
                file: file.clone(),
                line,
                kind,
            }));
        }
        Ok(leaks)
    }

    /// How many secrets of each kind are known.
    #[must_use]
    pub fn kinds(&self) -> BTreeMap<&str, usize> {
        let mut kinds = BTreeMap::new();
        let words = self.words.values().map(String::as_str);
        for kind in words.chain(self.texts.iter().map(|(_, kind)| *kind)) {
            *kinds.entry(kind).or_default() += 1;
        }
        kinds
    }

    fn text(&mut self, text: &str, kind: &'static str) {
        self.texts.push((text.to_owned(), kind));
    }

    fn of_line(&self, line: &str) -> impl Iterator<Item = String> {
        let known = words_of(line).filter_map(|word| self.words.get(word).cloned());
        let texts = self.texts.iter().filter(|(text, _)| line.contains(text));
        let texts = texts.map(|(_, kind)| (*kind).to_owned());
        let shapes = self.shapes.then(|| shapes_in(line));
        known.chain(texts).chain(shapes.into_iter().flatten())
    }

    /// What every line has in it that is worth a closer look.
    fn hints(&self) -> Result<AhoCorasick> {
        let known = self.words.keys().map(String::as_str);
        let texts = self.texts.iter().map(|(text, _)| &**text);
        let parameters = PARAMETERS.iter();
        let parameters: Vec<_> = parameters
            .flat_map(|name| [format!("?{name}="), format!("&{name}=")])
            .collect();
        let shapes = SHAPES.iter().map(|(start, ..)| *start).chain(["v1."]);
        let shapes = shapes.chain(parameters.iter().map(String::as_str));
        let shapes = shapes.filter(|_| self.shapes);
        AhoCorasick::new(known.chain(texts).chain(shapes))
            .map_err(|error| Error::unexpected("words to look for", error.to_string()))
    }

    fn find(&self, hints: &AhoCorasick, text: &str) -> Vec<(usize, String)> {
        let (mut found, mut looked_at, mut counted) = (Vec::new(), 0, 0);
        let mut line_number = 1;
        for hint in hints.find_iter(text) {
            // A line may have many hints in it.
            if hint.start() < looked_at {
                continue;
            }
            let (before, after) = text.split_at(hint.start());
            let start = before.rfind('\n').map_or(0, |at| at + 1);
            let end = hint.start() + after.find('\n').unwrap_or(after.len());
            line_number += text[counted..start].matches('\n').count();
            (looked_at, counted) = (end, start);
            let kinds = self.of_line(&text[start..end]);
            found.extend(kinds.map(|kind| (line_number, kind)));
        }
        found
    }
}

/// What looks like a credential.
fn shapes_in(line: &str) -> impl Iterator<Item = String> {
    let words = words_of(line).flat_map(|word| {
        let is = move |&(start, length, _): &(&str, usize, _)| {
            word.len() >= length && word.starts_with(start)
        };
        SHAPES.iter().filter(move |shape| is(shape))
    });
    let words = words.map(|(_, _, kind)| (*kind).to_owned());
    // Sealed: `v1.<key id>.<base64url>`.
    let sealed = line.split(|c: char| !is_word(c) && c != '.');
    let sealed = sealed.filter(|word| {
        let mut parts = word.split('.');
        parts.next() == Some("v1")
            && parts.next().is_some_and(|id| id.len() == 8)
            && parts.next().is_some_and(|text| text.len() > 16)
    });
    let sealed = sealed.map(|_| "session cookie".to_owned());
    let parameters = PARAMETERS.iter().filter(move |name| {
        let values = line.split(['?', '&']).skip(1);
        let mut values = values.filter_map(|pair| pair.strip_prefix(**name)?.strip_prefix('='));
        values.any(|value| value.len() > 4)
    });
    let parameters = parameters.map(|name| format!("parameter {name}"));
    words.chain(sealed).chain(parameters)
}

fn words_of(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !is_word(c))
        .filter(|word| word.len() > 8)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}

fn is_called(file: &Path, start: &str) -> bool {
    let name = file.file_name();
    name.is_some_and(|name| name.as_encoded_bytes().starts_with(start.as_bytes()))
}

/// Which of these files, and of those in these directories, hold a secret. What is not there holds none.
///
/// # Errors
///
/// [`Error::File`], and [`Error::Unexpected`] when there is nothing to search.
pub fn files_with(places: &[PathBuf], secret: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for place in places {
        if place.is_dir() {
            found.extend(files(place)?);
        } else if place.is_file() {
            found.push(place.clone());
        }
    }
    if found.is_empty() {
        return Err(Error::unexpected("places", "nothing to search"));
    }
    found.retain(|file| {
        // What is gone meanwhile holds nothing.
        let bytes = fs::read(file).unwrap_or_default();
        memchr::memmem::find(&bytes, secret.as_bytes()).is_some()
    });
    Ok(found)
}

/// The regular files of a directory and all below it; links are not followed.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let error = |source| Error::File {
        path: dir.to_owned(),
        source,
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(error)? {
        let entry = entry.map_err(error)?;
        let kind = entry.file_type().map_err(error)?;
        if kind.is_dir() {
            files.extend(self::files(&entry.path())?);
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(files)
}

/// What is no text is read as far as it is one.
fn read(path: &Path) -> Result<String> {
    let bytes = fs::read(path).map_err(|source| Error::File {
        path: path.to_owned(),
        source,
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str) -> Vec<String> {
        let canary = Canary {
            words: HashMap::from([("kPq-1_zzzzzzzzzz".to_owned(), "RefreshToken".to_owned())]),
            texts: vec![("pass word".to_owned(), "password")],
            shapes: true,
        };
        let (hints, text) = (canary.hints().unwrap(), format!("nothing\n{line}\nnothing"));
        let found = canary.find(&hints, &text).into_iter();
        found
            .map(|(at, kind)| {
                assert_eq!(at, 2);
                kind
            })
            .collect()
    }

    #[test]
    fn secrets_are_found_wherever_they_stand() {
        for (line, kind) in [
            ("refresh kPq-1_zzzzzzzzzz", "RefreshToken"),
            (r#"{"refresh_token":"kPq-1_zzzzzzzzzz"}"#, "RefreshToken"),
            ("a=kPq-1_zzzzzzzzzz&b=c", "RefreshToken"),
            ("the pass word is", "password"),
            ("authorization: Bearer eyJhbGciOiJSUzI1NiJ9.e30.x", "JWT"),
            ("token=ocg_pat_0123456789abcdef", "personal access token"),
            (r#""ocg-pw-0123456789abcdef.x""#, "gateway password"),
            ("Some(\"ocg-vk-0123456789abcdef\")", "virtual key"),
            (
                "cookie: __Host-session=v1.0badcafe.AAAAAAAAAAAAAAAAAAAAAAAA; a=b",
                "session cookie",
            ),
            ("GET /auth/callback?code=abcdefgh", "parameter code"),
            (
                "uri=/auth/callback?iss=x&state=abcdefgh HTTP",
                "parameter state",
            ),
        ] {
            assert_eq!(found(line), [kind], "{line}");
        }
    }

    #[test]
    fn what_is_no_secret_is_not() {
        for line in [
            "",
            "gateway runs public=127.0.0.1:30118",
            "prefixes are ocg_pat_ and ocg-pw- and eyJ",
            "version v1.2.3 of v1.0badcafe.short",
            "code=404 state=closed",
            "GET /?code=&state=x",
        ] {
            assert!(found(line).is_empty(), "{line}");
        }
    }
}
