use serde::Serialize;

use super::names::Family;
use crate::{
    Allowance, Amounts, Demand, Dimension, Subject, Window,
    remote::{Calendar, Known, Level, Question},
    unix_ms::UnixMs,
};

/// What a script is asked, beside its keys. Which of it counts is the script's to say.
#[derive(Debug, Default, Serialize)]
pub(super) struct Ask {
    /// Of which the counters are.
    pub(super) epoch: String,
    /// Whether the epoch is the last of the keys.
    pub(super) checks: bool,
    /// The time, where it is not the server's that counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) now: Option<u64>,
    /// Past this nobody waits for the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) latest: Option<u64>,
    /// What the keys of reservations begin with.
    held: String,
    /// What the keys of accounts begin with.
    family: String,
    levels: Vec<AskLevel>,
    /// How the keys of a reservation's accounts go on, as a JSON text, so that they can be compared.
    accounts: String,
    id: String,
    lease: u64,
    min: [u32; 6],
    want: [u32; 6],
    used: [u32; 6],
    at: u64,
    version: String,
    next: String,
    terms: String,
    #[serde(skip)]
    pub(super) keys: Vec<String>,
}

#[derive(Debug, Serialize)]
struct AskLevel {
    version: String,
    limits: Vec<AskLimit>,
    grants: Vec<AskGrant>,
    periods: Vec<AskPeriods>,
}

#[derive(Debug, Serialize)]
struct AskLimit {
    dimension: u8,
    window: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    most: Option<[u32; 2]>,
}

#[derive(Debug, Serialize)]
struct AskGrant {
    dimension: u8,
    window: &'static str,
    more: [u32; 2],
    expires: u64,
}

#[derive(Debug, Serialize)]
struct AskPeriods {
    window: &'static str,
    bounds: [u64; 4],
}

// === impl Ask ===

impl Ask {
    /// About a subject and each of its parents.
    fn about<'a>(family: &Family, chain: impl Iterator<Item = &'a Subject>) -> Self {
        let accounts: Vec<_> = chain.map(Family::account_in).collect();
        let mut keys = vec![family.leases()];
        keys.extend(accounts.iter().map(|account| family.accounts() + account));
        Self {
            held: family.held(),
            family: family.accounts(),
            // Strings always serialise.
            accounts: serde_json::to_string(&accounts).unwrap_or_default(),
            keys,
            ..Self::default()
        }
    }

    /// About one subject alone.
    fn alone(family: &Family, subject: &Subject) -> Self {
        Self {
            held: family.held(),
            family: family.accounts(),
            keys: vec![family.leases(), family.account(subject)],
            ..Self::default()
        }
    }

    pub(super) fn reserve(family: &Family, question: &Question, id: u128) -> Self {
        let demands = |part: fn(Demand) -> u64| {
            all_halves(|dimension| part(question.demands.demanded(dimension)))
        };
        Self {
            levels: question.levels.iter().map(AskLevel::new).collect(),
            min: demands(|demand| demand.min),
            want: demands(|demand| demand.want),
            ..Self::about(family, question.levels.iter().map(|level| &level.subject))
        }
        .naming(id)
    }

    /// About a reservation.
    pub(super) fn ticket(family: &Family, subject: &Subject, id: u128) -> Self {
        let chain: Vec<_> = subject.chain().collect();
        Self::about(family, chain.iter()).naming(id)
    }

    pub(super) fn count(
        family: &Family,
        subject: &Subject,
        at: UnixMs,
        used: Amounts,
        known: &Known,
    ) -> Self {
        let levels = subject.chain();
        let levels: Vec<_> = levels.map(|s| known.level(s, Calendar(at))).collect();
        Self {
            levels: levels.iter().map(AskLevel::new).collect(),
            at: at.get(),
            ..Self::about(family, levels.iter().map(|level| &level.subject))
        }
        .using(used)
    }

    pub(super) fn standings(family: &Family, subject: &Subject, level: &Level) -> Self {
        Self {
            levels: vec![AskLevel::new(level)],
            ..Self::alone(family, subject)
        }
    }

    pub(super) fn terms(family: &Family, subject: &Subject) -> Self {
        Self::alone(family, subject)
    }

    pub(super) fn set_terms(
        family: &Family,
        subject: &Subject,
        version: u64,
        terms: String,
    ) -> Self {
        Self {
            version: version.to_string(),
            next: version.saturating_add(1).to_string(),
            terms,
            ..Self::alone(family, subject)
        }
    }

    pub(super) fn using(mut self, used: Amounts) -> Self {
        self.used = all_halves(|dimension| used.get(dimension));
        self
    }

    pub(super) const fn leasing(mut self, lease: u64) -> Self {
        self.lease = lease;
        self
    }

    pub(super) fn naming(mut self, id: u128) -> Self {
        self.id = format!("{id:032x}");
        self.keys.push(format!("{}{}", self.held, self.id));
        self
    }
}

