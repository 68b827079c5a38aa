//! Opaque tokens: what is asked about them, how often, and what becomes of the answers.

#[cfg(test)]
mod github;
#[cfg(test)]
mod introspection;
#[cfg(test)]
mod issuers;
#[cfg(test)]
mod support;
