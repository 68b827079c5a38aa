use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use http::Method;
use jiff::{SignedDuration, Timestamp, Unit};
use serde_json::{Value, json};

use super::limit_name::LimitName;
use super::{User, quota_of};
use crate::clock;
use crate::config::duration;
use crate::operator::{ClientError, OperatorClient};

/// The arguments of `gateway quotas grant`.
#[derive(Debug, Args)]
pub(super) struct Grant {
    #[command(flatten)]
    user: User,
    /// How much more.
    #[arg(value_name = "LIMIT=AMOUNT")]
    more: More,
    #[command(flatten)]
    end: End,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct End {
    /// When it ends.
    #[arg(long, value_name = "TIME", value_parser = until)]
    until: Option<Timestamp>,
    /// How long it lasts, like 12h or 7d.
    #[arg(long = "for", value_name = "DURATION", value_parser = lasting)]
    lasting: Option<Duration>,
}

/// How much more there is to be of a limit: `tokens/day=50000`.
#[derive(Clone, Debug, PartialEq)]
struct More {
    limit: LimitName,
    amount: Value,
}

// === impl Grant ===

impl Grant {
    /// Grants it, and answers what there is then.
    pub(super) async fn run(self, client: &OperatorClient) -> Result<Value, ClientError> {
        let until = self.end.until.or(self.end.lasting.map(after));
        let body = json!({
            "dimension": self.more.limit.dimension.as_str(),
            "window": self.more.limit.window.as_str(),
            "amount": self.more.amount,
            "expiresAt": until.map(|until| until.to_string()),
        });
        let path = format!("{}/grants", quota_of(&self.user.user));
        client.request(Method::POST, &path, Some(&body)).await
    }
}

/// Reads when a grant ends, which must be still to come.
fn until(text: &str) -> Result<Timestamp, String> {
    let until = text.parse::<Timestamp>();
    let until = until.map_err(|_| "must be a time like 2027-01-31T00:00:00Z".to_owned())?;
    match until > now() {
        true => Ok(until),
        false => Err("must be a time that is still to come, like 2027-01-31T00:00:00Z".to_owned()),
    }
}

/// Reads how long a grant lasts.
fn lasting(text: &str) -> Result<Duration, String> {
    duration::parse(text).ok_or_else(|| duration::FORM.to_owned())
}

/// The moment that is `lasting` from now, to the second.
fn after(lasting: Duration) -> Timestamp {
    let end = SignedDuration::try_from(lasting)
        .ok()
        .and_then(|lasting| now().checked_add(lasting).ok());
    let end = end.unwrap_or(Timestamp::MAX);
    end.round(Unit::Second).unwrap_or(end)
}

fn now() -> Timestamp {
    Timestamp::try_from(clock::now()).unwrap_or(Timestamp::UNIX_EPOCH)
}

// === impl More ===

impl FromStr for More {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((limit, amount)) = text.split_once('=') else {
            return Err(
                "must be a limit, `=` and how much more: tokens/day=50000 or cost/month=10.00"
                    .to_owned(),
            );
        };
        let limit: LimitName = limit.parse()?;
        let amount = limit.amount(amount)?;
        Ok(Self { limit, amount })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn more_is_a_limit_and_an_amount() {
        let more: More = "cost/month=10".parse().unwrap();
        assert_eq!(
            (more.limit.to_string(), more.amount),
            ("cost/month".to_owned(), json!("10.00"))
        );
        for (text, said) in [
            ("tokens/day", "must be a limit, `=` and how much more"),
            ("tokens/day=", "a whole number"),
            ("tokens/day=-1", "a whole number"),
            ("tokens/day=unlimited", "a whole number"),
            ("tokens/day=plan", "a whole number"),
            ("cost/month=NaN", "US dollars"),
            ("plan=pro", "like tokens/day"),
            ("calls/year=1", "like tokens/day"),
        ] {
            let error = text.parse::<More>().unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn a_grant_ends_in_the_future() {
        assert!(until("9000-01-31T00:00:00+01:00").is_ok());
        for text in ["2020-01-31T00:00:00Z", "2027-01-31", "tomorrow", "7d", ""] {
            assert!(until(text).is_err(), "{text}");
        }
        for text in ["-7d", "0d", "7", "NaNd", "7w"] {
            assert!(lasting(text).is_err(), "{text}");
        }
        let century = lasting("36600d").unwrap();
        let end = after(century);
        assert!(end > now() && end.subsec_nanosecond() == 0);
    }
}
