//! `JwtVerifier` from outside: the attacks of RFC 8725 and RFC 9068, the life of keys, and verdicts.

#[cfg(test)]
mod claims;
#[cfg(test)]
mod headers;
#[cfg(test)]
mod identities;
#[cfg(test)]
mod issuers;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod refresh;
#[cfg(test)]
mod support;
#[cfg(test)]
mod verdicts;
