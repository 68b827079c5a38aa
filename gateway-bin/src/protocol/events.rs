//! Every event of OpenClaw 2026.9.6, sorted by name: who gets it in a pool, and why. One that is not here nobody gets, and
//! those that plugins define are not here.
//!
//! In a cell all of them pass: whatever the instance says there, it says to its owner.

use super::view::View;

/// Who gets an event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Scope {
    /// Everybody.
    All,
    /// The user whose agent it is about.
    Own,
    /// Everybody, each a view of their own.
    Shown(View),
    /// Nobody: about others, about the host, or unknown.
    Nobody,
}

/// One event of the table.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct EventRow {
    /// Its name.
    pub name: &'static str,
    /// Who gets it.
    pub scope: Scope,
    /// For whoever reads the table.
    pub why: &'static str,
    /// Whether an instance names it in `hello-ok`.
    pub advertised: bool,
}

/// The table.
pub const EVENTS: &[EventRow] = &[
    event("agent", Scope::Own, "what a run does"),
    event(
        "board.changed",
        Scope::Nobody,
        "boards are not offered here",
    )
    .hidden(),
    event(
        "board.command",
        Scope::Nobody,
        "boards are not offered here",
    )
    .hidden(),
    event("chat", Scope::Own, "what a run says"),
    event("chat.metadata.changed", Scope::All, "has no content"),
    event(
        "chat.send_timing",
        Scope::Nobody,
        "the page does without it",
    )
    .hidden(),
    event(
        "chat.side_result",
        Scope::Own,
        "the answer to a side question",
    )
    .hidden(),
    event(
        "config.changed",
        Scope::Nobody,
        "is for who administers the instance",
    )
    .hidden(),
    event(
        "connect.challenge",
        Scope::Nobody,
        "the gateway's own handshake is with the instance",
    ),
    event(
        "controlUi.sessionPullRequests.changed",
        Scope::Nobody,
        "the page does without it",
    ),
    event(
        "cron",
        Scope::Nobody,
        "the methods that go with it are not offered",
    ),
    event(
        "device.pair.changed",
        Scope::Nobody,
        "no devices or nodes are paired here",
    ),
    event(
        "device.pair.requested",
        Scope::Nobody,
        "no devices or nodes are paired here",
    ),
    event(
        "device.pair.resolved",
        Scope::Nobody,
        "no devices or nodes are paired here",
    ),
    event(
        "device.pair.setup.completed",
        Scope::Nobody,
        "no devices or nodes are paired here",
    ),
    event(
        "device.pair.setup.deliveryUncertain",
        Scope::Nobody,
        "no devices or nodes are paired here",
    ),
    event(
        "exec.approval.requested",
        Scope::Nobody,
        "agents here ask nobody for approval",
    ),
    event(
        "exec.approval.resolved",
        Scope::Nobody,
        "agents here ask nobody for approval",
    ),
    event(
        "gateway.suspension",
        Scope::Nobody,
        "is for who administers the instance",
    ),
    event(
        "health",
        Scope::Shown(View::Health),
        "agents and sessions of everybody; shows the own",
    ),
    event(
        "heartbeat",
        Scope::Nobody,
        "the methods that go with it are not offered",
    ),
    event(
        "mentions.changed",
        Scope::Nobody,
        "the methods that go with it are not offered",
    ),
    event("models.snapshot", Scope::Nobody, "the page does without it"),
    event(
        "node.hostStats",
        Scope::Nobody,
        "no devices or nodes are paired here",
    ),
    event(
        "node.invoke.cancel",
        Scope::Nobody,
        "no devices or nodes are paired here",
    ),
    event(
        "node.invoke.input",
        Scope::Nobody,
        "no devices or nodes are paired here",
    ),
    event(
        "node.invoke.request",
        Scope::Nobody,
        "no devices or nodes are paired here",
    ),
    event(
        "node.pair.requested",
        Scope::Nobody,
        "no devices or nodes are paired here",
    ),
    event(
        "node.pair.resolved",
        Scope::Nobody,
        "no devices or nodes are paired here",
    ),
    event(
        "node.presence",
        Scope::Nobody,
        "no devices or nodes are paired here",
    ),
    event(
        "node.runnerInventory.changed",
        Scope::Nobody,
        "no devices or nodes are paired here",
    ),
    event(
        "openclaw.approval.requested",
        Scope::Nobody,
        "agents here ask nobody for approval",
    ),
    event(
        "openclaw.approval.resolved",
        Scope::Nobody,
        "agents here ask nobody for approval",
    ),
    event(
        "plugin.approval.requested",
        Scope::Nobody,
        "agents here ask nobody for approval",
    ),
    event(
        "plugin.approval.resolved",
        Scope::Nobody,
        "agents here ask nobody for approval",
    ),
    event(
        "plugins.changed",
        Scope::Nobody,
        "is about what is installed for everybody",
    ),
    event(
        "plugins.controlUi.changed",
        Scope::Nobody,
        "is about what is installed for everybody",
    ),
    event(
        "plugins.install.progress",
        Scope::Nobody,
        "is about what is installed for everybody",
    ),
    event("portal.changed", Scope::Nobody, "the page does without it"),
    event(
        "presence",
        Scope::Shown(View::Presence),
        "who is connected; shows the own connections",
    ),
    event(
        "progressCard.changed",
        Scope::Nobody,
        "the methods that go with it are not offered",
    ),
    event(
        "question.requested",
        Scope::Nobody,
        "questions are not offered here",
    ),
    event(
        "question.resolved",
        Scope::Nobody,
        "questions are not offered here",
    ),
    event(
        "session.approval",
        Scope::Nobody,
        "agents here ask nobody for approval",
    ),
    event("session.message", Scope::Own, "what was said"),
    event(
        "session.observer",
        Scope::Nobody,
        "sessions are not shared here",
    ),
    event("session.operation", Scope::Own, "what becomes of a session"),
    event(
        "session.sharing",
        Scope::Nobody,
        "sessions are not shared here",
    ),
    event(
        "session.sharing.evidence",
        Scope::Nobody,
        "sessions are not shared here",
    ),
    event(
        "session.suggestion",
        Scope::Nobody,
        "sessions are not shared here",
    ),
    event("session.tool", Scope::Own, "what a tool does"),
    event(
        "session.typing",
        Scope::Nobody,
        "sessions are not shared here",
    ),
    event(
        "sessions.catalog.host",
        Scope::Nobody,
        "the page does without it",
    )
    .hidden(),
    event("sessions.changed", Scope::Own, "what becomes of a session"),
    event("shutdown", Scope::All, "says that the instance ends"),
    event(
        "skills.changed",
        Scope::Nobody,
        "is about what is installed for everybody",
    ),
    event("talk.event", Scope::Nobody, "there is no speech here"),
    event("talk.mode", Scope::Nobody, "there is no speech here"),
    event(
        "talk.voice.change",
        Scope::Nobody,
        "there is no speech here",
    ),
    event(
        "task",
        Scope::Nobody,
        "the methods that go with it are not offered",
    ),
    event(
        "task.suggestion",
        Scope::Nobody,
        "the methods that go with it are not offered",
    ),
    event(
        "terminal.data",
        Scope::Nobody,
        "there are no terminals here",
    ),
    event(
        "terminal.exit",
        Scope::Nobody,
        "there are no terminals here",
    ),
    event("tick", Scope::All, "says that the connection lives"),
    event("ui.command", Scope::Nobody, "the page does without it"),
    event(
        "update.available",
        Scope::Nobody,
        "is for who administers the instance",
    ),
    event(
        "update.run.changed",
        Scope::Nobody,
        "is for who administers the instance",
    ),
    event(
        "users.prefs.changed",
        Scope::Nobody,
        "the methods that go with it are not offered",
    ),
    event(
        "voicewake.changed",
        Scope::Nobody,
        "no devices or nodes are paired here",
    ),
    event(
        "voicewake.routing.changed",
        Scope::Nobody,
        "no devices or nodes are paired here",
    ),
];

