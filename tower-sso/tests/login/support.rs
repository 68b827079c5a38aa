//! A provider in this process that can be made to fail and to lie, browsers, and servers.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use aws_lc_rs::{
    digest,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tower::ServiceExt as _;
use tower_sso::{
    HttpClient, HttpError, HttpFuture, Identity, Verify as _,
    jwt::Clock,
    login::{Login, LoginService, Provider, Providers},
    session::{MemoryStore, SealingKeys, Sessions, Store},
};
use url::Url;

pub(crate) const NOW: u64 = 1_700_000_000;
pub(crate) const ORIGIN: &str = "https://app.example.com";
pub(crate) const CALLBACK: &str = "https://app.example.com/auth/callback";
pub(crate) const ISSUER: &str = "https://idp.example";
pub(crate) const OTHER_ISSUER: &str = "https://other.example";
pub(crate) const CLIENT: &str = "openclaw";
pub(crate) const SECRET: &str = "canary-client-secret";

// === clock ===

/// A clock that is set by hand.
#[derive(Clone)]
pub(crate) struct HandClock(Arc<AtomicU64>);

impl HandClock {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicU64::new(NOW)))
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }

    pub(crate) fn seconds(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Clock for HandClock {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.seconds())
    }
}

// === keys ===

pub(crate) struct SigningKey(EcdsaKeyPair);

impl SigningKey {
    pub(crate) fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    pub(crate) fn jwk(&self, kid: &str) -> Value {
        let (x, y) = self.0.public_key().as_ref()[1..].split_at(32);
        json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": b64(x), "y": b64(y)})
    }

    pub(crate) fn token(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        let signature = self
            .0
            .sign(&SystemRandom::new(), message.as_bytes())
            .unwrap();
        format!("{message}.{}", b64(signature))
    }
}

pub(crate) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn sha256(text: &str) -> String {
    b64(digest::digest(&digest::SHA256, text.as_bytes()))
}

// === provider ===

/// A provider that follows the standards but for what it is told to do otherwise.
#[derive(Clone)]
pub(crate) struct FakeProvider(Arc<Mutex<State>>);

pub(crate) struct State {
    pub(crate) issuer: String,
    pub(crate) key: SigningKey,
    pub(crate) clock: HandClock,
    /// Members of the discovery document; null takes one away.
    pub(crate) metadata: Value,
    /// Claims of ID tokens; null takes one away.
    pub(crate) claims: Value,
    pub(crate) header: Value,
    /// Members of the published key; null takes one away.
    pub(crate) jwk: Value,
    /// Members of answers of the token endpoint; null takes one away.
    pub(crate) tokens: Value,
    pub(crate) userinfo: Value,
    pub(crate) emails: Value,
    pub(crate) faults: HashMap<&'static str, Fault>,
    pub(crate) asked: Vec<Asked>,
    codes: HashMap<String, Code>,
    refresh_tokens: Vec<String>,
    count: u64,
}

#[derive(Clone)]
struct Code {
    challenge: String,
    nonce: Option<String>,
    redirect_uri: String,
}

