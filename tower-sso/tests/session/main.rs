//! Sessions, personal access tokens and what ends them, over every store.

#[cfg(test)]
mod endings;
#[cfg(test)]
mod forged;
#[cfg(feature = "postgres")]
#[cfg(test)]
mod postgres;
#[cfg(feature = "redis")]
#[cfg(test)]
mod redis;
#[cfg(test)]
mod refresh;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod sqlite;
#[cfg(test)]
mod stores;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tokens;
