//! One person's browser.

use http::{HeaderName, HeaderValue, Method, Request, header};

use super::{
    jar::Jar,
    page::{form, navigation},
    url::{encode, is_below, origin, parse, resolve, site},
};
use crate::{
    error::{Error, Result},
    gateway::Gateway,
    http::{self as client, Response},
    tls::Tunnel,
    ws::Ws,
};

/// More redirects and forms than any sign-in has.
const MAX_STEPS: usize = 20;

/// One person's browser.
///
/// Cookies go back to the authority and the paths they came from: unlike those of a real browser, the
/// cookies of two servers on one address do not mix. `Secure` is not looked at: the servers of a
/// test speak plain HTTP on loopback, which browsers count as secure. A cookie whose name claims
/// more than its attributes say (`__Host-`, `__Secure-`) is not kept.
#[derive(Clone, Debug, Default)]
pub struct Browser {
    jar: Jar,
    /// Where what is asked by TLS goes without it, to be given it on the way.
    tunnel: Option<String>,
    more: Vec<(HeaderName, HeaderValue)>,
}

impl Browser {
    /// A browser without cookies.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A browser without cookies that gets through `tunnel` to what is behind it, by its `https://` and `wss://` URLs.
    #[must_use]
    pub fn behind(tunnel: &Tunnel) -> Self {
        Self {
            tunnel: Some(tunnel.authority()),
            ..Self::default()
        }
    }

    /// The same browser, which says this with whatever it asks of anybody, as an extension can have it do.
    ///
    /// # Errors
    ///
    /// [`Error::Unexpected`] for what is no header.
    pub fn saying(mut self, headers: &[(&str, &str)]) -> Result<Self> {
        for (name, value) in headers {
            let bad = || Error::unexpected("header", format!("{name}: {value}"));
            let header = (name.parse(), value.parse());
            let (Ok(name), Ok(value)) = header else {
                return Err(bad());
            };
            self.more.push((name, value));
        }
        Ok(self)
    }

    /// Opens `start` and signs in as `account` on the pages of the issuer, until a redirect leads
    /// to a URL that begins with `goal`. Answers that URL, without having opened it.
    ///
    /// # Errors
    ///
    /// [`Error::Unexpected`] with a page that is neither a redirect nor one of the issuer's forms,
    /// and what [`open`](Self::open) says.
    pub async fn sign_in(&mut self, start: &str, account: &str, goal: &str) -> Result<String> {
        self.travel(start, account, |url| url.starts_with(goal))
            .await
    }

    /// Signs `account` in at a gateway, through its issuer's pages and back: then this browser has a
    /// session there. Answers where the gateway sends it in the end, without having opened that.
    ///
    /// # Errors
    ///
    /// As [`sign_in`](Self::sign_in).
    pub async fn sign_in_at(&mut self, gateway: &Gateway, account: &str) -> Result<String> {
        self.sign_in_for(gateway, account, "/").await
    }

    /// As [`sign_in_at`](Self::sign_in_at), for who wants to get to a path of the gateway.
    ///
    /// # Errors
    ///
    /// As [`sign_in`](Self::sign_in).
    pub async fn sign_in_for(
        &mut self,
        gateway: &Gateway,
        account: &str,
        path: &str,
    ) -> Result<String> {
        let (start, end) = (gateway.url("/auth/login"), gateway.url(path));
        let start = format!("{start}?return_to={}", encode(path));
        self.travel(&start, account, |url| url == end).await
    }

    /// Opens `start`, which signs out at the issuer (`end_session_endpoint` with what belongs to it), and
    /// confirms there, until a redirect leads to a URL that begins with `goal`.
    ///
    /// # Errors
    ///
    /// As [`sign_in`](Self::sign_in).
    pub async fn sign_out(&mut self, start: &str, goal: &str) -> Result<String> {
        self.travel(start, "", |url| url.starts_with(goal)).await
    }