#[derive(Clone, Debug)]
pub(crate) enum Fault {
    Answer(u16, &'static str),
    Redirect(&'static str),
    Error,
    Never,
}

/// What the provider was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) form: HashMap<String, String>,
}

impl FakeProvider {
    pub(crate) fn new(issuer: &str, clock: &HandClock) -> Self {
        Self(Arc::new(Mutex::new(State {
            issuer: issuer.to_owned(),
            key: SigningKey::new(),
            clock: clock.clone(),
            metadata: json!({}),
            claims: json!({}),
            header: json!({}),
            jwk: json!({}),
            tokens: json!({}),
            userinfo: json!({"sub": "alice"}),
            emails: json!([]),
            faults: HashMap::new(),
            asked: Vec::new(),
            codes: HashMap::new(),
            refresh_tokens: Vec::new(),
            count: 0,
        })))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// The paths it was asked since the last time.
    pub(crate) fn asked(&self) -> Vec<String> {
        let asked = std::mem::take(&mut self.state().asked);
        asked.into_iter().map(|asked| asked.path).collect()
    }

    pub(crate) fn fail(&self, path: &'static str, fault: Fault) {
        self.state().faults.insert(path, fault);
    }

    pub(crate) fn heal(&self) {
        self.state().faults.clear();
    }

    /// A person signs in at the provider, which sends the browser to this address.
    pub(crate) fn authorize(&self, location: &str) -> Url {
        let asked = Url::parse(location).unwrap();
        let pairs: HashMap<String, String> = asked.query_pairs().into_owned().collect();
        let mut state = self.state();
        assert!(
            location.starts_with(&format!("{}/authorize?", state.issuer)),
            "{location}"
        );
        assert_eq!(pairs["response_type"], "code");
        assert_eq!(pairs["client_id"], CLIENT);
        assert_eq!(pairs["code_challenge_method"], "S256");
        state.count += 1;
        let code = format!("canary-code-{}-{}", sha256(&state.issuer), state.count);
        state.codes.insert(
            code.clone(),
            Code {
                challenge: pairs["code_challenge"].clone(),
                nonce: pairs.get("nonce").cloned(),
                redirect_uri: pairs["redirect_uri"].clone(),
            },
        );
        let mut callback = Url::parse(&pairs["redirect_uri"]).unwrap();
        callback
            .query_pairs_mut()
            .append_pair("code", &code)
            .append_pair("state", &pairs["state"])
            .append_pair("iss", &state.issuer);
        callback
    }

    /// A logout token with these claims besides; null takes one away.
    pub(crate) fn logout_token(&self, claims: &Value) -> String {
        let mut state = self.state();
        state.count += 1;
        let now = state.clock.seconds();
        let mut all = json!({
            "iss": state.issuer,
            "aud": CLIENT,
            "iat": now,
            "exp": now + 120,
            "jti": format!("jti-{}", state.count),
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
            "sid": "sid-1",
        });
        merge(&mut all, claims);
        let mut header = json!({"alg": "ES256", "kid": "k", "typ": "logout+jwt"});
        merge(&mut header, &state.header);
        state.key.token(&header, &all)
    }

    fn answer(&self, request: &Request<Bytes>) -> Response<Bytes> {
        let mut state = self.state();
        let path = request.uri().path().to_owned();
        let form = url::form_urlencoded::parse(request.body())
            .into_owned()
            .collect();
        state.asked.push(Asked {
            path: path.clone(),
            headers: request.headers().clone(),
            form,
        });
        match path.strip_prefix("/common/v2.0").unwrap_or(&path) {
            "/.well-known/openid-configuration" => state.discover(),
            "/keys" => {
                let mut jwk = state.key.jwk("k");
                merge(&mut jwk, &state.jwk);
                ok(&json!({"keys": [jwk]}))
            }
            "/token" => state.give(),
            "/userinfo" => ok(&state.userinfo),
            "/login/oauth/access_token" => state.give(),
            "/api/v3/user" => ok(&state.userinfo),
            "/api/v3/user/emails" => ok(&state.emails),
            other => panic!("asked for {other}"),
        }
    }
}

impl HttpClient for FakeProvider {
    fn send(&self, request: Request<Bytes>, limit: usize) -> HttpFuture {
        assert!(limit <= 1024 * 1024, "a bound for an answer");
        let fault = {
            let mut state = self.state();
            let fault = state.faults.get(request.uri().path()).cloned();
            if fault.is_some() {
                let path = request.uri().path().to_owned();
                state.asked.push(Asked {
                    path,
                    headers: request.headers().clone(),
                    form: HashMap::new(),
                });
            }
            fault
        };
        let own = self.clone();
        HttpFuture::boxed(async move {
            // A network never answers at once.
            tokio::task::yield_now().await;
            match fault {
                None => Ok(own.answer(&request)),
                Some(Fault::Answer(status, body)) => {
                    let response = Response::builder().status(status);
                    Ok(response.body(Bytes::from(body)).unwrap())
                }
                Some(Fault::Redirect(location)) => {
                    let response = Response::builder().status(302).header("location", location);
                    Ok(response.body(Bytes::new()).unwrap())
                }
                Some(Fault::Error) => Err(HttpError::new("no route")),
                Some(Fault::Never) => std::future::pending().await,
            }
        })
    }
}

impl State {
    fn discover(&self) -> Response<Bytes> {
        let issuer = &self.issuer;
        let mut document = json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{issuer}/authorize"),
            "token_endpoint": format!("{issuer}/token"),
            "userinfo_endpoint": format!("{issuer}/userinfo"),
            "end_session_endpoint": format!("{issuer}/logout"),
            "jwks_uri": format!("{issuer}/keys"),
            "scopes_supported": ["openid", "profile", "email", "offline_access"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "authorization_response_iss_parameter_supported": true,
        });
        merge(&mut document, &self.metadata);
        ok(&document)
    }