// === impl AskLevel ===

impl AskLevel {
    fn new(level: &Level) -> Self {
        let limits = level.limits.iter().map(|limit| AskLimit {
            dimension: number(limit.dimension()),
            window: limit.window().as_str(),
            most: match limit.allowance() {
                Allowance::AtMost(amount) => Some(halves(amount)),
                Allowance::Unlimited => None,
            },
        });
        let grants = level.grants.iter().map(|grant| AskGrant {
            dimension: number(grant.dimension()),
            window: grant.window().as_str(),
            more: halves(grant.amount()),
            expires: UnixMs::from(grant.expires_at()).get(),
        });
        let periods = level.periods.iter().map(|periods| AskPeriods {
            window: periods.window.as_str(),
            bounds: periods.bounds.map(UnixMs::get),
        });
        Self {
            version: level.version.to_string(),
            limits: limits.collect(),
            grants: grants.collect(),
            periods: periods.collect(),
        }
    }
}

/// A dimension's place in amounts, from one on.
const fn number(dimension: Dimension) -> u8 {
    match dimension {
        Dimension::Tokens => 1,
        Dimension::Cost => 2,
        Dimension::Calls => 3,
    }
}

pub(super) fn dimension_of(number: &str) -> Option<Dimension> {
    match number {
        "1" => Some(Dimension::Tokens),
        "2" => Some(Dimension::Cost),
        "3" => Some(Dimension::Calls),
        _ => None,
    }
}

pub(super) fn window_of(name: &str) -> Option<Window> {
    Window::ALL
        .into_iter()
        .find(|window| window.as_str() == name)
}

/// An amount as the scripts take it, which know no whole numbers of 64 bits: its higher half and its lower one.
const fn halves(amount: u64) -> [u32; 2] {
    [(amount >> 32) as u32, amount as u32]
}

fn all_halves(amount: impl Fn(Dimension) -> u64) -> [u32; 6] {
    let [tokens, cost, calls] = Dimension::ALL.map(|dimension| halves(amount(dimension)));
    let ([a, b], [c, d], [e, f]) = (tokens, cost, calls);
    [a, b, c, d, e, f]
}

/// An amount as the scripts give it.
pub(super) fn amount_of(digits: &str) -> Option<u64> {
    u64::from_str_radix(digits, 16).ok()
}

pub(super) fn amounts_of(digits: &str) -> Option<Amounts> {
    let [tokens, cost, calls] = [0..16, 16..32, 32..48].map(|place| digits.get(place));
    Some(
        Amounts::new()
            .tokens(amount_of(tokens?)?)
            .nano_usd(amount_of(cost?)?)
            .calls(amount_of(calls?)?),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_come_back_from_their_digits() {
        let amounts = Amounts::new().tokens(u64::MAX).nano_usd(1).calls(1 << 53);
        let halves = all_halves(|dimension| amounts.get(dimension));
        let text: String = halves.iter().map(|half| format!("{half:08x}")).collect();
        assert_eq!(amounts_of(&text), Some(amounts));
        for text in ["", "7", "g000000000000000", &"ü".repeat(24)] {
            assert_eq!(amounts_of(text), None);
        }
        for dimension in Dimension::ALL {
            let number = number(dimension).to_string();
            assert_eq!(dimension_of(&number), Some(dimension));
        }
    }
}
