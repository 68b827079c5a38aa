//! Sign-in from outside: browsers, a provider that can lie and fail, several servers.

#[cfg(test)]
mod back_channel;
#[cfg(test)]
mod callback;
#[cfg(test)]
mod cookies;
#[cfg(test)]
mod failures;
#[cfg(test)]
mod flow;
#[cfg(test)]
mod id_tokens;
#[cfg(test)]
mod logout;
#[cfg(test)]
mod presets;
#[cfg(test)]
mod refresh;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod support;