    async fn travel(
        &mut self,
        start: &str,
        account: &str,
        is_goal: impl Fn(&str) -> bool + Send,
    ) -> Result<String> {
        let mut url = start.to_owned();
        let mut page = self.open(&url).await?;
        for _ in 0..MAX_STEPS {
            if page.status.is_redirection() {
                url = resolve(&url, page.header("location").unwrap_or_default())?;
                if is_goal(&url) {
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
        let request = navigation(Request::get(url), "none");
        self.send(url, request, String::new()).await
    }

    /// `POST` of a form on a page of the same origin; redirects are the caller's.
    ///
    /// # Errors
    ///
    /// As [`http::send`](client::send).
    pub async fn submit(&mut self, url: &str, form: String) -> Result<Response> {
        self.submit_from(&origin(url)?, url, form).await
    }

    /// `POST` of a form on a page of any origin, with the cookies that a browser without `SameSite` sends:
    /// what protects a server must not be the browser alone.
    ///
    /// # Errors
    ///
    /// As [`http::send`](client::send).
    pub async fn submit_from(&mut self, from: &str, url: &str, form: String) -> Result<Response> {
        let request = navigation(Request::post(url), site(from, url)?)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ORIGIN, from);
        self.send(url, request, form).await
    }

    /// What a script on a page of the same origin asks; a `body` is JSON.
    ///
    /// # Errors
    ///
    /// As [`http::send`](client::send).
    pub async fn fetch(&mut self, method: Method, url: &str, body: &str) -> Result<Response> {
        self.fetch_from(&origin(url)?, method, url, body).await
    }

    /// What a script on a page of any origin asks with `credentials: "include"`; a `body` is JSON. Asks no
    /// permission first, as a browser does for most of this.
    ///
    /// # Errors
    ///
    /// As [`http::send`](client::send).
    pub async fn fetch_from(
        &mut self,
        from: &str,
        method: Method,
        url: &str,
        body: &str,
    ) -> Result<Response> {
        let site = site(from, url)?;
        // RFC 6454 and the Fetch standard: a read of the same origin has none.
        let says_origin = site != "same-origin" || !matches!(method, Method::GET | Method::HEAD);
        let mut request = Request::builder()
            .method(method)
            .uri(url)
            .header(header::ACCEPT, "*/*")
            .header("sec-fetch-site", site)
            .header("sec-fetch-mode", "cors")
            .header("sec-fetch-dest", "empty");
        if says_origin {
            request = request.header(header::ORIGIN, from);
        }
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        self.send(url, request, body.to_owned()).await
    }

    /// Opens a WebSocket at a `ws://` URL from a page of `origin`, with the cookies for it.
    ///
    /// # Errors
    ///
    /// As [`Ws::connect`].
    pub async fn socket(&self, origin: &str, url: &str) -> Result<Ws> {
        let cookies = self.cookies(&url.replacen("ws", "http", 1))?;
        let mut headers = vec![("origin", origin)];
        headers.extend(cookies.as_deref().map(|cookies| ("cookie", cookies)));
        let more = self.more.iter();
        headers
            .extend(more.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?))));
        Ws::connect(&self.way(url), &headers).await
    }

    /// The `Cookie` header this browser sends to `url`, where it has a cookie for it.
    ///
    /// # Errors
    ///
    /// [`Error::Unexpected`] when `url` is none.
    pub fn cookies(&self, url: &str) -> Result<Option<String>> {
        Ok(self.jar.header(&parse(url)?))
    }

    /// The value of a cookie this browser has for `url`.
    ///
    /// # Errors
    ///
    /// [`Error::Unexpected`] when `url` is none.
    pub fn cookie(&self, url: &str, name: &str) -> Result<Option<&str>> {
        Ok(self.jar.value(&parse(url)?, name))
    }

    /// Puts a cookie into the browser, for all paths of `url`'s authority, as somebody with hold of the
    /// machine can.
    ///
    /// # Errors
    ///
    /// [`Error::Unexpected`] when `url` is none.
    pub fn set_cookie(&mut self, url: &str, name: &str, value: &str) -> Result<()> {
        self.jar.set(&parse(url)?, name, value);
        Ok(())
    }

    /// Makes the cookies for the authority of `to` those that are there for that of `from`: for servers
    /// behind one name, of which a test reaches each by its own port.
    ///
    /// # Errors
    ///
    /// [`Error::Unexpected`] when one is no URL.
    pub fn share_cookies(&mut self, from: &str, to: &str) -> Result<()> {
        self.jar.share(&parse(from)?, &parse(to)?);
        Ok(())
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
        for (name, value) in &self.more {
            request = request.header(name, value);
        }
        request = request.uri(self.way(url));
        let response = client::send(request, body).await?;
        self.jar.keep(&parse(url)?, &response.headers);
        Ok(response)
    }

    /// Where a URL is asked at.
    fn way(&self, url: &str) -> String {
        for (secure, plain) in [("https://", "http://"), ("wss://", "ws://")] {
            let is_behind = |rest: &&str| {
                let tunnel = self.tunnel.as_deref();
                tunnel.is_some_and(|tunnel| is_below(rest, tunnel))
            };
            if let Some(rest) = url.strip_prefix(secure).filter(is_behind) {
                return format!("{plain}{rest}");
            }
        }
        url.to_owned()
    }
}
