//! A user's own view of what an instance tells about everybody.
//!
//! Built by lists of what is shown: a member that a later OpenClaw adds is left out until somebody has looked at it.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::extended::ExtendedChat;

/// Whose view it is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Owner {
    /// The user's agent.
    pub agent: Arc<str>,
    /// The name under which the instance knows the user.
    pub user: Arc<str>,
    /// What the instance is told beside the user's messages, if it is told anything.
    pub extended: Option<Arc<ExtendedChat>>,
}

/// What of a method's result a user may see.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum View {
    /// All of it: it is about the user's own session or agent.
    Whole,
    /// Of the agents the own one.
    Agents,
    /// The instance's health as far as it is the own agent's.
    Health,
    /// Of who is connected oneself.
    Presence,
    /// Which of the own sessions it is that was looked for.
    Resolved,
    /// What became of an own session, without the paths of the host.
    Session,
    /// Of the sessions the own ones.
    Sessions,
}

/// Members of a list of agents.
const AGENTS: [&str; 4] = ["mainKey", "ownership", "scope", "selectionRequired"];

/// Members of an instance's health.
const HEALTH: [&str; 4] = ["durationMs", "heartbeatSeconds", "ok", "ts"];

/// Members of an agent's health.
const AGENT_HEALTH: [&str; 4] = ["agentId", "heartbeat", "isDefault", "name"];

/// Members of a connection. Its address and its device are the gateway's.
const CONNECTION: [&str; 13] = [
    "clientId",
    "host",
    "instanceId",
    "lastActivityAt",
    "mode",
    "onlineSince",
    "platform",
    "reason",
    "roles",
    "scopes",
    "text",
    "ts",
    "user",
];

/// Members of the answer about one session.
const SESSION: [&str; 9] = [
    "deleted",
    "key",
    "ok",
    "resolved",
    "runId",
    "runStarted",
    "sessionId",
    "status",
    "agentId",
];

/// Members of a session that was looked for. The shipped page makes its address of what it is called here and in the
/// list of sessions: where only one of them says so, it goes back and forth for ever.
const RESOLVED: [&str; 7] = [
    "agentId",
    "boardFace",
    "boardPresentation",
    "displayName",
    "key",
    "missing",
    "ok",
];

/// Members of a stored session.
const ENTRY: [&str; 14] = [
    "archivedAt",
    "chatType",
    "createdAt",
    "displayName",
    "label",
    "lastInteractionAt",
    "model",
    "modelProvider",
    "parentSessionKey",
    "pinnedAt",
    "sessionId",
    "sessionStartedAt",
    "thinkingLevel",
    "updatedAt",
];

/// Members of a list of sessions.
const SESSIONS: [&str; 5] = ["defaults", "hasMore", "limitApplied", "nextOffset", "ts"];

// === impl Owner ===

impl Owner {
    /// The owner of `agent`, whom the instance knows as `user`.
    #[must_use]
    pub fn new(agent: impl Into<Arc<str>>, user: impl Into<Arc<str>>) -> Self {
        Self {
            agent: agent.into(),
            user: user.into(),
            extended: None,
        }
    }

    /// The same, at an instance that is told more beside a message.
    #[must_use]
    pub fn with_extended(mut self, extended: Option<ExtendedChat>) -> Self {
        self.extended = extended.map(Arc::new);
        self
    }

    /// The key of the session that a client means which names none.
    #[must_use]
    pub fn main_session(&self) -> String {
        match &self.extended {
            Some(extended) => extended.key().to_owned(),
            None => format!("agent:{}:main", self.agent),
        }
    }

    /// Whether `key` names a session of the own agent, or the own conversation.
    #[must_use]
    pub fn has_session(&self, key: &str) -> bool {
        key.strip_prefix("agent:")
            .and_then(|rest| rest.strip_prefix(&*self.agent))
            .is_some_and(|rest| rest.starts_with(':'))
            || self
                .extended
                .as_ref()
                .is_some_and(|extended| extended.session() == key)
    }

