use super::error::LoginError;

/// What makes providers differ.
#[derive(Clone, Debug)]
pub(super) enum ProviderKind {
    OpenId {
        issuer: Box<str>,
    },
    Auth0 {
        issuer: Box<str>,
    },
    Google,
    Entra {
        tenant: Box<str>,
        allowed: Option<Vec<Box<str>>>,
    },
    GitHub {
        /// An Enterprise Server; else github.com.
        server: Option<Box<str>>,
    },
}

/// Which `iss` the tokens of a provider have, and where it is discovered.
#[derive(Clone, Debug)]
pub(super) enum Issuer {
    One(Box<str>),
    /// One for each tenant of Entra.
    Tenants {
        /// Below it is the discovery document for all.
        base: Box<str>,
        allowed: Option<Vec<Box<str>>>,
    },
}

/// The tenant of personal Microsoft accounts ("Microsoft identity platform access tokens", `tid`).
const CONSUMERS: &str = "9188040d-6c67-4b5b-b112-36a304b66dad";

const ENTRA: &str = "https://login.microsoftonline.com";

// === impl ProviderKind ===

impl ProviderKind {
    /// The issuer; for GitHub the one that its callbacks would name.
    pub(super) fn issuer(&self) -> Result<Issuer, LoginError> {
        Ok(match self {
            Self::OpenId { issuer } | Self::Auth0 { issuer } => Issuer::One(issuer.clone()),
            Self::Google => Issuer::One("https://accounts.google.com".into()),
            Self::GitHub { server } => {
                let server = server.as_deref().unwrap_or("https://github.com");
                Issuer::One(format!("{server}/login/oauth").into())
            }
            Self::Entra { tenant, allowed } => {
                if allowed.iter().flatten().any(|id| !is_tenant_id(id)) {
                    return Err(LoginError::Issuer);
                }
                let one = |id: &str| Issuer::One(format!("{ENTRA}/{id}/v2.0").into());
                match &**tenant {
                    "common" | "organizations" => Issuer::Tenants {
                        base: format!("{ENTRA}/{tenant}/v2.0").into(),
                        allowed: allowed.clone(),
                    },
                    "consumers" => one(CONSUMERS),
                    // The document of a tenant that is called by a domain names the id instead.
                    id if is_tenant_id(id) => one(id),
                    _ => return Err(LoginError::Issuer),
                }
            }
        })
    }
}

/// A UUID in lower case, as `tid` has it.
fn is_tenant_id(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let is_hex = |group: &&str| {
        group
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    lengths == [8, 4, 4, 4, 12] && groups.iter().all(is_hex)
}
