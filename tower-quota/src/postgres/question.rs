//! Questions as the server's functions read them.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::{
    Allowance, Amounts, Demand, Dimension, Subject, Terms, Ticket, Window,
    remote::{Level, Question, terms_json},
    unix_ms::UnixMs,
};

/// An object.
pub(super) type Text = Map<String, Value>;

pub(super) fn reserve(question: &Question, id: u128, lease_ms: u64) -> Text {
    let demand = |part: fn(Demand) -> u64| {
        Dimension::ALL.map(|dimension| part(question.demands.demanded(dimension)))
    };
    text([
        ("root", root(question.demands.subject())),
        ("id", uuid(id)),
        ("lease", lease_ms.into()),
        ("min", json!(demand(|demand| demand.min))),
        ("want", json!(demand(|demand| demand.want))),
        ("members", members(question.demands.subject())),
        ("levels", question.levels.iter().map(level).collect()),
    ])
}

pub(super) fn ticket(ticket: &Ticket) -> Text {
    let subject = ticket.subject();
    text([
        ("root", root(subject)),
        ("id", uuid(ticket.id())),
        ("members", members(subject)),
    ])
}

/// About the levels of one subject.
pub(super) fn levels(subject: &Subject, levels: &[Level]) -> Text {
    text([
        ("root", root(subject)),
        ("members", members(subject)),
        ("levels", levels.iter().map(level).collect()),
    ])
}

pub(super) fn terms(subject: &Subject) -> Text {
    text([("root", root(subject)), ("member", member(subject))])
}

pub(super) fn set_terms(subject: &Subject, terms: &Terms) -> Text {
    text([
        ("root", root(subject)),
        ("member", member(subject)),
        ("version", terms.version().into()),
        ("terms", terms_json(terms).into()),
    ])
}

pub(super) fn amounts(amounts: Amounts) -> Value {
    json!(Dimension::ALL.map(|dimension| amounts.get(dimension)))
}

pub(super) fn moment(at: UnixMs) -> Value {
    at.get().into()
}

fn text<const N: usize>(members: [(&str, Value); N]) -> Text {
    let members = members.into_iter();
    members.map(|(name, value)| (name.into(), value)).collect()
}

fn level(level: &Level) -> Value {
    // One that is unlimited refuses nobody.
    let limits = level.limits.iter().filter_map(|limit| {
        let Allowance::AtMost(amount) = limit.allowance() else {
            return None;
        };
        let names = (dimension(limit.dimension()), window(limit.window()));
        Some(json!([names.0, names.1, amount]))
    });
    let grants = level.grants.iter().map(|grant| {
        let names = (dimension(grant.dimension()), window(grant.window()));
        let until = UnixMs::from(grant.expires_at()).get();
        json!([names.0, names.1, grant.amount(), until])
    });
    let periods = level.periods.iter().map(|candidates| {
        let [before, start, end, after] = candidates.bounds.map(UnixMs::get);
        json!([window(candidates.window), before, start, end, after])
    });
    json!({
        "member": member(&level.subject),
        "version": level.version,
        "limits": limits.collect::<Value>(),
        "grants": grants.collect::<Value>(),
        "periods": periods.collect::<Value>(),
    })
}

/// The first is 1, as in the server's arrays.
const fn dimension(dimension: Dimension) -> u8 {
    match dimension {
        Dimension::Tokens => 1,
        Dimension::Cost => 2,
        Dimension::Calls => 3,
    }
}

pub(super) const fn window(window: Window) -> u8 {
    match window {
        Window::Minute => 0,
        Window::Hour => 1,
        Window::Day => 2,
        Window::Month => 3,
    }
}

fn root(subject: &Subject) -> Value {
    hexadecimal(subject.root())
}

/// The name among its family's. The outermost has none, since a member may be called the same.
fn member(subject: &Subject) -> Value {
    match subject.is_root() {
        true => Value::Null,
        false => hexadecimal(subject.name()),
    }
}

/// The subject's, and then each of its parents'.
fn members(subject: &Subject) -> Value {
    subject.chain().map(|subject| member(&subject)).collect()
}

fn hexadecimal(name: &str) -> Value {
    let mut text = String::with_capacity(2 * name.len());
    for byte in name.bytes() {
        // A string takes everything.
        let _ = write!(text, "{byte:02x}");
    }
    text.into()
}

fn uuid(id: u128) -> Value {
    format!("{id:032x}").into()
}
