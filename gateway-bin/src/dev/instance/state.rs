use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_websockets::{CloseCode, Message};

use crate::clock;

/// Frames that may wait for a client; one that takes them slower is let go.
const QUEUE: usize = 1024;

/// Most messages of a session that are kept.
const MAX_MESSAGES: usize = 200;

/// Everything it knows.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) config: Value,
    pub(super) revision: u64,
    pub(super) profiles: Vec<Profile>,
    pub(super) sessions: BTreeMap<String, Session>,
    pub(super) runs: HashMap<String, Run>,
    connections: HashMap<u64, Connection>,
    next: u64,
}

/// Somebody who has connected once.
#[derive(Debug)]
pub(super) struct Profile {
    pub(super) id: String,
    pub(super) user: String,
    pub(super) role: Option<String>,
}

/// Who a connection is. Nobody in particular has the password.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Caller {
    Administrator,
    /// The person of that profile.
    Person(String),
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: String,
    pub(super) agent: String,
    pub(super) creator: Caller,
    pub(super) label: Option<String>,
    pub(super) archived: bool,
    pub(super) updated_at: u64,
    pub(super) messages: Vec<Value>,
}

#[derive(Debug)]
pub(super) struct Run {
    pub(super) session: String,
    pub(super) abort: CancellationToken,
    pub(super) is_over: bool,
}

#[derive(Debug)]
struct Connection {
    caller: Caller,
    outbox: mpsc::Sender<Message>,
    seq: u64,
    follows_all: bool,
    follows: HashSet<String>,
    instance_id: Option<String>,
    since: u64,
}

/// Milliseconds since 1970.
pub(super) fn now() -> u64 {
    u64::try_from(clock::now_ms()).unwrap_or(u64::MAX)
}

// === impl Instance ===

impl Instance {
    pub(super) fn new(config: Value) -> Self {
        Self {
            config,
            revision: 0,
            profiles: Vec::new(),
            sessions: BTreeMap::new(),
            runs: HashMap::new(),
            connections: HashMap::new(),
            next: 0,
        }
    }

    /// The id of a person's profile, made when they come for the first time.
    pub(super) fn profile_of(&mut self, user: &str) -> String {
        let known = self.profiles.iter().find(|profile| profile.user == user);
        if let Some(profile) = known {
            return profile.id.clone();
        }
        let id = uuid::Uuid::new_v4().to_string();
        self.profiles.push(Profile {
            id: id.clone(),
            user: user.to_owned(),
            role: None,
        });
        id
    }

    /// The definition of somebody's role; `None` where there are no roles.
    fn role(&self, caller: &Caller) -> Option<&Value> {
        let Caller::Person(id) = caller else {
            return None;
        };
        let roles = self.config.pointer("/gateway/roles")?;
        let own = self.profiles.iter().find(|profile| profile.id == *id);
        let own = own.and_then(|profile| profile.role.as_deref());
        let default = roles.get("default").and_then(Value::as_str);
        roles.get("definitions")?.get(own.or(default)?)
    }

    /// The scopes of a person, of those asked for.
    pub(super) fn scopes(&self, caller: &Caller, asked: &[&str]) -> Vec<String> {
        let given = self.role(caller).map(|role| role.get("scopes"));
        let may = |scope: &&&str| match given {
            None => true,
            Some(scopes) => holds(scopes, scope),
        };
        asked
            .iter()
            .filter(may)
            .map(|scope| (*scope).to_owned())
            .collect()
    }

    /// Whether somebody may run an agent.
    pub(super) fn may_run(&self, caller: &Caller, agent: &str) -> bool {
        match self.role(caller).map(|role| role.get("agents")) {
            None => true,
            Some(Some(Value::String(all))) => all == "*",
            Some(agents) => holds(agents, agent),
        }
    }

    /// Whether somebody may know of a session.
    pub(super) fn sees(&self, caller: &Caller, session: &Session) -> bool {
        let others = self
            .role(caller)
            .and_then(|role| role.pointer("/sessions/others"));
        session.creator == *caller || others.and_then(Value::as_str) != Some("none")
    }

    /// The session of that key, if somebody may know of it.
    pub(super) fn session(&self, caller: &Caller, key: &str) -> Option<&Session> {
        self.sessions
            .get(key)
            .filter(|session| self.sees(caller, session))
    }

    // --- connections

    pub(super) fn connect(
        &mut self,
        caller: Caller,
        instance_id: Option<String>,
    ) -> (u64, mpsc::Receiver<Message>) {
        let (outbox, inbox) = mpsc::channel(QUEUE);
        self.next += 1;
        self.connections.insert(
            self.next,
            Connection {
                caller,
                outbox,
                seq: 0,
                follows_all: false,
                follows: HashSet::new(),
                instance_id,
                since: now(),
            },
        );
        let presence = self.presence();
        self.tell_all("presence", &json!({ "presence": presence }));
        (self.next, inbox)
    }

