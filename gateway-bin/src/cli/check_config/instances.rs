//! Whether instances are there, let the gateway in, and are configured as they must be.

use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::ANSWER;
use super::http::{Fetcher, explain};
use super::report::Check;
use crate::config::{Instance, InstanceAuth};
use crate::instance::{Admin, Device, DialError, Dialer, Looked, look};

/// Asks one instance.
pub(super) async fn check(instance: &Instance, fetcher: &Fetcher) -> Vec<Check> {
    let about = format!("instance {}", instance.name);
    let wrong = |says: String| vec![Check::wrong(&*about, says)];
    let dialer = Device::generate().map_err(|error| error.to_string());
    let dialer = dialer.and_then(|(device, _)| Dialer::new(instance, Arc::new(device)));
    let dialer = match dialer {
        Ok(dialer) => Arc::new(dialer),
        Err(key) => return wrong(key),
    };
    let version = match timeout(ANSWER, dialer.hello_admin()).await {
        Ok(Ok(hello)) => hello.version().to_owned(),
        Ok(Err(error)) => return wrong(refused(instance, &error)),
        Err(_) => return wrong(refused(instance, &DialError::Unreachable(None))),
    };
    let looked = match timeout(ANSWER, ask(&dialer, instance)).await {
        Ok(looked) => looked,
        Err(_) => {
            return wrong(format!(
                "does not answer within {} seconds how it is configured; look at its log",
                ANSWER.as_secs()
            ));
        }
    };
    if !looked.unmet.is_empty() {
        let says = |sentence| format!("must be changed, in its openclaw.json: {sentence}");
        let unmet = looked.unmet.into_iter();
        return unmet
            .map(|sentence| Check::wrong(&*about, says(sentence)))
            .collect();
    }
    let mut checks = match unready(instance, &dialer, fetcher).await {
        Some(why) => wrong(why),
        None => vec![Check::ok(
            &*about,
            format!(
                "is configured as it must be (OpenClaw {version}, at {})",
                instance.url
            ),
        )],
    };
    if let Some(sandbox) = looked.sandbox {
        checks.push(Check::ok(&*about, format!("has a sandbox: {sandbox}")));
    }
    let advice = looked.advice.into_iter();
    checks.extend(advice.map(|sentence| Check::note(&*about, sentence)));
    checks
}

/// What there is in its own configuration, once it answers.
async fn ask(dialer: &Arc<Dialer>, instance: &Instance) -> Looked {
    let stop = CancellationToken::new();
    let _stopped_after = stop.clone().drop_guard();
    let admin = Admin::start(Arc::clone(dialer), |_, _| {}, stop);
    look(&admin, instance).await
}

/// Why nobody would be sent to it yet, although it lets us in.
async fn unready(instance: &Instance, dialer: &Dialer, fetcher: &Fetcher) -> Option<String> {
    let url = format!("http://{}/readyz", dialer.address());
    let mut request = Request::get(&url).body(Bytes::new()).ok()?;
    *request.headers_mut() = dialer.headers(None, None).ok()?;
    let name = &instance.name;
    match fetcher.send(request).await {
        Ok(answer) if answer.status().is_success() => None,
        Ok(answer) => Some(format!(
            "is not ready: {url} answers with status {}; nobody is sent to {name} until it is, so look at its log",
            answer.status().as_u16()
        )),
        Err(why) => Some(format!("{url} cannot be fetched: {why}")),
    }
}

/// Why it does not let us in, and what to do.
fn refused(instance: &Instance, error: &DialError) -> String {
    let url = &instance.url;
    match error {
        DialError::Unreachable(source) => {
            let why = source.as_deref().map(|source| {
                let source: &(dyn Error + 'static) = source;
                explain(source)
            });
            let why =
                why.unwrap_or_else(|| format!("no answer within {} seconds", ANSWER.as_secs()));
            format!("does not answer at {url}: {why}; start its OpenClaw, or name another `url`")
        }
        DialError::Starting { .. } => {
            format!("is still starting at {url}: ask again in half a minute")
        }
        DialError::Unbound => format!("allows the gateway nothing at {url}"),
        DialError::Refused(why) => {
            let key = match &instance.auth {
                InstanceAuth::TrustedProxy {
                    password_file: Some(_),
                    ..
                }
                | InstanceAuth::Password {
                    password_file: Some(_),
                    ..
                } => "password_file",
                _ => "password",
            };
            format!(
                "refuses the administration channel at {url}: {why}; `auth.{key}` must be what `gateway.auth.password` of its \
                 openclaw.json says, and it must be an OpenClaw of protocol version 4"
            )
        }
    }
}