    /// A response frame of the instance as this user may see it, and the ids of the sessions that it lists; `None` if it
    /// has not the form that is expected.
    #[must_use]
    pub fn response(&self, text: &str, view: View) -> Option<(String, Vec<Box<str>>)> {
        #[derive(Deserialize)]
        struct Response<'a> {
            #[serde(borrow)]
            id: &'a RawValue,
            #[serde(borrow)]
            payload: &'a RawValue,
        }
        let Response { id, payload } = serde_json::from_str(text).ok()?;
        let shown = self.read(payload, view)?;
        let rows = shown.get("sessions").and_then(Value::as_array);
        let sessions = rows
            .into_iter()
            .flatten()
            .filter_map(|row| text_of(row, "sessionId").map(Into::into))
            .collect();
        let frame = format!(
            r#"{{"type":"res","id":{},"ok":true,"payload":{shown}}}"#,
            id.get()
        );
        Some((frame, sessions))
    }

    /// The payload of a result or event as this user may see it, from its text.
    pub(super) fn read(&self, payload: &RawValue, view: View) -> Option<Value> {
        // Whenever somebody comes or goes, everybody is told of everybody: what is not one's own is not built.
        if view == View::Presence && payload.get().starts_with('{') {
            #[derive(Deserialize)]
            struct Presence<'a> {
                #[serde(borrow)]
                presence: Vec<&'a RawValue>,
            }
            let Presence { presence } = serde_json::from_str(payload.get()).ok()?;
            let user = serde_json::to_string(&self.user).ok()?;
            let user = memchr::memmem::Finder::new(&user);
            let named = presence
                .into_iter()
                .filter(|connection| user.find(connection.get().as_bytes()).is_some());
            let named = named.filter_map(|connection| serde_json::from_str(connection.get()).ok());
            return Some(json!({ "presence": self.own_connections(named.collect()) }));
        }
        self.show(serde_json::from_str(payload.get()).ok()?, view)
    }

    /// The payload of a result or event as this user may see it.
    #[must_use]
    pub fn show(&self, payload: Value, view: View) -> Option<Value> {
        match view {
            View::Whole => Some(payload),
            View::Agents => self.agents(payload),
            View::Health => self.health(payload),
            View::Presence => self.presence(payload),
            View::Resolved => self.resolved(payload),
            View::Session => session(payload),
            View::Sessions => self.sessions(payload),
        }
    }

    fn agents(&self, payload: Value) -> Option<Value> {
        let mut payload = object(payload)?;
        let agents = list(payload.remove("agents")?)?;
        let own = agents
            .into_iter()
            .find(|agent| text_of(agent, "id") == Some(&*self.agent));
        let mut shown = keep(payload, &AGENTS);
        shown.insert("defaultId".to_owned(), (*self.agent).into());
        shown.insert(
            "agents".to_owned(),
            own.map_or_else(|| json!([]), |own| json!([own])),
        );
        Some(shown.into())
    }

    fn health(&self, payload: Value) -> Option<Value> {
        let mut payload = object(payload)?;
        let own = payload
            .remove("agents")
            .and_then(list)
            .unwrap_or_default()
            .into_iter()
            .find(|agent| text_of(agent, "agentId") == Some(&*self.agent));
        let mut own = own.and_then(object).unwrap_or_default();
        let sessions = own.remove("sessions").and_then(object).unwrap_or_default();
        let sessions = Value::from(keep(sessions, &["count", "recent"]));
        let mut agent = keep(own, &AGENT_HEALTH);
        agent.insert("agentId".to_owned(), (*self.agent).into());
        agent.insert("isDefault".to_owned(), true.into());
        agent.insert("sessions".to_owned(), sessions.clone());
        let mut shown = keep(payload, &HEALTH);
        shown.insert("defaultAgentId".to_owned(), (*self.agent).into());
        shown.insert("agents".to_owned(), json!([agent]));
        shown.insert("sessions".to_owned(), sessions);
        shown.insert("channels".to_owned(), json!({}));
        shown.insert("channelOrder".to_owned(), json!([]));
        shown.insert("channelLabels".to_owned(), json!({}));
        Some(shown.into())
    }

    /// A method answers with the list, an event holds it.
    fn presence(&self, payload: Value) -> Option<Value> {
        match payload {
            Value::Array(connections) => Some(self.own_connections(connections)),
            Value::Object(mut payload) => {
                let connections = list(payload.remove("presence")?)?;
                Some(json!({ "presence": self.own_connections(connections) }))
            }
            _ => None,
        }
    }

    fn own_connections(&self, connections: Vec<Value>) -> Value {
        connections
            .into_iter()
            .filter_map(object)
            .filter(|connection| {
                let user = connection
                    .get("user")
                    .and_then(|user| text_of(user, "email"));
                user == Some(&*self.user)
            })
            .map(|connection| Value::from(keep(connection, &CONNECTION)))
            .collect()
    }

    /// One session, or several of which it is not clear which was meant.
    fn resolved(&self, payload: Value) -> Option<Value> {
        let is_own = |row: &Map<String, Value>| {
            let key = row.get("key").and_then(Value::as_str);
            key.is_none_or(|key| self.has_session(key))
        };
        let mut payload = object(payload).filter(is_own)?;
        let candidates = payload.remove("candidates").and_then(list);
        let mut shown = keep(payload, &RESOLVED);
        if let Some(candidates) = candidates {
            let own = candidates.into_iter().filter_map(object);
            let own = own.filter(|row| row.contains_key("key") && is_own(row));
            let own: Vec<_> = own.map(|row| Value::from(keep(row, &RESOLVED))).collect();
            shown.insert("candidates".to_owned(), own.into());
        }
        Some(shown.into())
    }

    fn sessions(&self, payload: Value) -> Option<Value> {
        let mut payload = object(payload)?;
        let total = payload.get("totalCount").and_then(Value::as_u64);
        let mut rows = list(payload.remove("sessions")?)?;
        let all = rows.len();
        rows.retain(|row| text_of(row, "key").is_some_and(|key| self.has_session(key)));
        let foreign = u64::try_from(all.saturating_sub(rows.len())).unwrap_or(u64::MAX);
        let mut shown = keep(payload, &SESSIONS);
        shown.insert("count".to_owned(), rows.len().into());
        if let Some(total) = total {
            shown.insert(
                "totalCount".to_owned(),
                total.saturating_sub(foreign).into(),
            );
        }
        shown.insert("sessions".to_owned(), rows.into());
        Some(shown.into())
    }
}