    fn give(&mut self) -> Response<Bytes> {
        let form = self.asked.last().unwrap().form.clone();
        let nonce = match form["grant_type"].as_str() {
            "authorization_code" => {
                // A code is good for one time (RFC 6749 section 4.1.2).
                let Some(code) = self.codes.remove(&form["code"]) else {
                    return refuse();
                };
                let is_right = sha256(&form["code_verifier"]) == code.challenge
                    && form["redirect_uri"] == code.redirect_uri;
                if !is_right {
                    return refuse();
                }
                code.nonce
            }
            "refresh_token" => {
                let place = self
                    .refresh_tokens
                    .iter()
                    .position(|own| *own == form["refresh_token"]);
                let Some(place) = place else {
                    return refuse();
                };
                self.refresh_tokens.remove(place);
                None
            }
            other => panic!("grant {other}"),
        };
        self.count += 1;
        let (access, refresh) = (
            format!("canary-access-{}", self.count),
            format!("canary-refresh-{}", self.count),
        );
        self.refresh_tokens.push(refresh.clone());
        let mut tokens = json!({
            "access_token": access,
            "token_type": "Bearer",
            "refresh_token": refresh,
            "id_token": self.id_token(nonce.as_deref(), &access),
            "expires_in": 300,
        });
        merge(&mut tokens, &self.tokens);
        ok(&tokens)
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn id_token(&self, nonce: Option<&str>, access: &str) -> String {
        let now = self.clock.seconds();
        let hash = digest::digest(&digest::SHA256, access.as_bytes());
        let mut claims = json!({
            "iss": self.issuer,
            "aud": CLIENT,
            "sub": "alice",
            "iat": now,
            "exp": now + 600,
            "nonce": nonce,
            "at_hash": b64(&hash.as_ref()[..16]),
            "sid": "sid-1",
            "email": "alice@example.com",
            "email_verified": true,
            "name": "Alice",
        });
        if nonce.is_none() {
            claims.as_object_mut().unwrap().remove("nonce");
        }
        merge(&mut claims, &self.claims);
        let mut header = json!({"alg": "ES256", "kid": "k", "typ": "JWT"});
        merge(&mut header, &self.header);
        self.key.token(&header, &claims)
    }
}

fn ok(body: &Value) -> Response<Bytes> {
    Response::new(Bytes::from(body.to_string()))
}

fn refuse() -> Response<Bytes> {
    let body = r#"{"error":"invalid_grant","error_description":"canary-description"}"#;
    Response::builder()
        .status(400)
        .body(Bytes::from(body))
        .unwrap()
}

fn merge(into: &mut Value, changes: &Value) {
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            into.as_object_mut().unwrap().remove(name);
        } else {
            into[name] = value.clone();
        }
    }
}

// === server ===

/// Several providers behind one client, told apart by their host.
struct Network(Vec<(String, FakeProvider)>);

impl HttpClient for Network {
    fn send(&self, request: Request<Bytes>, limit: usize) -> HttpFuture {
        let host = request.uri().host().unwrap();
        let provider = self.0.iter().find(|(own, _)| own == host);
        let (_, provider) = provider.unwrap_or_else(|| panic!("{host} was asked"));
        provider.send(request, limit)
    }
}

/// One server with its sessions.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) service: LoginService,
    pub(crate) sessions: Sessions,
    pub(crate) providers: Providers,
}

pub(crate) fn sealing_keys(bytes: &[u8]) -> SealingKeys {
    SealingKeys::new(bytes.iter().map(|byte| [*byte; 32])).unwrap()
}

/// The registration at the fake provider.
pub(crate) fn registration() -> Provider {
    Provider::oidc(ISSUER)
        .alias("corp")
        .label("Example <Corp>")
        .client(CLIENT, SECRET)
        .primary(true)
}

/// What servers are made of.
pub(crate) struct Setup {
    pub(crate) clock: HandClock,
    pub(crate) provider: FakeProvider,
    pub(crate) other: FakeProvider,
    pub(crate) store: Arc<dyn Store>,
}

impl Setup {
    pub(crate) fn new() -> Self {
        let clock = HandClock::new();
        Self {
            provider: FakeProvider::new(ISSUER, &clock),
            other: FakeProvider::new(OTHER_ISSUER, &clock),
            store: Arc::new(MemoryStore::with_clock(Arc::new(clock.clone()))),
            clock,
        }
    }

    /// A server with one provider.
    pub(crate) fn server(&self) -> Server {
        self.server_with([registration()], &[1], |login| login)
    }

    /// A server with two providers.
    pub(crate) fn server_of_two(&self) -> Server {
        let other = Provider::oidc(OTHER_ISSUER)
            .alias("other")
            .client(CLIENT, SECRET);
        self.server_with([registration(), other], &[1], |login| login)
    }

