//! The methods that a person may call; every other one is refused, future ones too.

use super::methods::ROWS;
use super::params::Field;
use super::policy::Pool;
use super::view::View;

/// What the gateway knows of a method.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// Its name.
    pub name: &'static str,
    /// The parameter that names a session, if it has one.
    pub session: SessionField,
    /// Whether it takes `agentId`, which then is the user's.
    pub takes_agent: bool,
    /// Whether it starts a run, and so takes one call of the quota.
    pub starts_run: StartsRun,
    /// Who answers it.
    pub answer: Answer,
    /// Further parameters that a client may set.
    pub(super) fields: &'static [Field],
}

/// Which parameter of a method names the session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum SessionField {
    /// None.
    None,
    /// `sessionKey`.
    SessionKey,
    /// `key`.
    Key,
    /// `key`, of a session that is to be made; the instance chooses one where it is not named.
    NewKey,
}

/// Whether a method starts a run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum StartsRun {
    /// Never.
    No,
    /// When it has a `message`.
    WithMessage,
    /// Always.
    Yes,
}

/// Who answers a method.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Answer {
    /// The instance; this is what of its result is shown.
    Instance(View),
    /// The gateway, always with this payload, whatever the parameters. For what the shipped page asks although it was
    /// not offered: refused, it would ask again, or show an error for something that nobody here has.
    Fixed(&'static str),
    /// The gateway: another credential takes the place of the one that the socket was opened with.
    Renewal,
}

/// Name of the method that only the gateway has.
pub const RENEW: &str = "gateway.renew";

// === impl Method ===

impl Method {
    /// A method that names no session and whose whole result is about the user.
    pub(super) const fn of(name: &'static str) -> Self {
        Self {
            name,
            session: SessionField::None,
            takes_agent: false,
            starts_run: StartsRun::No,
            answer: Answer::Instance(View::Whole),
            fields: &[],
        }
    }

    /// About a session of the user's agent.
    pub(super) const fn of_session(name: &'static str, session: SessionField) -> Self {
        let mut method = Self::of_agent(name);
        method.session = session;
        method
    }

    /// About the user's agent.
    pub(super) const fn of_agent(name: &'static str) -> Self {
        let mut method = Self::of(name);
        method.takes_agent = true;
        method
    }

    pub(super) const fn fixed(name: &'static str, payload: &'static str) -> Self {
        let mut method = Self::of(name);
        method.answer = Answer::Fixed(payload);
        method
    }

    pub(super) const fn shows(mut self, view: View) -> Self {
        self.answer = Answer::Instance(view);
        self
    }

    pub(super) const fn starts(mut self, starts_run: StartsRun) -> Self {
        self.starts_run = starts_run;
        self
    }

    pub(super) const fn takes(mut self, fields: &'static [Field]) -> Self {
        self.fields = fields;
        self
    }
}

/// The methods that pass in a pool, sorted by name: apart from all others, which nobody looks for but by mistake.
pub static METHODS: [Method; PASSING] = {
    let mut methods = [Method::of(""); PASSING];
    let (mut free, mut rows): (&mut [Method], _) = (&mut methods, ROWS);
    while let [row, rest @ ..] = rows {
        if let Pool::Pass(method) = row.pool
            && let [slot, others @ ..] = free
        {
            *slot = method;
            free = others;
        }
        rows = rest;
    }
    methods
};

/// How many pass.
const PASSING: usize = {
    let (mut passing, mut rows) = (0, ROWS);
    while let [row, rest @ ..] = rows {
        if let Pool::Pass(_) = row.pool {
            passing += 1;
        }
        rows = rest;
    }
    passing
};

/// The method of that name, if it passes in a pool.
#[must_use]
pub fn find_method(name: &str) -> Option<&'static Method> {
    METHODS
        .binary_search_by(|method| method.name.cmp(name))
        .ok()
        .and_then(|n| METHODS.get(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_each_name_is_found() {
        assert!(
            METHODS.is_sorted_by(|a, b| a.name < b.name),
            "binary search needs the order"
        );
        for method in &METHODS {
            assert_eq!(find_method(method.name).map(|m| m.name), Some(method.name));
        }
    }

    #[test]
    fn fixed_answers_are_json_objects() {
        for method in &METHODS {
            if let Answer::Fixed(payload) = method.answer {
                let payload: serde_json::Value = serde_json::from_str(payload).unwrap();
                assert!(payload.is_object(), "{}", method.name);
            }
        }
    }

    #[test]
    fn d3_39_methods_that_are_not_declared_are_not_found() {
        for name in [
            "config.get",
            "config.patch",
            "update.run",
            "exec.approvals.get",
            "users.list",
            "fleet.list",
            "secrets.list",
            "Chat.send",
            "chat.send ",
            "chat.inject",
            "agents.create",
            "tools.invoke",
            "",
            "unknown.future",
        ] {
            assert!(find_method(name).is_none(), "{name} must be refused");
        }
    }
}
