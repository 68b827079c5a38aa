//! What is logged, how it is written, and how that is changed while the gateway runs.

use std::fmt::{Display, Formatter};
use std::io::IsTerminal;
use std::str::FromStr;
use std::sync::{OnceLock, PoisonError, RwLock};

use serde::Deserialize;
use thiserror::Error;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{self, FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use super::context;

/// What is logged: a level, and others for parts of the program, as in `info,gateway::socket=debug`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub struct LogFilter(String);

/// Why a text is no filter.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LogFilterError {
    /// It begins with no level, or has a part that is none.
    #[error(
        "`{0}` is no level: a filter is error, warn, info, debug, trace or off, and after it, behind commas, \
         module=level, as in info,gateway::socket=debug"
    )]
    NoLevel(String),
    /// There is no log.
    #[error("the log cannot be changed any more")]
    NoLog,
}

/// The filter that is in force, and what changes it.
struct Log {
    filter: RwLock<LogFilter>,
    handle: reload::Handle<EnvFilter, Registry>,
}

static LOG: OnceLock<Log> = OnceLock::new();

const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

/// Logs to standard error from now on, as JSON lines or as text. To be called once.
pub fn init(filter: &LogFilter, is_json: bool) {
    let (reloadable, handle) = reload::Layer::new(filter.to_env_filter());
    let lines = lines(is_json, std::io::stderr().is_terminal(), std::io::stderr);
    // A library that has made a log of its own keeps it.
    let made = tracing_subscriber::registry()
        .with(lines.with_filter(reloadable))
        .try_init();
    if made.is_ok() {
        let filter = RwLock::new(filter.clone());
        let _ = LOG.set(Log { filter, handle });
    }
}

/// Writes what is logged.
fn lines<S, W>(is_json: bool, is_terminal: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = fmt::layer().with_writer(writer).with_ansi(is_terminal);
    let format = fmt::format().with_ansi(is_terminal);
    if is_json {
        let format = InLogContext {
            format: format.json(),
            is_json,
        };
        lines.json().event_format(format).boxed()
    } else {
        lines.event_format(InLogContext { format, is_json }).boxed()
    }
}

/// The filter that is in force.
#[must_use]
pub fn filter() -> Option<LogFilter> {
    let filter = LOG.get()?.filter.read();
    Some(filter.unwrap_or_else(PoisonError::into_inner).clone())
}

/// Logs by another filter from now on.
///
/// # Errors
///
/// [`LogFilterError::NoLog`] where there is none, and nothing has changed.
pub fn set_filter(filter: &LogFilter) -> Result<(), LogFilterError> {
    let log = LOG.get().ok_or(LogFilterError::NoLog)?;
    let mut current = log.filter.write().unwrap_or_else(PoisonError::into_inner);
    let reloaded = log.handle.reload(filter.to_env_filter());
    reloaded.map_err(|_| LogFilterError::NoLog)?;
    current.clone_from(filter);
    Ok(())
}

// === impl LogFilter ===

impl LogFilter {
    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn to_env_filter(&self) -> EnvFilter {
        EnvFilter::new(self.directives())
    }

    /// As `EnvFilter` reads it, which takes a space for a part of a name.
    fn directives(&self) -> String {
        let parts = self.0.split(',').map(str::trim);
        parts.collect::<Vec<_>>().join(",")
    }
}

impl FromStr for LogFilter {
    type Err = LogFilterError;

    /// Stricter than what reads it later, to which every word is the name of a part, so that a typing error would silence
    /// all the others.
    fn from_str(text: &str) -> Result<Self, LogFilterError> {
        let mut parts = text.split(',').map(str::trim);
        let first = parts.next().unwrap_or_default();
        if !LEVELS.contains(&first) {
            return Err(LogFilterError::NoLevel(first.to_owned()));
        }
        for part in parts {
            let known = part.split_once('=').is_some_and(|(module, level)| {
                let mut names = module.split("::");
                let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
                LEVELS.contains(&level)
                    && names.all(|name| !name.is_empty() && name.chars().all(word))
            });
            if !known {
                return Err(LogFilterError::NoLevel(part.to_owned()));
            }
        }
        Ok(Self(text.to_owned()))
    }
}

