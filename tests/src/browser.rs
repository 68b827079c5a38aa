//! What a sign-in needs of a browser: cookies, redirects and two forms.

use std::collections::HashMap;

use http::{Request, Uri, header};

use crate::{
    error::{Error, Result},
    http::{self as client, Response},
};

/// More redirects and forms than any sign-in has.
const MAX_STEPS: usize = 20;

/// One person's browser.
///
/// Cookies go back to the authority and the paths they came from. `Secure` is not looked at: the
/// servers of a test speak plain HTTP on loopback, which browsers count as secure.
#[derive(Clone, Debug, Default)]
pub struct Browser {
    cookies: HashMap<Slot, String>,
}

/// Where a cookie lives: authority, path, name.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Slot {
    authority: String,
    path: String,
    name: String,
}

impl Browser {
    /// A browser without cookies.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens `start` and signs in as `account` on the pages of the issuer, until a redirect leads
    /// to a URL that begins with `goal`. Answers that URL, without having opened it.
    ///
    /// # Errors
    ///
    /// [`Error::Unexpected`] with a page that is neither a redirect nor one of the issuer's forms,
    /// and what [`open`](Self::open) says.
    pub async fn sign_in(&mut self, start: &str, account: &str, goal: &str) -> Result<String> {
        let mut url = start.to_owned();
        let mut page = self.open(&url).await?;
        for _ in 0..MAX_STEPS {
            if page.status.is_redirection() {
                url = resolve(&url, page.header("location").unwrap_or_default())?;
                if url.starts_with(goal) {
                    return Ok(url);
                }
                page = self.open(&url).await?;
                continue;
            }
            let (action, form) = form(&page.text(), account).ok_or_else(|| {
                Error::unexpected("page", format!("{} at {url}: {}", page.status, page.text()))
            })?;
            url = resolve(&url, &action)?;
            page = self.submit(&url, form).await?;
        }
        Err(Error::unexpected(
            "sign-in",
            format!("it does not end; now at {url}"),
        ))
    }

    /// `GET` of one page, as a browser that wants HTML; redirects are the caller's.
    ///
    /// # Errors
    ///
    /// As [`http::send`](client::send).
    pub async fn open(&mut self, url: &str) -> Result<Response> {
        let request = Request::get(url).header(header::ACCEPT, "text/html,*/*;q=0.8");
        self.send(url, request, String::new()).await
    }

    /// `POST` of a form; redirects are the caller's.
    ///
    /// # Errors
    ///
    /// As [`http::send`](client::send).
    pub async fn submit(&mut self, url: &str, form: String) -> Result<Response> {
        let request = Request::post(url)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ORIGIN, origin(url)?);
        self.send(url, request, form).await
    }

    /// The `Cookie` header this browser sends to `url`, where it has a cookie for it.
    ///
    /// # Errors
    ///
    /// [`Error::Unexpected`] when `url` is none.
    pub fn cookies(&self, url: &str) -> Result<Option<String>> {
        let uri = parse(url)?;
        let own: Vec<_> = self
            .cookies
            .iter()
            .filter(|(slot, _)| {
                uri.authority()
                    .is_some_and(|a| a.as_str() == slot.authority)
            })
            .filter(|(slot, _)| is_below(uri.path(), &slot.path))
            .map(|(slot, value)| format!("{}={value}", slot.name))
            .collect();
        Ok((!own.is_empty()).then(|| own.join("; ")))
    }

    async fn send(
        &mut self,
        url: &str,
        mut request: http::request::Builder,
        body: String,
    ) -> Result<Response> {
        if let Some(cookies) = self.cookies(url)? {
            request = request.header(header::COOKIE, cookies);
        }
        let response = client::send(request, body).await?;
        self.keep_cookies(&parse(url)?, &response);
        Ok(response)
    }

    fn keep_cookies(&mut self, uri: &Uri, response: &Response) {
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        for line in response.headers.get_all(header::SET_COOKIE) {
            let mut parts = line.to_str().unwrap_or_default().split(';').map(str::trim);
            let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else {
                continue;
            };
            let attribute = |wanted: &str| {
                let mut pairs = parts.clone().filter_map(|part| part.split_once('='));
                pairs
                    .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
                    .map(|(_, value)| value)
            };
            let slot = Slot {
                authority: authority.clone(),
                path: attribute("path").unwrap_or("/").to_owned(),
                name: name.to_owned(),
            };
            // Servers delete a cookie by sending it empty or with no time left.
            if value.is_empty() || attribute("max-age") == Some("0") {
                self.cookies.remove(&slot);
            } else {
                self.cookies.insert(slot, value.to_owned());
            }
        }
    }
}

