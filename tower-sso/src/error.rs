use thiserror::Error;

/// Why a token did not verify.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum VerifyError {
    /// The token breaks a rule. Which one is for metrics and logs; a client never learns it.
    #[error("the token is not valid")]
    Invalid(Reason),
    /// What decides about the token, such as the keys of its issuer, cannot be had at the moment.
    #[error("the token cannot be verified at the moment")]
    Unavailable,
}

/// Which rule a token broke: a closed set, fit for a metric label.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// Longer than any token may be.
    TooLong,
    /// Not three canonical base64url parts that hold strict JSON objects and a signature.
    Malformed,
    /// Signed by an algorithm that is not allowed, or that is not the key's.
    Algorithm,
    /// Needs an extension that is not understood, such as one named in `crit`.
    Critical,
    /// A token of another kind: an ID token, a logout token, a security event.
    Type,
    /// No key, or no single key, of the issuer matches.
    UnknownKey,
    /// The signature does not verify.
    Signature,
    /// A required claim is missing, or a registered claim has the wrong type or range.
    Claim,
    /// From another issuer.
    Issuer,
    /// For another audience.
    Audience,
    /// Given to a client that is not allowed here.
    AuthorizedParty,
    /// The subject cannot name a user.
    Subject,
    /// Its time is over.
    Expired,
    /// Its time has not come, or it was issued in the future.
    NotYetValid,
    /// Revoked before its time was over.
    Revoked,
    /// Bound to a key or a certificate of its holder (RFC 9449, RFC 8705), whose possession nobody here
    /// checks: taken without, it would be worth more to a thief than its issuer meant.
    Bound,
    /// A credential nobody knows, such as an opaque key that is not stored.
    Unknown,
}

// === impl VerifyError ===

impl VerifyError {
    /// The rule that was broken, if one was.
    #[must_use]
    pub const fn reason(self) -> Option<Reason> {
        match self {
            Self::Invalid(reason) => Some(reason),
            Self::Unavailable => None,
        }
    }
}

impl From<Reason> for VerifyError {
    fn from(reason: Reason) -> Self {
        Self::Invalid(reason)
    }
}

// === impl Reason ===

impl Reason {
    /// All reasons, in the order of their declaration.
    pub const ALL: &'static [Self] = &[
        Self::TooLong,
        Self::Malformed,
        Self::Algorithm,
        Self::Critical,
        Self::Type,
        Self::UnknownKey,
        Self::Signature,
        Self::Claim,
        Self::Issuer,
        Self::Audience,
        Self::AuthorizedParty,
        Self::Subject,
        Self::Expired,
        Self::NotYetValid,
        Self::Revoked,
        Self::Bound,
        Self::Unknown,
    ];

    /// The reason as a metric label: lower case words joined by `_`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::Critical => "critical",
            Self::Type => "type",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Claim => "claim",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::AuthorizedParty => "authorized_party",
            Self::Subject => "subject",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Revoked => "revoked",
            Self::Bound => "bound",
            Self::Unknown => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::Reason;

    #[test]
    fn all_lists_each_reason_at_its_own_place() {
        for (place, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, place, "{reason:?} is out of order");
        }
        assert_eq!(
            Reason::ALL.len(),
            Reason::Unknown as usize + 1,
            "the last is listed"
        );
    }

    #[test]
    fn labels_are_distinct() {
        let labels: HashSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(labels.len(), Reason::ALL.len());
    }
}
