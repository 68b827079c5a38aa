use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// One statement and its values, of which `$1` is the first. In it `now_ms()` is the time of the database, on which all
/// gateways agree, in milliseconds since 1970.
#[derive(Clone)]
pub(super) struct Statement {
    sql: &'static str,
    values: Vec<Value>,
}

/// A value of a statement. A time is a number of milliseconds since 1970.
#[derive(Clone)]
pub(super) enum Value {
    Text(Option<String>),
    Integer(Option<i64>),
    Boolean(bool),
    Bytes(Vec<u8>),
}

/// What stands for the time in statements.
const NOW: &str = "now_ms()";

// === impl Statement ===

impl Statement {
    pub(super) const fn new(sql: &'static str) -> Self {
        Self {
            sql,
            values: Vec::new(),
        }
    }

    /// The same with one more value.
    pub(super) fn with(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    pub(super) fn values(&self) -> &[Value] {
        &self.values
    }

    /// What it does, as a label: the word that it begins with.
    pub(super) fn operation(&self) -> &'static str {
        let mut words = self.sql.split_ascii_whitespace();
        match words.next() {
            Some("SELECT") => "select",
            Some("INSERT") => "insert",
            Some("UPDATE") => "update",
            Some("DELETE") => "delete",
            _ => "other",
        }
    }

    pub(super) fn for_sqlite(&self) -> String {
        // Its own `$1` is a name, and not the first value wherever it stands.
        let now = "CAST(round(unixepoch('subsec') * 1000) AS INTEGER)";
        self.sql.replace('$', "?").replace(NOW, now)
    }

    pub(super) fn for_postgres(&self) -> String {
        // When its transaction began: unlike the time right now it can be looked up in an index.
        self.sql
            .replace(NOW, "(extract(epoch FROM now()) * 1000)::bigint")
    }
}

// === impl Value ===

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<&Arc<str>> for Value {
    fn from(text: &Arc<str>) -> Self {
        Self::from(&**text)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Some(text))
    }
}

impl From<Option<&str>> for Value {
    fn from(text: Option<&str>) -> Self {
        Self::Text(text.map(str::to_owned))
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        Self::Text(text)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Integer(Some(number.into()))
    }
}

impl From<u64> for Value {
    /// Amounts: greater ones than fit are refused before they come here.
    fn from(amount: u64) -> Self {
        Self::Integer(Some(i64::try_from(amount).unwrap_or(i64::MAX)))
    }
}

impl From<Option<u64>> for Value {
    fn from(amount: Option<u64>) -> Self {
        amount.map_or(Self::Integer(None), Self::from)
    }
}

impl From<Duration> for Value {
    fn from(length: Duration) -> Self {
        // As a number that can be added to any time.
        let millis = i64::try_from(length.as_millis()).unwrap_or(i64::MAX);
        Self::Integer(Some(millis.min(i64::MAX >> 8)))
    }
}

impl From<SystemTime> for Value {
    fn from(at: SystemTime) -> Self {
        Self::from(at.duration_since(UNIX_EPOCH).unwrap_or_default())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.to_vec())
    }
}
