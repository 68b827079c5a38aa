use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, Uri, header::RETRY_AFTER};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    ask::{Ask, bearer, read},
    pace::Failure,
};
use crate::{HttpClient, Reason, jwt::parse_address};

/// What GitHub's REST API says about people ("REST API endpoints for users", version 2022-11-28).
#[derive(Debug)]
pub(crate) struct Profiles {
    user: Uri,
    emails: Uri,
}

/// A person at GitHub.
pub(crate) struct Profile {
    /// The number of the account, which stays when its name changes.
    pub(super) subject: String,
    login: String,
    name: String,
    picture: Option<String>,
    /// The primary address, and whether GitHub has verified it.
    email: Option<(String, bool)>,
}

/// `GET /user` ("Get the authenticated user").
#[derive(Deserialize)]
struct User {
    id: u64,
    login: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    avatar_url: Option<String>,
}

/// `GET /user/emails` ("List email addresses for the authenticated user").
#[derive(Deserialize)]
struct Email {
    email: String,
    primary: bool,
    verified: bool,
}

#[derive(Deserialize)]
struct Refusal {
    message: Box<str>,
}

const API_VERSION: HeaderName = HeaderName::from_static("x-github-api-version");

// === impl Profiles ===

impl Profiles {
    /// `None` if `api` is not an address to ask at.
    pub(crate) fn new(api: &str) -> Option<Self> {
        let address = |path: &str| parse_address(&format!("{api}{path}"));
        let ((user, _), (emails, _)) = (address("/user")?, address("/user/emails")?);
        Some(Self { user, emails })
    }

    /// The person an access token is of.
    pub(crate) async fn find(
        &self,
        client: &dyn HttpClient,
        access_token: &str,
    ) -> Result<Profile, Failure> {
        let bearer = bearer(access_token).map_err(|_| Failure::Refused(Reason::Unknown))?;
        let ask = github(client);
        let answer = ask.get(&self.user, Some(bearer.clone())).await?;
        let user: User = match answer.status() {
            StatusCode::OK => read(&answer)?,
            // Revoked a moment ago.
            StatusCode::UNAUTHORIZED => return Err(Failure::Refused(Reason::Unknown)),
            // Its owner is suspended, or has asked too much with it.
            _ => return Err(Failure::Withheld),
        };
        let answer = ask.get(&self.emails, Some(bearer)).await?;
        let emails: Vec<Email> = match answer.status() {
            StatusCode::OK => read(&answer)?,
            StatusCode::UNAUTHORIZED => return Err(Failure::Refused(Reason::Unknown)),
            StatusCode::FORBIDDEN if is_limited(&answer) => return Err(Failure::Withheld),
            // It does not have the scope.
            StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => Vec::new(),
            _ => return Err(Failure::Withheld),
        };
        let named = user.name.filter(|name| !name.is_empty());
        let primary = emails.into_iter().find(|email| email.primary);
        Ok(Profile {
            subject: user.id.to_string(),
            name: named.unwrap_or_else(|| user.login.clone()),
            login: user.login,
            picture: user.avatar_url,
            email: primary.map(|email| (email.email, email.verified)),
        })
    }
}

// === impl Profile ===

impl Profile {
    /// The same in the words of OpenID Connect Core section 5.1.
    pub(crate) fn claims(&self) -> Map<String, Value> {
        let mut claims = Map::new();
        let mut say = |name: &str, value: Value| claims.insert(name.to_owned(), value);
        say("sub", self.subject.as_str().into());
        say("name", self.name.as_str().into());
        say("preferred_username", self.login.as_str().into());
        if let Some(picture) = &self.picture {
            say("picture", picture.as_str().into());
        }
        if let Some((address, is_verified)) = &self.email {
            say("email", address.as_str().into());
            say("email_verified", (*is_verified).into());
        }
        claims
    }
}

/// Asks as GitHub wants to be asked.
pub(super) fn github(client: &dyn HttpClient) -> Ask<'_> {
    Ask::new(client).header(API_VERSION, HeaderValue::from_static("2022-11-28"))
}

/// Whether the owner of the token has asked too much with it ("Rate limits for the REST API"). The secondary
/// limit need not show in a header.
fn is_limited(answer: &Response<Bytes>) -> bool {
    let headers = answer.headers();
    let remaining = headers.get("x-ratelimit-remaining");
    let refusal: Option<Refusal> = serde_json::from_slice(answer.body()).ok();
    headers.contains_key(RETRY_AFTER)
        || remaining.is_some_and(|number| number == "0")
        || refusal.is_some_and(|refusal| refusal.message.contains("secondary rate"))
}
