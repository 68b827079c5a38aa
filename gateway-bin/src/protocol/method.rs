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
    const fn of(name: &'static str) -> Self {
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
    const fn of_session(name: &'static str, session: SessionField) -> Self {
        let mut method = Self::of_agent(name);
        method.session = session;
        method
    }

    /// About the user's agent.
    const fn of_agent(name: &'static str) -> Self {
        let mut method = Self::of(name);
        method.takes_agent = true;
        method
    }

    const fn fixed(name: &'static str, payload: &'static str) -> Self {
        let mut method = Self::of(name);
        method.answer = Answer::Fixed(payload);
        method
    }

    const fn shows(mut self, view: View) -> Self {
        self.answer = Answer::Instance(view);
        self
    }

    const fn starts(mut self, starts_run: StartsRun) -> Self {
        self.starts_run = starts_run;
        self
    }

    const fn takes(mut self, fields: &'static [Field]) -> Self {
        self.fields = fields;
        self
    }
}

/// Parameters of a conversation's history.
const HISTORY: &[Field] = &[
    Field::Cursor,
    Field::InputRunIds,
    Field::Limit,
    Field::MaxBytes,
    Field::MaxChars,
    Field::MessageId,
    Field::Offset,
    Field::PendingBefore,
    Field::SessionId,
    // A session of the agent by the short id in the page's address, in place of its key.
    Field::ShortId,
    Field::SlugHint,
];

/// The declared methods, sorted by name. What the shipped page of OpenClaw 2026.9.6 needs to list, to chat, to attach and to
/// tidy up is among them, and nothing that is about the host or about others.
pub static METHODS: &[Method] = &[
    Method::of_agent("agent.identity.get"),
    Method::of("agent.wait").takes(&[Field::RunId, Field::TimeoutMs]),
    Method::of("agents.list").shows(View::Agents),
    Method::of_session("chat.abort", SessionField::SessionKey).takes(&[Field::RunId]),
    Method::of_session("chat.history", SessionField::SessionKey).takes(HISTORY),
    Method::of_session("chat.metadata", SessionField::SessionKey),
    Method::of_session("chat.send", SessionField::SessionKey)
        .starts(StartsRun::Yes)
        .takes(&[
            Field::Attachments,
            // Not into channels, which nobody here has.
            Field::Deliver,
            Field::ExpectedLeafEntryId,
            Field::ExpectedPermissionMode,
            Field::ExpectedSessionRoutingContract,
            Field::ExpectedToolOverrides,
            Field::IdempotencyKey,
            Field::Message,
            Field::QueueMode,
            Field::SessionId,
            Field::Thinking,
            Field::TimeoutMs,
        ]),
    Method::of_session("chat.startup", SessionField::SessionKey).takes(HISTORY),
    // Nobody's agent runs by a clock here.
    Method::fixed(
        "cron.list",
        r#"{"snapshotRevision":"0","jobs":[],"total":0,"offset":0,"limit":50,"hasMore":false,"nextOffset":null}"#,
    ),
    Method::fixed(
        "cron.status",
        r#"{"enabled":false,"jobs":0,"nextWakeAtMs":null}"#,
    ),
    Method::fixed("environments.list", r#"{"environments":[]}"#),
    renewal(),
    Method::of("health").shows(View::Health),
    Method::of_session("models.list", SessionField::SessionKey).takes(&[Field::View]),
    Method::fixed("plugins.list", r#"{"plugins":[]}"#),
    Method::fixed("progressCard.get", r#"{"card":null}"#),
    // Names the workspaces and agents of everybody, roles or not.
    Method::fixed("projects.list", r#"{"projects":[]}"#),
    // Refused, it is asked every three seconds for ever.
    Method::fixed("question.list", r#"{"questions":[]}"#),
    // Names everybody, roles or not.
    Method::fixed(
        "session.members.listEvidence",
        r#"{"members":[],"identities":[]}"#,
    ),
    Method::fixed("session.typing", r#"{"ok":true,"broadcast":false}"#),
    // The page's stop button for a run that it has not started: after a reload, or in another tab.
    Method::of_session("sessions.abort", SessionField::Key)
        .takes(&[Field::ClearQueued, Field::RunId]),
    Method::of_session("sessions.branches.list", SessionField::SessionKey),
    Method::fixed("sessions.companion.state", r#"{"exchanges":[]}"#),
    Method::of_session("sessions.create", SessionField::NewKey)
        .starts(StartsRun::WithMessage)
        .shows(View::Session)
        .takes(&[
            Field::Attachments,
            Field::Category,
            Field::EmitCommandHooks,
            Field::IdempotencyKey,
            Field::Label,
            Field::Message,
            Field::Model,
            Field::ThinkingLevel,
            Field::TimeoutMs,
            Field::TitleSource,
        ]),
    Method::of_session("sessions.delete", SessionField::Key)
        .shows(View::Session)
        .takes(&[
            Field::ArchivedOnly,
            Field::DeleteTranscript,
            Field::ExpectedLifecycleRevision,
            Field::ExpectedSessionId,
            Field::ExpectedSessionUpdatedAt,
        ]),
    Method::of_session("sessions.describe", SessionField::Key)
        .takes(&[Field::IncludeDerivedTitles, Field::IncludeLastMessage]),
    Method::fixed("sessions.groups.list", r#"{"groups":[]}"#),
    Method::of_agent("sessions.list")
        .shows(View::Sessions)
        .takes(&[
            Field::ActiveMinutes,
            Field::ActiveOnly,
            Field::ArchivedToo,
            Field::BoardFace,
            Field::ConfiguredAgentsOnly,
            Field::ExcludeCron,
            Field::ExcludeSubagents,
            Field::ExcludeSystem,
            Field::IncludeActivitySummary,
            Field::IncludeDerivedTitles,
            Field::IncludeGlobal,
            Field::IncludeLastMessage,
            Field::IncludeUnknown,
            Field::Limit,
            Field::Offset,
            Field::OwnerFirst,
            Field::Pinned,
            Field::RequireLastInteraction,
            Field::Search,
            Field::SortBy,
            Field::SpawnedBy,
        ]),
    Method::of_session("sessions.messages.subscribe", SessionField::Key),
    Method::of_session("sessions.messages.unsubscribe", SessionField::Key),
    Method::fixed("sessions.observer.visibility", r#"{"ok":true}"#),
    Method::of_session("sessions.patch", SessionField::Key)
        .shows(View::Session)
        .takes(&[
            Field::Archived,
            Field::Category,
            Field::Color,
            Field::ExpectedLifecycleRevision,
            Field::ExpectedMarkedUnreadAt,
            Field::ExpectedSessionId,
            Field::Icon,
            Field::Label,
            Field::Model,
            Field::Pinned,
            Field::ThinkingLevel,
            Field::Unread,
        ]),
    Method::of_session("sessions.resolve", SessionField::Key)
        .shows(View::Resolved)
        .takes(&[Field::AllowMissing, Field::ShortId, Field::SlugHint]),
    Method::of("sessions.subscribe"),
    Method::of("system-presence").shows(View::Presence),
    Method::fixed("taskSuggestions.list", r#"{"suggestions":[]}"#),
    Method::fixed("tasks.list", r#"{"tasks":[]}"#),
    // The profile that belongs to the connection.
    Method::of("users.self"),
];

const fn renewal() -> Method {
    let mut method = Method::of(RENEW).takes(&[Field::Token]);
    method.answer = Answer::Renewal;
    method
}

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
    fn fixed_answers_are_json_objects() {
        for method in METHODS {
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
