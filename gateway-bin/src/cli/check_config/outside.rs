//! Who else is called: model providers, the webhook, the collector of traces.

use http::Uri;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tower_usage::TokenCounts;

use super::ANSWER;
use super::http::{Fetcher, explain};
use super::report::Check;
use crate::clock;
use crate::config::{Config, Provider, UnknownModel};
use crate::egress::Target;
use crate::prices::price_list;

/// Models that are recorded without a cost. With `prices.unknown = "refuse"` the file is refused for them.
pub(super) fn prices(config: &Config) -> Vec<Check> {
    let Ok(prices) = price_list(&config.price, &config.prices) else {
        return Vec::new();
    };
    if config.prices.unknown == UnknownModel::Refuse {
        return Vec::new();
    }
    let mut checks = Vec::new();
    for provider in &config.provider {
        let unpriced = provider.models.iter().filter(|model| {
            let price = prices.price(&model.id, &TokenCounts::default(), clock::now());
            price.is_none()
        });
        checks.extend(unpriced.map(|model| {
            Check::note(
                format!("provider {}", provider.name),
                format!(
                    "`{}` has no [[price]] that holds today: it is recorded without a cost, and limits on money do not see it",
                    model.id
                ),
            )
        }));
    }
    checks
}

/// Whether a provider is there. It is asked for nothing that costs, and without its key: any answer will do.
pub(super) async fn provider(provider: &Provider, fetcher: &Fetcher) -> Vec<Check> {
    let about = format!("provider {}", provider.name);
    if let Err(problem) = Target::new(provider) {
        return vec![Check::wrong(about, problem)];
    }
    let answer = fetcher.get(&provider.base_url).await;
    let url = &provider.base_url;
    match answer {
        Ok(_) => vec![Check::ok(
            about,
            format!("{url} answers; its key was not tried"),
        )],
        Err(why) => vec![Check::wrong(
            about,
            format!("{url} cannot be reached: {why}"),
        )],
    }
}

/// Whether the webhook's host is known. Its URL is a secret, and nothing is sent to it.
pub(super) async fn webhook(config: &Config) -> Vec<Check> {
    const KEY: &str = "alerts.webhook_url";
    let url = config.alerts.webhook_url.as_ref();
    let Some((host, port)) = url.and_then(|url| place(url.expose())) else {
        return Vec::new();
    };
    match timeout(ANSWER, lookup_host((host.as_str(), port))).await {
        Ok(Ok(_)) => vec![Check::ok(KEY, format!("{host} is known to this host"))],
        Ok(Err(_)) => vec![Check::wrong(
            KEY,
            format!("this host finds no address for {host}: alerts would not arrive"),
        )],
        Err(_) => vec![Check::wrong(
            KEY,
            format!(
                "no DNS server answers within {} seconds what {host} is",
                ANSWER.as_secs()
            ),
        )],
    }
}

/// Whether somebody takes traces. Nothing depends on it.
pub(super) async fn collector(config: &Config) -> Vec<Check> {
    const KEY: &str = "telemetry.otlp";
    let Some(url) = &config.telemetry.otlp else {
        return Vec::new();
    };
    let Some((host, port)) = place(url) else {
        return Vec::new();
    };
    let why = match timeout(ANSWER, TcpStream::connect((host.as_str(), port))).await {
        Ok(Ok(_)) => return vec![Check::ok(KEY, format!("{host}:{port} takes connections"))],
        Ok(Err(error)) => explain(&error),
        Err(_) => format!("no answer within {} seconds", ANSWER.as_secs()),
    };
    let says = format!("{host}:{port} cannot be reached ({why}): traces are dropped until it can");
    vec![Check::note(KEY, says)]
}

/// Host and port of a URL.
fn place(url: &str) -> Option<(String, u16)> {
    let uri: Uri = url.parse().ok()?;
    let port = match uri.scheme_str() {
        Some("http") => 80,
        _ => 443,
    };
    let host = uri.host()?.trim_matches(['[', ']']).to_owned();
    Some((host, uri.port_u16().unwrap_or(port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_read_from_a_url_without_what_is_secret() {
        let place = |url| place(url).unwrap();
        assert_eq!(
            place("https://hooks.example.com/canary?token=canary"),
            ("hooks.example.com".to_owned(), 443)
        );
        assert_eq!(place("http://[::1]:4318/v1"), ("::1".to_owned(), 4318));
        assert_eq!(place("http://127.0.0.1"), ("127.0.0.1".to_owned(), 80));
    }

    #[test]
    fn a_model_without_a_price_is_told_of() {
        let of = |prices: &str| {
            let text = format!(
                "server = {{ public = \"127.0.0.1:1\", public_url = \"http://127.0.0.1:1\" }}\nworkspace = {{ root = \"/srv\" }}\n\
                 [[provider]]\nname = \"p\"\nkind = \"openai\"\nbase_url = \"https://a.example\"\nmodels = [{{ id = \"m-1\" }}]\n{prices}\n"
            );
            prices_of(&text)
        };
        let unpriced = of("[prices]\nunknown = \"record\"");
        assert!(
            unpriced.len() == 1 && unpriced[0].says.contains("`m-1`"),
            "{unpriced:?}"
        );
        let price = "[[price]]\nmodel = \"m-1\"\ninput = \"1\"\noutput = \"1\"\n[prices]\nunknown = \"record\"";
        assert_eq!(of(price), []);
    }

    fn prices_of(text: &str) -> Vec<Check> {
        super::prices(&toml::from_str(text).unwrap())
    }
}