/// Who gets the event of that name.
#[must_use]
pub fn event_scope(name: &str) -> Scope {
    SOMEBODYS
        .binary_search_by(|row| row.name.cmp(name))
        .ok()
        .and_then(|found| SOMEBODYS.get(found))
        .map_or(Scope::Nobody, |row| row.scope)
}

/// Those that somebody gets, sorted by name.
static SOMEBODYS: [EventRow; PASSING] = {
    let mut passing = [event("", Scope::Nobody, ""); PASSING];
    let (mut free, mut rows): (&mut [EventRow], _) = (&mut passing, EVENTS);
    while let [row, rest @ ..] = rows {
        if let Scope::All | Scope::Own | Scope::Shown(_) = row.scope
            && let [slot, others @ ..] = free
        {
            *slot = *row;
            free = others;
        }
        rows = rest;
    }
    passing
};

/// How many somebody gets.
const PASSING: usize = {
    let (mut passing, mut rows) = (0, EVENTS);
    while let [row, rest @ ..] = rows {
        if let Scope::All | Scope::Own | Scope::Shown(_) = row.scope {
            passing += 1;
        }
        rows = rest;
    }
    passing
};

const fn event(name: &'static str, scope: Scope, why: &'static str) -> EventRow {
    EventRow {
        name,
        scope,
        why,
        advertised: true,
    }
}

// === impl EventRow ===

impl EventRow {
    /// Sent, and not named in `hello-ok`.
    const fn hidden(mut self) -> Self {
        self.advertised = false;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_each_event_has_its_scope() {
        assert!(
            EVENTS.is_sorted_by(|a, b| a.name < b.name),
            "binary search needs the order"
        );
        assert_eq!(EVENTS.iter().filter(|row| row.advertised).count(), 64);
        for row in EVENTS {
            assert_eq!(event_scope(row.name), row.scope, "{}", row.name);
            assert!(!row.why.is_empty(), "{}", row.name);
        }
    }

    #[test]
    fn d3_38_an_event_that_is_in_no_row_is_nobodys() {
        for name in [
            "",
            "Chat",
            "chat ",
            "plugin.x",
            "unknown.future",
            "session.messages",
        ] {
            assert_eq!(event_scope(name), Scope::Nobody, "{name}");
        }
    }
}