/// The issuer's sign-in and consent pages are one form each, told apart by a hidden field.
fn form(page: &str, account: &str) -> Option<(String, String)> {
    let (_, rest) = page.split_once("action=\"")?;
    let (action, rest) = rest.split_once('"')?;
    let (_, rest) = rest.split_once("name=\"prompt\" value=\"")?;
    let (prompt, _) = rest.split_once('"')?;
    let body = match prompt {
        "login" => format!("prompt=login&login={account}&password=any"),
        "consent" => "prompt=consent".to_owned(),
        _ => return None,
    };
    Some((action.to_owned(), body))
}

/// A `Location` is a whole URL or begins with a slash.
fn resolve(base: &str, location: &str) -> Result<String> {
    if location.starts_with('/') {
        return Ok(format!("{}{location}", origin(base)?));
    }
    parse(location).map(|_| location.to_owned())
}

fn origin(url: &str) -> Result<String> {
    let uri = parse(url)?;
    match (uri.scheme(), uri.authority()) {
        (Some(scheme), Some(authority)) => Ok(format!("{scheme}://{authority}")),
        _ => Err(Error::unexpected("URL", url)),
    }
}

fn parse(url: &str) -> Result<Uri> {
    url.parse().map_err(|_| Error::unexpected("URL", url))
}

fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || prefix.ends_with('/') || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};

    use super::*;

    fn answer(cookies: &[&str]) -> Response {
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            headers.append(header::SET_COOKIE, cookie.parse().unwrap());
        }
        Response {
            status: StatusCode::OK,
            headers,
            body: Bytes::new(),
        }
    }

    #[test]
    fn sends_a_cookie_only_where_it_belongs() {
        let mut browser = Browser::new();
        let from = parse("http://127.0.0.1:1/start").unwrap();
        browser.keep_cookies(
            &from,
            &answer(&["sid=1; HttpOnly; Path=/auth", "deep=2; path=/a"]),
        );
        assert_eq!(
            browser
                .cookies("http://127.0.0.1:1/auth/x")
                .unwrap()
                .as_deref(),
            Some("sid=1")
        );
        assert_eq!(
            browser.cookies("http://127.0.0.1:1/authority").unwrap(),
            None
        );
        assert_eq!(browser.cookies("http://127.0.0.1:2/auth").unwrap(), None);
    }

    #[test]
    fn forgets_a_cookie_that_the_server_deletes() {
        let mut browser = Browser::new();
        let from = parse("http://127.0.0.1:1/").unwrap();
        browser.keep_cookies(&from, &answer(&["a=1", "b=2"]));
        browser.keep_cookies(&from, &answer(&["a=; path=/", "b=gone; Max-Age=0"]));
        assert_eq!(browser.cookies("http://127.0.0.1:1/").unwrap(), None);
    }

    #[test]
    fn resolves_a_location_against_the_page() {
        assert_eq!(resolve("http://h:1/a?b", "/c?d").unwrap(), "http://h:1/c?d");
        assert_eq!(resolve("http://h:1/a", "http://g/").unwrap(), "http://g/");
    }
}
