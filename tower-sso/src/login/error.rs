use thiserror::Error;

/// Settings nobody can sign in with.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum LoginError {
    /// An origin is not `https://host` or `https://host:port` in the spelling of browsers, or `http` on
    /// this machine.
    #[error("an origin is not one in the spelling of browsers")]
    Origin,
    /// The path below which sign-in is served does not begin with `/`, ends with one, or has other
    /// characters than letters, digits, `-`, `_` and `/`.
    #[error("the path of sign-in is not a plain path")]
    Base,
    /// An address to go to after signing in or out is on no allowed origin.
    #[error("an address to go to is on no allowed origin")]
    Target,
    /// There is no provider.
    #[error("there is no sign-in provider")]
    NoProvider,
    /// The issuer of a provider is not an `https` address, or `http` on this machine, without user, query
    /// and fragment; or an Entra tenant is not an id.
    #[error("the issuer of a provider is not an address, or its tenant not an id")]
    Issuer,
    /// The alias of a provider is empty, or has a `|` or a control character.
    #[error("the alias of a provider is empty or has a `|` or a control character")]
    Alias,
    /// A provider has no client id, no client secret, or characters in them that nobody can send.
    #[error("a provider has no client id or secret")]
    Client,
    /// Two providers have one alias or one issuer, or two are primary.
    #[error("two providers have one alias or one issuer, or two are primary")]
    Ambiguous,
    /// A parameter for the authorization request is one that this crate sets.
    #[error("a parameter for the authorization request is set already")]
    Parameter,
    /// A setting of a provider that [`JwtConfig`](crate::jwt::JwtConfig) refuses.
    #[error("the settings of a provider contradict themselves")]
    Settings,
}