fn session(payload: Value) -> Option<Value> {
    let mut payload = object(payload)?;
    let entry = payload.remove("entry").and_then(object);
    let mut shown = keep(payload, &SESSION);
    if let Some(entry) = entry {
        shown.insert("entry".to_owned(), keep(entry, &ENTRY).into());
    }
    Some(shown.into())
}

fn keep(members: Map<String, Value>, names: &[&str]) -> Map<String, Value> {
    members
        .into_iter()
        .filter(|(name, _)| names.contains(&&**name))
        .collect()
}

fn object(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(members) => Some(members),
        _ => None,
    }
}

fn list(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(items) => Some(items),
        _ => None,
    }
}

fn text_of<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name)?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(view: View, payload: Value) -> String {
        let owner = Owner::new("slot-001", "alice");
        owner.show(payload, view).unwrap().to_string()
    }

    #[test]
    fn of_all_agents_the_own_one_is_shown_as_the_default() {
        let shown = show(
            View::Agents,
            json!({"defaultId": "main", "mainKey": "main", "scope": "per-sender", "later": "/etc", "agents": [
                {"id": "main", "workspace": "/srv/main"}, {"id": "slot-001", "workspace": "/own"}, {"id": "slot-002"}]}),
        );
        assert!(!shown.contains("slot-002") && !shown.contains("/srv") && !shown.contains("/etc"));
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(shown["defaultId"], "slot-001");
        assert_eq!(
            shown["agents"],
            json!([{"id": "slot-001", "workspace": "/own"}])
        );
    }

    #[test]
    fn health_is_that_of_the_own_agent() {
        let shown = show(
            View::Health,
            json!({"ok": true, "ts": 1, "defaultAgentId": "main", "eventLoop": {"x": 1},
                "channels": {"telegram": {}},
                "agents": [
                    {"agentId": "slot-001", "sessions": {"path": "/state", "count": 1, "recent": [{"key": "agent:slot-001:main"}]}},
                    {"agentId": "slot-002", "sessions": {"recent": [{"key": "agent:slot-002:main"}]}}],
                "sessions": {"path": "/state", "recent": [{"key": "agent:slot-002:main"}]}}),
        );
        for foreign in ["slot-002", "/state", "telegram", "eventLoop", "\"main\""] {
            assert!(!shown.contains(foreign), "{foreign}: {shown}");
        }
        assert_eq!(shown.matches("agent:slot-001:main").count(), 2);
    }

    #[test]
    fn of_who_is_connected_everybody_sees_only_themselves() {
        let connections = json!([
            {"host": "h", "mode": "gateway", "instanceId": "i"},
            {"user": {"email": "alice", "name": "alice"}, "instanceId": "mine", "ip": "192.0.2.1", "deviceId": "d"},
            {"user": {"email": "alice2", "name": "alice"}}, {"user": {"email": "bob"}}]);
        let own = r#"[{"instanceId":"mine","user":{"email":"alice","name":"alice"}}]"#;
        assert_eq!(show(View::Presence, connections.clone()), own);
        let of_event = json!({ "presence": connections });
        let own = format!(r#"{{"presence":{own}}}"#);
        assert_eq!(show(View::Presence, of_event.clone()), own);
        let text = serde_json::value::to_raw_value(&of_event).unwrap();
        let read = Owner::new("slot-001", "alice").read(&text, View::Presence);
        assert_eq!(read.unwrap().to_string(), own);
    }

    #[test]
    fn of_all_sessions_the_own_ones_are_shown_and_counted() {
        let shown = show(
            View::Sessions,
            json!({"path": "/state", "count": 3, "totalCount": 7, "hasMore": true, "owners": [{"label": "bob"}], "sessions": [
                {"key": "agent:slot-001:main"}, {"key": "agent:slot-0011:main"}, {"key": "agent:slot-002:main"}, {}]}),
        );
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(
            shown,
            json!({"count": 1, "totalCount": 4, "hasMore": true, "sessions": [{"key": "agent:slot-001:main"}]})
        );
    }

    #[test]
    fn what_became_of_a_session_is_shown_without_the_hosts_paths() {
        let shown = show(
            View::Session,
            json!({"ok": true, "path": "/state", "key": "agent:slot-001:x", "archived": ["/state/x"], "deleted": true,
                "entry": {"label": "l", "sessionRoot": "/root", "skillsSnapshot": {"prompt": "/skills"}}}),
        );
        assert_eq!(
            shown,
            r#"{"deleted":true,"entry":{"label":"l"},"key":"agent:slot-001:x","ok":true}"#
        );
    }

    #[test]
    fn a_session_that_was_looked_for_is_called_as_in_the_list() {
        let shown = show(
            View::Resolved,
            json!({"ok": true, "key": "agent:slot-001:x", "agentId": "slot-001", "displayName": "echo: hi", "path": "/state"}),
        );
        assert_eq!(
            shown,
            r#"{"agentId":"slot-001","displayName":"echo: hi","key":"agent:slot-001:x","ok":true}"#
        );
        let shown = show(
            View::Resolved,
            json!({"ok": false, "candidates": [
                {"key": "agent:slot-001:x", "displayName": "mine", "path": "/state"},
                {"key": "agent:slot-002:x", "displayName": "bobs"}, {"displayName": "nobodys"}]}),
        );
        assert_eq!(
            shown,
            r#"{"candidates":[{"displayName":"mine","key":"agent:slot-001:x"}],"ok":false}"#
        );
        let owner = Owner::new("slot-001", "alice");
        let foreign = json!({"ok": true, "key": "agent:slot-002:x", "displayName": "bobs"});
        assert_eq!(owner.show(foreign, View::Resolved), None);
    }

    #[test]
    fn a_result_of_another_form_is_not_shown() {
        let owner = Owner::new("slot-001", "alice");
        for view in [View::Agents, View::Sessions, View::Presence, View::Session] {
            assert_eq!(owner.show(json!("x"), view), None, "{view:?}");
        }
        assert_eq!(owner.response("{}", View::Agents), None);
    }
}
