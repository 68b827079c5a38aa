use super::{error::LoginError, failure::Failure, metadata::Metadata, provider::ClientAuth};
use crate::{
    HttpClient, Identity,
    jwt::{JwtConfig, identify_profile, parse_address},
    opaque::{self, Profiles},
};

/// Finds out at GitHub's API who somebody is.
#[derive(Debug)]
pub(super) struct GitHub {
    config: JwtConfig,
    profiles: Profiles,
}

const SERVER: &str = "https://github.com";

/// Its addresses, which it publishes in its documentation only ("Authorizing OAuth apps"); `server` is an
/// Enterprise Server.
pub(super) fn metadata(server: Option<&str>) -> Result<Metadata, LoginError> {
    let server = server.unwrap_or(SERVER);
    let address = |path: &str| format!("{server}/login/oauth{path}");
    let (token, _) = parse_address(&address("/access_token")).ok_or(LoginError::Issuer)?;
    Ok(Metadata {
        issuer: Some(address("").into()),
        names_issuer: false,
        authorization: address("/authorize"),
        token,
        userinfo: None,
        end_session: None,
        client_auth: ClientAuth::Post,
        has_offline_access: false,
    })
}

// === impl GitHub ===

impl GitHub {
    pub(super) fn new(config: JwtConfig, server: Option<&str>) -> Result<Self, LoginError> {
        let api = match server {
            Some(server) => format!("{server}/api/v3"),
            None => opaque::GitHub::API.to_owned(),
        };
        let profiles = Profiles::new(&api).ok_or(LoginError::Issuer)?;
        Ok(Self { config, profiles })
    }

    /// The person an access token is of.
    pub(super) async fn identify(
        &self,
        client: &dyn HttpClient,
        access_token: &str,
    ) -> Result<Identity, Failure> {
        let profile = self.profiles.find(client, access_token).await;
        let profile = profile.map_err(|failure| match failure {
            opaque::Failure::Refused(_) => Failure::Untrusted,
            opaque::Failure::Withheld | opaque::Failure::Down => {
                tracing::warn!("GitHub's API does not say who somebody is");
                Failure::ProviderUnavailable
            }
        })?;
        identify_profile(&self.config, profile.claims()).map_err(|_| Failure::Untrusted)
    }
}