    pub(super) fn disconnect(&mut self, connection: u64) {
        if self.connections.remove(&connection).is_some() {
            let presence = self.presence();
            self.tell_all("presence", &json!({ "presence": presence }));
        }
    }

    /// Makes a connection hear of messages: of those of a session, or of all.
    pub(super) fn follow(&mut self, connection: u64, session: Option<&str>, on: bool) {
        let Some(connection) = self.connections.get_mut(&connection) else {
            return;
        };
        match (session, on) {
            (None, on) => connection.follows_all = on,
            (Some(key), true) => drop(connection.follows.insert(key.to_owned())),
            (Some(key), false) => drop(connection.follows.remove(key)),
        }
    }

    /// Ends the connections of somebody, or of everybody, as a change of policy does.
    pub(super) fn close(&mut self, whose: Option<&Caller>) {
        let close = Message::close(CloseCode::try_from(4001).ok(), "gateway policy changed");
        self.connections.retain(|_, connection| {
            let ends = whose.is_none_or(|caller| *caller == connection.caller);
            if ends {
                let _ = connection.outbox.try_send(close.clone());
            }
            !ends
        });
    }

    // --- events

    pub(super) fn tell_all(&mut self, event: &str, payload: &Value) {
        self.connections
            .retain(|_, connection| connection.tell(event, payload));
    }

    /// Tells of a session whoever may know of it; of its messages only who has asked for them.
    pub(super) fn tell_of(&mut self, key: &str, event: &str, payload: &Value) {
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        let wants_only = matches!(event, "session.message" | "sessions.changed");
        let hear: HashSet<u64> = self
            .connections
            .iter()
            .filter(|(_, connection)| self.sees(&connection.caller, session))
            .filter(|(_, of)| !wants_only || of.follows_all || of.follows.contains(key))
            .map(|(id, _)| *id)
            .collect();
        self.connections
            .retain(|id, connection| !hear.contains(id) || connection.tell(event, payload));
    }

    /// Adds a message to a session and tells of it.
    pub(super) fn say(&mut self, key: &str, message: &Value) {
        let row = self.row(key);
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        session.updated_at = now();
        session.messages.push(message.clone());
        if session.messages.len() > MAX_MESSAGES {
            session.messages.remove(0);
        }
        let payload = json!({"sessionKey": key, "agentId": session.agent, "message": message, "session": row});
        self.tell_of(key, "session.message", &payload);
    }

    // --- views

    pub(super) fn row(&self, key: &str) -> Value {
        self.sessions.get(key).map_or(Value::Null, |session| {
            let running = self.runs.values().any(|run| run.session == key && !run.is_over);
            json!({
                "key": key, "agentId": session.agent, "sessionId": session.id, "label": session.label,
                "displayName": session.label, "archived": session.archived, "updatedAt": session.updated_at,
                "kind": "direct", "hasActiveRun": running,
            })
        })
    }

    pub(super) fn presence(&self) -> Value {
        let people = self.connections.values().filter_map(|connection| {
            let Caller::Person(id) = &connection.caller else {
                return None;
            };
            let profile = self.profiles.iter().find(|profile| profile.id == *id)?;
            Some(json!({
                "clientId": "webchat-ui", "mode": "webchat", "instanceId": connection.instance_id,
                "user": {"id": id, "email": profile.user, "name": profile.user}, "onlineSince": connection.since,
                "ts": connection.since, "reason": "connect",
            }))
        });
        people.collect()
    }

    pub(super) fn agents(&self) -> Map<String, Value> {
        let entries = self.config.pointer("/agents/entries");
        entries
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default()
    }

    pub(super) fn health(&self) -> Value {
        let agents = self.agents();
        let agents = agents.keys().map(|id| {
            let count = self.sessions.values().filter(|session| session.agent == *id).count();
            json!({"agentId": id, "isDefault": id == "main", "sessions": {"count": count, "recent": []}})
        });
        json!({"ok": true, "ts": now(), "durationMs": 0, "defaultAgentId": "main", "agents": agents.collect::<Value>()})
    }
}

// === impl Connection ===

impl Connection {
    /// Whether it could be told.
    fn tell(&mut self, event: &str, payload: &Value) -> bool {
        self.seq += 1;
        let frame = json!({"type": "event", "event": event, "payload": payload, "seq": self.seq});
        self.outbox
            .try_send(Message::text(frame.to_string()))
            .is_ok()
    }
}

fn holds(list: Option<&Value>, text: &str) -> bool {
    let list = list.and_then(Value::as_array);
    list.is_some_and(|list| list.iter().any(|item| item == text))
}