impl Default for LogFilter {
    /// What goes well on the whole is told, too.
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl TryFrom<String> for LogFilter {
    type Error = LogFilterError;

    fn try_from(text: String) -> Result<Self, LogFilterError> {
        text.parse()
    }
}

impl Display for LogFilter {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Writes a line as another format does, and for whom it is at its end.
struct InLogContext<F> {
    format: F,
    is_json: bool,
}

// === impl InLogContext ===

impl<F, S, N> FormatEvent<S, N> for InLogContext<F>
where
    F: FormatEvent<S, N>,
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        cx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let Some(context) = context::current() else {
            return self.format.format_event(cx, writer, event);
        };
        let mut line = String::new();
        self.format
            .format_event(cx, Writer::new(&mut line), event)?;
        let line = line.trim_end_matches('\n');
        let (connection, request) = (context.connection(), context.request());
        match (self.is_json, line.strip_suffix('}')) {
            (true, Some(object)) => {
                write!(
                    writer,
                    "{object},\"connection\":{connection},\"request\":\"{request:032x}\""
                )?;
                if let Some(user) = context.user() {
                    write!(writer, ",\"user\":\"{user}\"")?;
                }
                writer.write_char('}')?;
            }
            _ => {
                write!(
                    writer,
                    "{line} connection={connection} request={request:032x}"
                )?;
                if let Some(user) = context.user() {
                    write!(writer, " user={user}")?;
                }
            }
        }
        writer.write_char('\n')
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use serde_json::Value;
    use tower::{ServiceExt, service_fn};
    use tracing::{info, warn};

    use super::*;

    /// What was written.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is written of an event outside of requests, and of one within.
    async fn written(is_json: bool) -> (String, String) {
        context::set_user_key(b"key");
        let written = Written::default();
        let writer = {
            let written = written.clone();
            move || written.clone()
        };
        let subscriber = tracing_subscriber::registry().with(lines(is_json, false, writer));
        let _guard = tracing::subscriber::set_default(subscriber);
        info!("outside");
        let service = service_fn(|()| async {
            context::set_user(&"alice".into());
            warn!(path = "}", "within");
            Ok::<_, Infallible>(())
        });
        context::InContext::new(service).oneshot(()).await.unwrap();
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert!(!text.contains("alice"), "{text}");
        let (outside, within) = text.trim_end().split_once('\n').unwrap();
        (outside.to_owned(), within.to_owned())
    }

    #[tokio::test]
    async fn each_line_says_for_whom_it_is_as_far_as_that_is_known() {
        let user = || context::UserHash::of("alice").unwrap().to_string();
        let (outside, within) = written(true).await;
        let outside: Value = serde_json::from_str(&outside).unwrap();
        assert_eq!(
            (&outside["request"], &outside["level"]),
            (&Value::Null, &"INFO".into())
        );
        let within: Value = serde_json::from_str(&within).unwrap();
        assert_eq!(within["fields"]["path"], "}");
        assert_eq!(within["fields"]["message"], "within");
        assert_eq!(within["user"], user());
        assert_eq!(within["request"].as_str().unwrap().len(), 32);
        assert!(within["connection"].is_u64());
        let (outside, within) = written(false).await;
        assert!(outside.ends_with("outside"), "{outside}");
        assert!(
            within.contains(" connection=") && within.contains(" request="),
            "{within}"
        );
        assert!(within.ends_with(&format!(" user={}", user())), "{within}");
    }

    #[test]
    fn a_filter_is_levels_and_nothing_that_would_silence_by_mistake() {
        for good in [
            "info",
            "off",
            "warn,gateway::socket=debug",
            "info, hyper=trace,tower_sso=off",
        ] {
            let filter: LogFilter = good.parse().unwrap();
            assert_eq!(filter.as_str(), good);
            EnvFilter::try_new(filter.directives()).unwrap();
        }
        for (bad, named) in [
            ("", "``"),
            ("inf", "`inf`"),
            ("INFO", "`INFO`"),
            ("gateway=debug", "`gateway=debug`"),
            ("info,gateway", "`gateway`"),
            ("info,gateway=loud", "`gateway=loud`"),
            ("info,gateway::=debug", "`gateway::=debug`"),
            ("info,[span]=debug", "`[span]=debug`"),
            ("info,", "``"),
        ] {
            let error = bad.parse::<LogFilter>().unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("{named} is no level")),
                "{bad}: {error}"
            );
        }
    }
}
