//! `GET login`: sends the browser to a provider.

use http::{StatusCode, header::SET_COOKIE, request::Parts};

use super::{
    failure::Failure,
    form::{Form, with_query},
    login::Login,
    page::{Answer, Link, fail, page, redirect},
    pending::Pending,
    proof::challenge,
    provider_kind::ProviderKind,
    registration::{Registration, Who},
    return_to::{self, ReturnTo},
};

// === impl Login ===

impl Login {
    pub(super) async fn begin(&self, parts: &Parts) -> Answer {
        let asked = match self.read(parts) {
            Ok(asked) => asked,
            Err(failure) => return fail(failure, &parts.headers, self.login_path(None, None)),
        };
        let (registration, return_to) = asked;
        let Some(registration) = registration else {
            return self.choose(return_to.as_ref());
        };
        let return_to = return_to.unwrap_or_else(|| self.after_sign_in.clone());
        match self.send_to(registration, &return_to, parts).await {
            Ok(answer) => answer,
            Err(failure) => {
                let again = self.login_path(Some(&registration.alias), Some(return_to.as_str()));
                fail(failure, &parts.headers, again)
            }
        }
    }

    /// With whom to sign in, if that is clear, and where to go then.
    fn read(&self, parts: &Parts) -> Result<(Option<&Registration>, Option<ReturnTo>), Failure> {
        let form = Form::parse(parts.uri.query().unwrap_or_default());
        let form = form.ok_or(Failure::Malformed)?;
        let one = |name| form.one(name).map_err(|_| Failure::Malformed);
        let registration = match (one("provider")?, &*self.providers.registrations) {
            (Some(alias), _) => {
                let found = self.providers.find(alias);
                Some(found.ok_or(Failure::UnknownProvider)?)
            }
            (None, [only]) => Some(only),
            (None, _) => None,
        };
        // One that is too long is nobody's fault: the person goes on, if to another place.
        let text = one("return_to")?.filter(|text| text.len() <= return_to::MAX_LENGTH);
        let return_to = match text {
            Some(text) => {
                let target = ReturnTo::parse(text, &self.origins);
                Some(target.ok_or(Failure::ReturnTo)?)
            }
            None => None,
        };
        // Nor would anybody want to sign in in order to sign in.
        let return_to = return_to.filter(|target| !target.is_below(&self.origin, &self.base));
        Ok((registration, return_to))
    }

    /// A page with all providers.
    fn choose(&self, return_to: Option<&ReturnTo>) -> Answer {
        let links: Vec<Link> = self
            .providers
            .registrations
            .iter()
            .map(|own| Link {
                address: self.login_path(Some(&own.alias), return_to.map(ReturnTo::as_str)),
                text: format!("Sign in with {}", own.provider.label),
            })
            .collect();
        page(
            StatusCode::OK,
            "Sign in",
            "How do you want to sign in?",
            &links,
        )
    }

    async fn send_to(
        &self,
        registration: &Registration,
        return_to: &ReturnTo,
        parts: &Parts,
    ) -> Result<Answer, Failure> {
        let metadata = registration.endpoints.find().await?;
        let now = self.providers.clock.now();
        let pending = Pending::new(&registration.alias, return_to.as_str(), now)?;
        let (redirect_uri, scope) = (self.redirect_uri(), registration.scopes(&metadata));
        let challenge = challenge(&pending.verifier);
        let provider = &registration.provider;
        let mut pairs = vec![
            ("response_type", "code"),
            ("client_id", &*provider.client_id),
            ("redirect_uri", &*redirect_uri),
            ("scope", &*scope),
            ("state", &*pending.state),
            ("code_challenge", &*challenge),
            ("code_challenge_method", "S256"),
        ];
        if let Who::IdToken(_) = registration.who {
            pairs.push(("nonce", &pending.nonce));
        }
        let mut add = |name, value| {
            if !provider.parameters.iter().any(|(own, _)| &**own == name) {
                pairs.push((name, value));
            }
        };
        if provider.offline && matches!(provider.kind, ProviderKind::Google) {
            add("access_type", "offline");
            add("prompt", "consent");
        }
        let own = provider.parameters.iter();
        pairs.extend(own.map(|(name, value)| (&**name, &**value)));

        let mut answer = redirect(&with_query(&metadata.authorization, pairs))?;
        for cookie in pending.set(&parts.headers, &self.keys, now)? {
            answer.headers_mut().append(SET_COOKIE, cookie);
        }
        Ok(answer)
    }
}
