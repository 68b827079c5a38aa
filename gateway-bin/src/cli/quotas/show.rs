use std::fmt::Write;

use serde_json::Value;

use super::answer::{Explanation, Grant, Listed, OwnLimit, Plan, Plans, Quota, Shown, Standing};
use crate::cli::operate::{Table, printable};

/// What stands where there is nothing.
const NONE: &str = "-";

/// Everybody of whom something is special.
pub(super) fn listed(all: &[Listed]) -> String {
    if all.is_empty() {
        return "nobody has anything beside their plan\n".to_owned();
    }
    let mut table = Table::new(["USER", "PLAN", "TIME ZONE", "LIMITS", "GRANTS"]);
    for Listed { user, quota } in all {
        let limits = quota.limits.iter().map(own_limit).collect::<Vec<_>>();
        let grants = quota.grants.iter().map(grant).collect::<Vec<_>>();
        table.row([
            user.clone(),
            plan(quota),
            zone(quota),
            or_none(limits.join(" ")),
            or_none(grants.join(", ")),
        ]);
    }
    table.to_string()
}

/// The plans, with a line for each limit.
pub(super) fn plans(Plans { time_zone, plans }: &Plans) -> String {
    let mut table = Table::new(["PLAN", "LIMIT", "AMOUNT"]);
    for Plan { plan, limits } in plans {
        if limits.is_empty() {
            table.row([plan.clone(), NONE.to_owned(), "no limits".to_owned()]);
        }
        for limit in limits {
            let name = name(&limit.dimension, &limit.window);
            table.row([plan.clone(), name, amount(&limit.dimension, &limit.limit)]);
        }
    }
    format!("{table}\ndays and months in {}\n", printable(time_zone))
}

/// What is special about somebody, and how they stand.
pub(super) fn shown(Shown { quota, standing }: &Shown) -> String {
    let mut text = Table::new(["PLAN", "TIME ZONE", "VERSION"]);
    text.row([plan(quota), zone(quota), quota.version.to_string()]);
    let mut text = text.to_string();
    if !quota.limits.is_empty() {
        let mut table = Table::new(["OWN LIMIT", "AMOUNT"]);
        for own in &quota.limits {
            let amount = amount(&own.dimension, &own.limit);
            table.row([name(&own.dimension, &own.window), amount]);
        }
        text += &format!("\n{table}");
    }
    if !quota.grants.is_empty() {
        let mut table = Table::new(["GRANT", "AMOUNT", "UNTIL"]);
        for grant in &quota.grants {
            let amount = amount(&grant.dimension, &grant.amount);
            let name = name(&grant.dimension, &grant.window);
            table.row([name, amount, grant.expires_at.clone()]);
        }
        text += &format!("\n{table}");
    }
    text + "\n" + &standings(standing)
}

/// Every limit of somebody, and the sentence that they would read.
pub(super) fn explained(Explanation { limits, run }: &Explanation) -> String {
    let mut text = standings(limits);
    if run.allowed {
        return text + "\na run would begin now\n";
    }
    text += "\na run would be refused now:\n";
    for reason in &run.reasons {
        let (message, resets_at) = (printable(&reason.message), printable(&reason.resets_at));
        // Writing to a String does not fail.
        let _ = writeln!(text, "  {message} Resets at {resets_at}.");
    }
    text
}

fn standings(standings: &[Standing]) -> String {
    if standings.is_empty() {
        return "no limits\n".to_owned();
    }
    let mut table = Table::new([
        "LIMIT",
        "ALLOWED",
        "USED",
        "RESERVED",
        "REMAINING",
        "RESETS AT",
    ]);
    for standing in standings {
        let of = |value| amount(&standing.dimension, value);
        table.row([
            name(&standing.dimension, &standing.window),
            of(&standing.limit),
            of(&standing.used),
            of(&standing.reserved),
            of(&standing.remaining),
            standing.resets_at.clone(),
        ]);
    }
    table.to_string()
}

fn own_limit(own: &OwnLimit) -> String {
    let amount = amount(&own.dimension, &own.limit);
    format!("{}={amount}", name(&own.dimension, &own.window))
}

fn grant(grant: &Grant) -> String {
    let amount = amount(&grant.dimension, &grant.amount);
    let name = name(&grant.dimension, &grant.window);
    format!("{name}+{amount} until {}", grant.expires_at)
}

fn name(dimension: &str, window: &str) -> String {
    format!("{dimension}/{window}")
}

/// An amount of the API: money is a text there.
fn amount(dimension: &str, amount: &Value) -> String {
    match amount {
        Value::Null => "unlimited".to_owned(),
        Value::String(amount) if dimension == "cost" => format!("${amount}"),
        amount => amount.to_string(),
    }
}

fn plan(quota: &Quota) -> String {
    quota.plan.clone().unwrap_or_else(|| "default".to_owned())
}

fn zone(quota: &Quota) -> String {
    or_none(quota.time_zone.clone().unwrap_or_default())
}

fn or_none(text: String) -> String {
    match text.is_empty() {
        true => NONE.to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_explanation_has_every_limit_and_the_sentence_of_a_refusal() {
        let limit = json!({
            "dimension": "cost", "window": "month", "limit": "100.00", "used": "100.50", "reserved": "0.00",
            "remaining": "0.00", "resetsAt": "2027-02-01T00:00:00Z",
        });
        let free = json!({
            "dimension": "calls", "window": "day", "limit": null, "used": 3, "reserved": 1, "remaining": null,
            "resetsAt": "2027-01-02T00:00:00Z",
        });
        let reason = json!({
            "code": "MONTHLY_COST_EXCEEDED", "message": "Monthly cost limit exceeded ($100.50 / $100.00).",
            "resetsAt": "2027-02-01T00:00:00Z",
        });
        let explanation =
            json!({"limits": [limit, free], "run": {"allowed": false, "reasons": [reason]}});
        let explanation = serde_json::from_value(explanation).unwrap();
        assert_eq!(
            explained(&explanation),
            "\
LIMIT       ALLOWED    USED     RESERVED  REMAINING  RESETS AT
cost/month  $100.00    $100.50  $0.00     $0.00      2027-02-01T00:00:00Z
calls/day   unlimited  3        1         unlimited  2027-01-02T00:00:00Z

a run would be refused now:
  Monthly cost limit exceeded ($100.50 / $100.00). Resets at 2027-02-01T00:00:00Z.
"
        );
    }

    #[test]
    fn a_list_has_a_line_for_each_person() {
        let bob = json!({
            "user": "bob", "version": 1, "plan": null, "timeZone": "Europe/Berlin",
            "limits": [
                {"dimension": "tokens", "window": "day", "limit": 5},
                {"dimension": "cost", "window": "day", "limit": null},
            ],
            "grants": [{"dimension": "cost", "window": "day", "amount": "1.50", "expiresAt": "2027-01-02T00:00:00Z"}],
        });
        let listed = listed(&[serde_json::from_value(bob).unwrap()]);
        assert_eq!(
            listed,
            "\
USER  PLAN     TIME ZONE      LIMITS                           GRANTS
bob   default  Europe/Berlin  tokens/day=5 cost/day=unlimited  cost/day+$1.50 until 2027-01-02T00:00:00Z
"
        );
    }
}