    pub(crate) fn server_with(
        &self,
        providers: impl IntoIterator<Item = Provider>,
        keys: &[u8],
        change: impl FnOnce(Login) -> Login,
    ) -> Server {
        let network = Network(vec![
            ("idp.example".to_owned(), self.provider.clone()),
            ("other.example".to_owned(), self.other.clone()),
            (
                "login.microsoftonline.com".to_owned(),
                self.provider.clone(),
            ),
            ("accounts.google.com".to_owned(), self.provider.clone()),
        ]);
        let clock = Arc::new(self.clock.clone());
        let providers = Providers::with_clock(Arc::new(network), providers, clock.clone()).unwrap();
        let keys = sealing_keys(keys);
        let sessions = Sessions::new(Arc::clone(&self.store), keys.clone())
            .clock(clock)
            .refresh_with(Arc::new(providers.clone()));
        let login = Login::new(sessions.clone(), keys, providers.clone(), ORIGIN).unwrap();
        Server {
            service: change(login).service(),
            sessions,
            providers,
        }
    }
}

impl Server {
    /// Whose session a cookie is, if any one's.
    pub(crate) async fn identity(&self, browser: &Browser) -> Option<Arc<Identity>> {
        let cookie = browser.session()?;
        self.sessions.verify(&cookie).await.ok()
    }
}

// === browser ===

/// A browser: it keeps cookies as told.
#[derive(Clone, Default)]
pub(crate) struct Browser {
    pub(crate) cookies: BTreeMap<String, String>,
}

/// A response that has arrived.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Browser {
    pub(crate) async fn get(&mut self, server: &Server, target: &str) -> Page {
        self.send(
            server,
            Method::GET,
            target,
            &[("sec-fetch-mode", "navigate")],
            "",
        )
        .await
    }

    pub(crate) async fn send(
        &mut self,
        server: &Server,
        method: Method,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Page {
        let target = target.strip_prefix(ORIGIN).unwrap_or(target);
        let mut request = Request::builder().method(method).uri(target);
        if !self.cookies.is_empty() {
            request = request.header("cookie", self.cookie_header());
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Full::new(Bytes::from(body.to_owned())))
            .unwrap();
        let response = server.service.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        self.keep(&parts.headers);
        let body = body.collect().await.unwrap().to_bytes();
        Page {
            status: parts.status,
            headers: parts.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    pub(crate) fn cookie_header(&self) -> String {
        let pairs = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        pairs.collect::<Vec<_>>().join("; ")
    }

    pub(crate) fn session(&self) -> Option<String> {
        self.cookies.get("__Host-session").cloned()
    }

    /// How many sign-ins are under way.
    pub(crate) fn pending(&self) -> usize {
        let names = self.cookies.keys();
        names
            .filter(|name| name.starts_with("__Host-login-"))
            .count()
    }

    /// Begins to sign in: the address at the provider.
    pub(crate) async fn begin(&mut self, server: &Server, query: &str) -> String {
        let page = self.get(server, &format!("/auth/login{query}")).await;
        assert_eq!(page.status, 303, "{}", page.body);
        page.location().to_owned()
    }

    /// Signs in.
    pub(crate) async fn sign_in(&mut self, setup: &Setup, server: &Server, query: &str) -> Page {
        let location = self.begin(server, query).await;
        let callback = setup.provider.authorize(&location);
        self.get(server, callback.as_str()).await
    }

    fn keep(&mut self, headers: &HeaderMap) {
        for cookie in headers.get_all("set-cookie") {
            let text = cookie.to_str().unwrap();
            for attribute in ["Path=/", "Secure", "HttpOnly", "SameSite=Lax"] {
                assert!(text.split("; ").any(|part| part == attribute), "{text}");
            }
            assert!(
                text.starts_with("__Host-") && !text.contains("Domain"),
                "{text}"
            );
            assert!(text.len() < 4096, "the most a browser keeps");
            let (name, rest) = text.split_once('=').unwrap();
            let (value, _) = rest.split_once(';').unwrap();
            if text.contains("Max-Age=0;") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }
}

impl Page {
    pub(crate) fn location(&self) -> &str {
        self.headers["location"].to_str().unwrap()
    }

    /// The value of a parameter of the address it leads to.
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        parameter(self.location(), name)
    }
}

pub(crate) fn parameter(address: &str, name: &str) -> Option<String> {
    let address = Url::parse(address).unwrap();
    let mut pairs = address.query_pairs();
    pairs
        .find(|(own, _)| own == name)
        .map(|(_, value)| value.into_owned())
}

/// The address with another value of a parameter, or without it.
pub(crate) fn with(address: &Url, name: &str, value: Option<&str>) -> Url {
    let mut changed = address.clone();
    let pairs = address.query_pairs().filter(|(own, _)| own != name);
    changed.query_pairs_mut().clear().extend_pairs(pairs);
    if let Some(value) = value {
        changed.query_pairs_mut().append_pair(name, value);
    }
    changed
}
