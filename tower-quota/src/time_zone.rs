use std::fmt;

/// A time zone, by its name in the IANA Time Zone Database: whose days and months are meant.
///
/// The default is UTC.
///
/// # Examples
///
/// ```
/// use tower_quota::TimeZone;
///
/// let berlin = TimeZone::named("Europe/Berlin")?;
/// assert_eq!(berlin.name(), "Europe/Berlin");
/// assert!(TimeZone::named("Europe/Atlantis").is_err());
/// # Ok::<(), tower_quota::UnknownTimeZone>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TimeZone(jiff::tz::TimeZone);

// === impl TimeZone ===

impl TimeZone {
    /// Coordinated Universal Time.
    pub const UTC: Self = Self(jiff::tz::TimeZone::UTC);

    /// The zone of this name, whatever case its letters are in.
    ///
    /// # Errors
    ///
    /// [`UnknownTimeZone`] if the database has none of this name.
    pub fn named(name: &str) -> Result<Self, UnknownTimeZone> {
        match jiff::tz::TimeZone::get(name) {
            Ok(zone) => Ok(Self(zone)),
            Err(_) => Err(UnknownTimeZone(name.into())),
        }
    }

    /// The name in the database, as it is spelt there.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    pub(crate) const fn zone(&self) -> &jiff::tz::TimeZone {
        &self.0
    }
}

impl Default for TimeZone {
    fn default() -> Self {
        Self::UTC
    }
}

impl fmt::Display for TimeZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No time zone has this name.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not the name of a time zone; one is \"Europe/Berlin\"")]
pub struct UnknownTimeZone(Box<str>);
