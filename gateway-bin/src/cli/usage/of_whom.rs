use clap::Args;

use crate::operator::percent_encoded;

/// Whose usage, of which days.
#[derive(Debug, Args)]
pub(super) struct OfWhom {
    /// The user's id; everybody if it is left out.
    #[arg(value_name = "USER", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    user: Option<String>,
    /// The first day, in UTC; 30 days ago if it is left out.
    #[arg(long, value_name = "DAY", value_parser = day)]
    from: Option<String>,
    /// The last day, in UTC; today if it is left out.
    #[arg(long, value_name = "DAY", value_parser = day)]
    to: Option<String>,
}

fn day(text: &str) -> Result<String, &'static str> {
    match crate::prices::parse_day(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err("write a day like 2026-01-31"),
    }
}

// === impl OfWhom ===

impl OfWhom {
    /// A route, with this and more as its query.
    pub(super) fn path<'a>(
        &'a self,
        route: &str,
        more: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
    ) -> String {
        let own = [("user", &self.user), ("from", &self.from), ("to", &self.to)];
        let own = own.map(|(name, value)| (name, value.as_deref()));
        let pairs = more.into_iter().chain(own);
        let pairs = pairs.filter_map(|(name, value)| {
            let value = percent_encoded(value?);
            Some(format!("{name}={value}"))
        });
        let query: Vec<String> = pairs.collect();
        format!("{route}?{}", query.join("&"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_encoded() {
        let of = OfWhom {
            user: Some("corp|a&b".to_owned()),
            from: Some("2026-11-01".to_owned()),
            to: None,
        };
        let more = [("limit", Some("5")), ("before", None)];
        assert_eq!(
            of.path("/api/admin/usage/records", more),
            "/api/admin/usage/records?limit=5&user=corp%7Ca%26b&from=2026-11-01"
        );
    }
}
