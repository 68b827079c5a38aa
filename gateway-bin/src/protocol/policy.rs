//! What a client may do at an instance: a table of methods and one of events, each row with its reason. What is in
//! neither is refused.

use std::fmt;

use super::method::{Method, find_method};
use super::methods::ROWS;

/// Whose instance it is, and so which column of the table holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Policy {
    /// Several people's: a person reaches their own sessions, and nothing else.
    Pool,
    /// One person's: they reach what is in it, and not what runs it.
    Cell,
}

/// What becomes of a method.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Verdict {
    /// It passes.
    Pass,
    /// It is refused.
    Refuse(Reason),
    /// No row is for it: refused, since nobody has looked at it yet.
    Unknown,
}

/// One method of the table.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// In a pool.
    pub pool: Pool,
    /// In a cell.
    pub cell: Cell,
    /// For whoever reads the table.
    pub why: &'static str,
    /// Whether an instance names it in `hello-ok`.
    pub advertised: Advertised,
}

/// The column of pools.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Pool {
    /// Let through, checked as the method says.
    Pass(Method),
    /// Refused.
    Refuse(Reason),
}

/// The column of cells.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Cell {
    /// Let through.
    Pass,
    /// Refused, for the reason that pools have.
    Refuse,
}

/// Whether an instance names a method in `hello-ok`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Advertised {
    /// Every one does.
    Yes,
    /// One with the bundled plugins does.
    WithPlugins,
    /// None does, and answers it all the same.
    No,
}

/// Why something is refused, in words for the person who tried it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// It administers the instance.
    Administers,
    /// It is about requests of agents for approval, of whomever.
    Approvals,
    /// It sends through messengers, or sets them up.
    Channels,
    /// It handles the credentials of the instance or of its people.
    Credentials,
    /// It pairs or uses other devices.
    Devices,
    /// It shows or changes what everybody at the instance has in common, or what others have.
    Everybody,
    /// It makes the instance call somebody else's service.
    External,
    /// It is a part of the handshake.
    Handshake,
    /// It reads or uses the host that the instance runs on.
    Host,
    /// Nobody has needed it yet, so nobody has looked at what it would open.
    NotOffered,
    /// It lets others into a session.
    Shares,
    /// It begins work that nobody would count.
    Uncounted,
    /// It names its object by an id of which nobody can tell whose it is.
    Unowned,
}

/// What becomes of the method `name` under `policy`.
#[must_use]
pub fn judge(policy: Policy, name: &str) -> Verdict {
    if policy == Policy::Pool && find_method(name).is_some() {
        return Verdict::Pass;
    }
    let Some(row) = find_row(name) else {
        return Verdict::Unknown;
    };
    match (policy, row.pool, row.cell) {
        (Policy::Pool, Pool::Pass(_), _) | (Policy::Cell, _, Cell::Pass) => Verdict::Pass,
        (_, Pool::Refuse(reason), _) => Verdict::Refuse(reason),
        (Policy::Cell, Pool::Pass(_), Cell::Refuse) => Verdict::Refuse(Reason::Administers),
    }
}

/// The row of the method `name`.
#[must_use]
pub fn find_row(name: &str) -> Option<&'static Row> {
    let found = ROWS.binary_search_by(|row| row.name.cmp(name)).ok()?;
    ROWS.get(found)
}

/// A method that passes in a pool, and in a cell.
pub(super) const fn passes(method: Method, why: &'static str) -> Row {
    Row {
        name: method.name,
        pool: Pool::Pass(method),
        cell: Cell::Pass,
        why,
        advertised: Advertised::Yes,
    }
}

/// A method that is refused in a pool.
pub(super) const fn refused(name: &'static str, reason: Reason, cell: Cell) -> Row {
    Row {
        name,
        pool: Pool::Refuse(reason),
        cell,
        why: reason.sentence(),
        advertised: Advertised::Yes,
    }
}

// === impl Row ===

impl Row {
    /// Answered, and not named in `hello-ok`.
    pub(super) const fn hidden(mut self) -> Self {
        self.advertised = Advertised::No;
        self
    }

    /// There only with the plugins that come with the instance.
    pub(super) const fn of_plugin(mut self) -> Self {
        self.advertised = Advertised::WithPlugins;
        self
    }
}

// === impl Reason ===

impl Reason {
    /// What goes behind "this is not available here:".
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Administers => {
                "only an administrator may change or see how this service is set up"
            }
            Self::Approvals => "agents here ask nobody for approval",
            Self::Channels => "no messengers are connected here",
            Self::Credentials => "credentials are kept for you, and are not handled here",
            Self::Devices => "no other devices are connected here",
            Self::Everybody => "it would show or change what belongs to others too",
            Self::External => "it would call a service outside",
            Self::Handshake => "it belongs to the beginning of a connection",
            Self::Host => "it would use the computer that this service runs on",
            Self::NotOffered => "it is not offered",
            Self::Shares => "conversations are not shared here",
            Self::Uncounted => "it would start work that does not count towards your quota",
            Self::Unowned => "it cannot be told whose this is",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_whole() {
        assert!(
            ROWS.is_sorted_by(|a, b| a.name < b.name),
            "binary search needs the order"
        );
        // 489 of the instance, one of ours.
        assert_eq!(ROWS.len(), 490);
        for row in ROWS {
            assert_eq!(find_row(row.name).map(|row| row.name), Some(row.name));
            assert!(!row.why.is_empty(), "{}", row.name);
        }
    }

    #[test]
    fn d3_39_each_policy_has_a_column_and_refuses_what_is_in_no_row() {
        for (name, pool, cell) in [
            ("chat.send", Verdict::Pass, Verdict::Pass),
            ("gateway.renew", Verdict::Pass, Verdict::Pass),
            (
                "agents.files.get",
                Verdict::Refuse(Reason::Everybody),
                Verdict::Pass,
            ),
            ("unknown.future", Verdict::Unknown, Verdict::Unknown),
            ("Chat.send", Verdict::Unknown, Verdict::Unknown),
            ("", Verdict::Unknown, Verdict::Unknown),
        ] {
            assert_eq!(judge(Policy::Pool, name), pool, "{name}");
            assert_eq!(judge(Policy::Cell, name), cell, "{name}");
        }
    }

    #[test]
    fn d3_39_nobody_administers_an_instance_not_even_of_their_own() {
        for row in ROWS {
            let family = [
                "config.",
                "update.",
                "secrets.",
                "exec.approvals.",
                "device.",
                "wizard.",
            ];
            if !family.iter().any(|family| row.name.starts_with(family)) {
                continue;
            }
            for policy in [Policy::Pool, Policy::Cell] {
                let verdict = judge(policy, row.name);
                assert!(matches!(verdict, Verdict::Refuse(_)), "{}", row.name);
            }
        }
    }

    #[test]
    fn what_passes_in_a_pool_passes_in_a_cell() {
        for row in ROWS {
            if let Pool::Pass(_) = row.pool {
                assert_eq!(row.cell, Cell::Pass, "{}", row.name);
            }
        }
    }
}
