//! The methods that a person may call; every other one is refused, future ones too.

use super::params::Field;
use super::view::View;

/// What the gateway knows of a method.
#[derive(Debug)]
pub struct Method {
    /// Its name.
    pub name: &'static str,
    /// The parameter that names a session, if it has one.
    pub session: SessionField,
    /// Whether it takes `agentId`, which then is the user's.
    pub takes_agent: bool,
    /// Whether it starts a run, and so takes one call of the quota.
    pub starts_run: StartsRun,
    /// What of its result is shown.
    pub view: View,
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

/// The declared methods, sorted by name.
pub static METHODS: &[Method] = &[
    Method {
        name: "agent.identity.get",
        session: SessionField::None,
        takes_agent: true,
        starts_run: StartsRun::No,
        view: View::Whole,
        fields: &[],
    },
    Method {
        name: "agent.wait",
        session: SessionField::None,
        takes_agent: false,
        starts_run: StartsRun::No,
        view: View::Whole,
        fields: &[Field::RunId, Field::TimeoutMs],
    },
    Method {
        name: "agents.list",
        session: SessionField::None,
        takes_agent: false,
        starts_run: StartsRun::No,
        view: View::Agents,
        fields: &[],
    },
    Method {
        name: "chat.abort",
        session: SessionField::SessionKey,
        takes_agent: true,
        starts_run: StartsRun::No,
        view: View::Whole,
        fields: &[Field::RunId],
    },
    Method {
        name: "chat.history",
        session: SessionField::SessionKey,
        takes_agent: true,
        starts_run: StartsRun::No,
        view: View::Whole,
        fields: &[
            Field::Limit,
            Field::Offset,
            Field::Cursor,
            Field::MaxBytes,
            Field::MaxChars,
        ],
    },
    Method {
        name: "chat.metadata",
        session: SessionField::SessionKey,
        takes_agent: true,
        starts_run: StartsRun::No,
        view: View::Whole,
        fields: &[],
    },
    Method {
        name: "chat.send",
        session: SessionField::SessionKey,
        takes_agent: true,
        starts_run: StartsRun::Yes,
        view: View::Whole,
        fields: &[
            Field::Message,
            Field::IdempotencyKey,
            Field::SessionId,
            Field::Thinking,
            Field::QueueMode,
            Field::Attachments,
            Field::TimeoutMs,
        ],
    },
    Method {
        name: "health",
        session: SessionField::None,
        takes_agent: false,
        starts_run: StartsRun::No,
        view: View::Health,
        fields: &[],
    },
    Method {
        name: "models.list",
        session: SessionField::None,
        takes_agent: true,
        starts_run: StartsRun::No,
        view: View::Whole,
        fields: &[],
    },
    Method {
        name: "sessions.create",
        session: SessionField::None,
        takes_agent: true,
        starts_run: StartsRun::WithMessage,
        view: View::Session,
        fields: &[Field::Label, Field::Message],
    },
    Method {
        name: "sessions.delete",
        session: SessionField::Key,
        takes_agent: true,
        starts_run: StartsRun::No,
        view: View::Session,
        fields: &[Field::ArchivedOnly, Field::ExpectedSessionId],
    },
    Method {
        name: "sessions.describe",
        session: SessionField::Key,
        takes_agent: true,
        starts_run: StartsRun::No,
        view: View::Whole,
        fields: &[Field::IncludeDerivedTitles, Field::IncludeLastMessage],
    },
    Method {
        name: "sessions.list",
        session: SessionField::None,
        takes_agent: true,
        starts_run: StartsRun::No,
        view: View::Sessions,
        fields: &[
            Field::Limit,
            Field::Offset,
            Field::ActiveMinutes,
            Field::IncludeDerivedTitles,
            Field::IncludeLastMessage,
            Field::Search,
        ],
    },
    Method {
        name: "sessions.messages.subscribe",
        session: SessionField::Key,
        takes_agent: true,
        starts_run: StartsRun::No,
        view: View::Whole,
        fields: &[],
    },
    Method {
        name: "sessions.messages.unsubscribe",
        session: SessionField::Key,
        takes_agent: true,
        starts_run: StartsRun::No,
        view: View::Whole,
        fields: &[],
    },
    Method {
        name: "sessions.patch",
        session: SessionField::Key,
        takes_agent: true,
        starts_run: StartsRun::No,
        view: View::Session,
        fields: &[
            Field::Archived,
            Field::ExpectedSessionId,
            Field::Label,
            Field::Pinned,
            Field::Unread,
        ],
    },
    Method {
        name: "sessions.resolve",
        session: SessionField::Key,
        takes_agent: true,
        starts_run: StartsRun::No,
        view: View::Session,
        fields: &[],
    },
    Method {
        name: "sessions.subscribe",
        session: SessionField::None,
        takes_agent: false,
        starts_run: StartsRun::No,
        view: View::Whole,
        fields: &[],
    },
    Method {
        name: "system-presence",
        session: SessionField::None,
        takes_agent: false,
        starts_run: StartsRun::No,
        view: View::Presence,
        fields: &[],
    },
];

/// The declared method of that name.
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
        for method in METHODS {
            assert_eq!(find_method(method.name).map(|m| m.name), Some(method.name));
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
