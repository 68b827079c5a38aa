use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::DemoInstance;
use super::run;
use super::state::{Caller, Instance, Run, Session, now};
use crate::api::rfc3339;
use crate::protocol::ErrorShape;

/// What it can be asked.
pub(super) const METHODS: [&str; 24] = [
    "agent.identity.get",
    "agents.delete",
    "agents.list",
    "chat.abort",
    "chat.history",
    "chat.metadata",
    "chat.send",
    "config.get",
    "config.patch",
    "health",
    "models.list",
    "sessions.create",
    "sessions.delete",
    "sessions.describe",
    "sessions.list",
    "sessions.messages.subscribe",
    "sessions.messages.unsubscribe",
    "sessions.patch",
    "sessions.resolve",
    "sessions.subscribe",
    "sessions.usage",
    "system-presence",
    "users.list",
    "users.setRole",
];

/// What `chat.send` takes at an instance that was patched.
const EXTENDED: [&str; 2] = ["workspaceDir", "authProfileId"];

/// Most runs that are remembered.
const MAX_RUNS: usize = 1_000;

/// Most sessions that are kept.
const MAX_SESSIONS: usize = 1_000;

/// A request of a connection.
pub(super) struct Call<'a> {
    pub(super) demo: &'a DemoInstance,
    pub(super) connection: u64,
    pub(super) caller: &'a Caller,
    pub(super) scopes: &'a [String],
    pub(super) params: Value,
}

/// What a message's `usage` counts.
const USAGE: [&str; 5] = ["input", "output", "cacheRead", "cacheWrite", "totalTokens"];

type Answer = Result<Value, ErrorShape>;

fn counts(counts: [(&str, u64); 5]) -> Value {
    let counts = counts.map(|(name, count)| (name.to_owned(), count.into()));
    Value::Object(counts.into_iter().collect())
}

/// The day of a message, in UTC, as APIs write it.
fn day_of(message: &Value) -> Option<String> {
    let millis = message.get("timestamp")?.as_u64()?;
    let at = UNIX_EPOCH.checked_add(Duration::from_millis(millis))?;
    Some(rfc3339(at).chars().take(10).collect())
}

fn invalid(message: impl Into<String>) -> ErrorShape {
    ErrorShape::new("INVALID_REQUEST", message.into())
}

// === impl Call ===

impl Call<'_> {
    pub(super) fn answer(&self, method: &str) -> Answer {
        let needed = match method {
            "agents.delete" | "config.get" | "config.patch" | "users.list" | "users.setRole" => {
                "operator.admin"
            }
            "chat.send" | "chat.abort" | "sessions.create" | "sessions.delete"
            | "sessions.patch" => "operator.write",
            name if METHODS.contains(&name) => "operator.read",
            _ => "operator.admin",
        };
        let is_admin = self.scopes.iter().any(|scope| scope == "operator.admin");
        if !is_admin && !self.scopes.iter().any(|scope| scope == needed) {
            let message = format!("missing scope: {needed}");
            return Err(ErrorShape::new("FORBIDDEN", message).detail("MISSING_SCOPE"));
        }
        let mut instance = self.demo.lock();
        match method {
            "agent.identity.get" => {
                Ok(json!({"agentId": self.text("agentId"), "name": "Demo", "avatar": "D"}))
            }
            "agents.delete" => self.delete_agent(&mut instance),
            "agents.list" => Ok(agents(&instance)),
            "chat.abort" => self.abort(&instance),
            "chat.history" => self.history(&instance),
            "chat.metadata" => Ok(json!({"models": self.models(&instance), "commands": []})),
            "chat.send" => self.send(&mut instance),
            "config.get" => {
                Ok(json!({"config": instance.config, "hash": instance.revision.to_string()}))
            }
            "config.patch" => self.patch_config(&mut instance),
            "health" => Ok(instance.health()),
            "models.list" => Ok(json!({ "models": self.models(&instance) })),
            "sessions.create" => self.create(&mut instance),
            "sessions.delete" => self.delete(&mut instance),
            "sessions.describe" => Ok(
                json!({ "session": self.known(&instance).map_or(Value::Null, |key| instance.row(key)) }),
            ),
            "sessions.list" => Ok(self.list(&instance)),
            "sessions.messages.subscribe" | "sessions.messages.unsubscribe" => {
                instance.follow(
                    self.connection,
                    Some(self.key()?),
                    method.ends_with(".subscribe"),
                );
                Ok(json!({ "subscribed": method.ends_with(".subscribe"), "key": self.key()? }))
            }
            "sessions.patch" => self.patch_session(&mut instance),
            "sessions.resolve" => {
                let key = self.known(&instance).ok_or_else(|| self.unknown())?;
                let agent = self.agent_of(key)?;
                let label = instance
                    .sessions
                    .get(key)
                    .and_then(|found| found.label.as_ref());
                Ok(match label {
                    Some(label) => {
                        json!({"ok": true, "key": key, "agentId": agent, "displayName": label})
                    }
                    None => json!({"ok": true, "key": key, "agentId": agent}),
                })
            }
            "sessions.subscribe" => {
                instance.follow(self.connection, None, true);
                Ok(json!({ "subscribed": true }))
            }
            "sessions.usage" => Ok(self.usage(&instance)),
            "system-presence" => Ok(instance.presence()),
            "users.list" => Ok(profiles(&instance)),
            "users.setRole" => self.set_role(&mut instance),
            _ => Err(
                ErrorShape::new("FORBIDDEN", "missing scope: operator.admin")
                    .detail("MISSING_SCOPE"),
            ),
        }
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.params.get(name)?.as_str()
    }

    /// The session that the request names.
    fn key(&self) -> Result<&str, ErrorShape> {
        let key = self.text("sessionKey").or_else(|| self.text("key"));
        key.ok_or_else(|| invalid("a session key is missing"))
    }

    /// The session that the request names, if it is there and the caller may know of it.
    fn known(&self, instance: &Instance) -> Option<&str> {
        let key = self.key().ok()?;
        instance.session(self.caller, key).map(|_| key)
    }

    fn unknown(&self) -> ErrorShape {
        invalid(format!(
            "Session \"{}\" was not found",
            self.key().unwrap_or_default()
        ))
    }

    fn agent_of<'k>(&self, key: &'k str) -> Result<&'k str, ErrorShape> {
        let agent = key
            .strip_prefix("agent:")
            .and_then(|rest| rest.split_once(':'));
        agent
            .map(|(agent, _)| agent)
            .ok_or_else(|| invalid("the session key names no agent"))
    }

    /// As the real one's closed schemas: an unknown parameter is an error.
    fn only(&self, known: &[&str]) -> Result<(), ErrorShape> {
        let unknown = self
            .params
            .as_object()
            .and_then(|params| params.keys().find(|name| !known.contains(&name.as_str())));
        unknown.map_or(Ok(()), |name| {
            Err(invalid(format!("at root: unexpected property '{name}'")))
        })
    }

    // --- configuration

    fn patch_config(&self, instance: &mut Instance) -> Answer {
        if self.text("baseHash") != Some(&instance.revision.to_string()) {
            return Err(invalid(
                "config changed since last load; re-run config.get and retry",
            ));
        }
        let raw = self.text("raw").ok_or_else(|| invalid("raw is missing"))?;
        let patch: Value =
            serde_json::from_str(raw).map_err(|_| invalid("invalid config: not JSON"))?;
        let roles = instance.config.pointer("/gateway/roles").cloned();
        merge(&mut instance.config, &patch);
        instance.revision += 1;
        for agent in instance.agents().values() {
            if let Some(workspace) = agent.get("workspace").and_then(Value::as_str) {
                make_workspace(workspace);
            }
        }
        if instance.config.pointer("/gateway/roles") != roles.as_ref() {
            instance.close(None);
        }
        Ok(json!({"ok": true, "hash": instance.revision.to_string()}))
    }

    /// Forgets an agent and its conversations, and leaves its files alone whatever was asked.
    fn delete_agent(&self, instance: &mut Instance) -> Answer {
        let agent = self.text("agentId").unwrap_or_default();
        if !instance.agents().contains_key(agent) {
            return Err(invalid("agent was not found"));
        }
        let patch = json!({"agents": {"entries": {agent: null}}});
        merge(&mut instance.config, &patch);
        instance.revision += 1;
        let own = format!("agent:{agent}:");
        instance.sessions.retain(|key, _| !key.starts_with(&own));
        Ok(json!({"ok": true, "agentId": agent}))
    }

    fn set_role(&self, instance: &mut Instance) -> Answer {
        let id = self.text("profileId").unwrap_or_default();
        let role = self.text("role").map(str::to_owned);
        let profile = instance
            .profiles
            .iter_mut()
            .find(|profile| profile.id == id);
        let profile = profile.ok_or_else(|| invalid("profile was not found"))?;
        profile.role.clone_from(&role);
        instance.close(Some(&Caller::Person(id.to_owned())));
        Ok(json!({"profile": {"id": id, "role": role}}))
    }

    // --- sessions

    fn list(&self, instance: &Instance) -> Value {
        let agent = self.text("agentId");
        let rows: Vec<Value> = instance
            .sessions
            .iter()
            .filter(|(_, session)| instance.sees(self.caller, session))
            .filter(|(_, session)| agent.is_none_or(|agent| session.agent == agent))
            .map(|(key, _)| instance.row(key))
            .collect();
        json!({"ts": now(), "count": rows.len(), "totalCount": rows.len(), "hasMore": false, "sessions": rows})
    }

    /// What an agent's sessions have used on the days asked for.
    fn usage(&self, instance: &Instance) -> Value {
        let agent = self.text("agentId");
        let days = self.text("startDate").unwrap_or_default()
            ..=self.text("endDate").unwrap_or("9999-12-31");
        let mut totals = USAGE.map(|name| (name, 0));
        let mut rows = Vec::new();
        for (key, session) in &instance.sessions {
            if !instance.sees(self.caller, session)
                || agent.is_some_and(|agent| session.agent != agent)
            {
                continue;
            }
            let mut used = USAGE.map(|name| (name, 0));
            let messages = session.messages.iter().filter(|message| {
                let day = day_of(message).unwrap_or_default();
                days.contains(&&*day)
            });
            for usage in messages.filter_map(|message| message.get("usage")) {
                for (name, count) in used.iter_mut().chain(&mut totals) {
                    *count += usage.get(*name).and_then(Value::as_u64).unwrap_or(0);
                }
            }
            rows.push(json!({"key": key, "usage": counts(used)}));
        }
        json!({"cacheStatus": {"status": "fresh"}, "totals": counts(totals), "sessions": rows})
    }

    fn history(&self, instance: &Instance) -> Answer {
        let session = instance.sessions.get(self.key()?);
        match session {
            Some(session) if instance.sees(self.caller, session) => Ok(
                json!({"sessionKey": self.key()?, "sessionId": session.id, "messages": session.messages}),
            ),
            Some(_) => Err(self.unknown()),
            None => Ok(json!({"sessionKey": self.key()?, "messages": []})),
        }
    }

    fn create(&self, instance: &mut Instance) -> Answer {
        self.only(&["agentId", "key", "label", "message"])?;
        let agent = self.text("agentId").unwrap_or("main");
        let key = match self.text("key") {
            Some(key) => key.to_owned(),
            None => format!("agent:{agent}:dashboard:{}", uuid::Uuid::new_v4()),
        };
        self.open(instance, &key)?;
        if let (Some(session), Some(label)) = (instance.sessions.get_mut(&key), self.text("label"))
        {
            session.label = Some(label.to_owned());
        }
        let row = instance.row(&key);
        let changed =
            json!({"sessionKey": key, "agentId": agent, "reason": "create", "session": row});
        instance.tell_of(&key, "sessions.changed", &changed);
        let mut answer = json!({"ok": true, "key": key, "sessionId": row.get("sessionId"), "entry": row, "runStarted": false});
        if let (Some(message), Some(answer)) = (self.text("message"), answer.as_object_mut()) {
            let run_id = uuid::Uuid::new_v4().to_string();
            self.start(instance, &key, message, &run_id);
            answer.insert("runStarted".to_owned(), true.into());
            answer.insert("runId".to_owned(), run_id.into());
            answer.insert("status".to_owned(), "started".into());
        }
        Ok(answer)
    }

    fn patch_session(&self, instance: &mut Instance) -> Answer {
        self.only(&[
            "key",
            "agentId",
            "label",
            "archived",
            "pinned",
            "unread",
            "expectedSessionId",
        ])?;
        let key = self.known(instance).ok_or_else(|| self.unknown())?;
        let Some(session) = instance.sessions.get_mut(key) else {
            return Err(self.unknown());
        };
        if let Some(label) = self.text("label") {
            session.label = Some(label.to_owned());
        }
        if let Some(archived) = self.params.get("archived").and_then(Value::as_bool) {
            session.archived = archived;
        }
        let row = instance.row(key);
        let changed = json!({"sessionKey": key, "agentId": self.agent_of(key)?, "reason": "patch", "session": row});
        instance.tell_of(key, "sessions.changed", &changed);
        Ok(json!({"ok": true, "key": key, "entry": row}))
    }

    fn delete(&self, instance: &mut Instance) -> Answer {
        let key = self.known(instance).ok_or_else(|| self.unknown())?;
        if instance
            .sessions
            .get(key)
            .is_some_and(|session| !session.archived)
        {
            return Err(invalid("archive the session first"));
        }
        instance.sessions.remove(key);
        Ok(json!({"ok": true, "key": key, "deleted": true}))
    }

    /// Makes the session, if it is not there; refuses one of somebody else.
    fn open(&self, instance: &mut Instance, key: &str) -> Result<(), ErrorShape> {
        let agent = self.agent_of(key)?;
        if !instance.may_run(self.caller, agent) {
            return Err(ErrorShape::new(
                "FORBIDDEN",
                format!("agent \"{agent}\" is not allowed for your role"),
            ));
        }
        if !instance.agents().contains_key(agent) {
            return Err(invalid(format!(
                "Agent \"{agent}\" no longer exists in configuration"
            )));
        }
        if instance.sessions.contains_key(key) {
            return match instance.session(self.caller, key) {
                Some(_) => Ok(()),
                None => Err(invalid(format!("Session \"{key}\" was not found"))),
            };
        }
        if instance.sessions.len() >= MAX_SESSIONS {
            return Err(ErrorShape::new(
                "UNAVAILABLE",
                "the demo instance keeps no more sessions",
            ));
        }
        let session = Session {
            id: uuid::Uuid::new_v4().to_string(),
            agent: agent.to_owned(),
            creator: self.caller.clone(),
            label: None,
            archived: false,
            updated_at: now(),
            messages: Vec::new(),
        };
        instance.sessions.insert(key.to_owned(), session);
        Ok(())
    }

    // --- runs

    fn send(&self, instance: &mut Instance) -> Answer {
        let extended = self.demo.0.extended;
        let known = [
            "sessionKey",
            "agentId",
            "sessionId",
            "message",
            "idempotencyKey",
            "thinking",
            "queueMode",
            "attachments",
            "timeoutMs",
        ];
        match extended {
            true => self.only(&[&known[..], &EXTENDED].concat())?,
            false => self.only(&known)?,
        }
        let key = match extended {
            true => &self.extended_key(instance)?,
            false => self.key()?,
        };
        let message = self
            .text("message")
            .ok_or_else(|| invalid("message is missing"))?;
        let run_id = self
            .text("idempotencyKey")
            .ok_or_else(|| invalid("idempotencyKey is missing"))?;
        self.open(instance, key)?;
        if let Some(run) = instance.runs.get(run_id) {
            return match run.session == key {
                true => Ok(
                    json!({"runId": run_id, "status": if run.is_over { "ok" } else { "in_flight" }}),
                ),
                false => Err(invalid("idempotencyKey belongs to another session")),
            };
        }
        self.start(instance, key, message, run_id);
        Ok(json!({"runId": run_id, "status": "started"}))
    }

    /// The session of a message at an instance that was patched; the real one, too, takes the agent from beside the key,
    /// and has no upper case in keys.
    fn extended_key(&self, instance: &Instance) -> Result<String, ErrorShape> {
        let missing = |name| invalid(format!("must have required property '{name}'"));
        let agent = self.text("agentId").ok_or_else(|| missing("agentId"))?;
        let [directory, profile] =
            EXTENDED.map(|name| self.text(name).ok_or_else(|| missing(name)));
        let (directory, profile) = (directory?, profile?);
        let agents = instance.agents();
        let workspace = agents.get(agent).and_then(|agent| agent.get("workspace"));
        if workspace.and_then(Value::as_str) != Some(directory) {
            return Err(invalid("workspaceDir is not the agent's"));
        }
        let session = self.key()?;
        let name = session.strip_prefix("user:").unwrap_or_default();
        if name.is_empty() || !profile.starts_with(&format!("user-{name}-")) {
            return Err(invalid(
                "sessionKey must be user:<name>, and authProfileId theirs",
            ));
        }
        Ok(format!("agent:{agent}:{}", session.to_lowercase()))
    }

    fn start(&self, instance: &mut Instance, key: &str, message: &str, run_id: &str) {
        if instance.runs.len() >= MAX_RUNS {
            instance.runs.retain(|_, run| !run.is_over);
        }
        let abort = CancellationToken::new();
        let said = json!({"role": "user", "content": message, "timestamp": now(), "__openclaw": {"runId": run_id}});
        instance.say(key, &said);
        instance.runs.insert(
            run_id.to_owned(),
            Run {
                session: key.to_owned(),
                abort: abort.clone(),
                is_over: false,
            },
        );
        tokio::spawn(run::run(
            self.demo.clone(),
            key.to_owned(),
            run_id.to_owned(),
            abort,
        ));
    }

    fn abort(&self, instance: &Instance) -> Answer {
        let key = self.key()?;
        let session = self.known(instance);
        let wanted = self.text("runId");
        let runs = instance.runs.iter().filter(|(id, run)| {
            !run.is_over
                && Some(&*run.session) == session
                && wanted.is_none_or(|wanted| wanted == *id)
        });
        let mut aborted = Vec::new();
        for (id, run) in runs {
            run.abort.cancel();
            aborted.push(id);
        }
        if aborted.is_empty()
            && wanted.is_some_and(|id| instance.runs.get(id).is_some_and(|run| run.session != key))
        {
            return Err(invalid("runId does not match agentId"));
        }
        Ok(json!({"ok": true, "aborted": !aborted.is_empty(), "runIds": aborted}))
    }

    fn models(&self, instance: &Instance) -> Value {
        let agent = self.text("agentId").unwrap_or("main");
        let model = run::model_of(instance, agent);
        model.map_or_else(
            || json!([]),
            |model| json!([{"id": model.id, "name": model.id, "provider": model.provider, "available": true}]),
        )
    }
}

fn agents(instance: &Instance) -> Value {
    let agents = instance.agents().into_iter().map(|(id, agent)| {
        json!({"id": id, "name": agent.get("name"), "workspace": agent.get("workspace"), "model": agent.get("model")})
    });
    json!({"defaultId": "main", "mainKey": "main", "scope": "per-sender", "agents": agents.collect::<Value>()})
}

fn profiles(instance: &Instance) -> Value {
    let profiles = instance.profiles.iter().map(|profile| {
        json!({"id": profile.id, "displayName": profile.user, "emails": [profile.user], "role": profile.role,
            "mergedInto": null})
    });
    json!({ "profiles": profiles.collect::<Value>() })
}

/// A new agent's workspace has instructions in it.
fn make_workspace(directory: &str) {
    let path = std::path::Path::new(directory).join("AGENTS.md");
    if path.exists() {
        return;
    }
    let made = std::fs::create_dir_all(directory)
        .and_then(|()| std::fs::write(path, "# Demo agent\n\nIt has no tools.\n"));
    if let Err(error) = made {
        tracing::warn!(%error, directory, "workspace of the demo instance cannot be made");
    }
}

/// RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        match target.as_object_mut() {
            Some(object) if value.is_null() => drop(object.remove(key)),
            Some(object) => merge(object.entry(key.as_str()).or_insert(Value::Null), value),
            None => {}
        }
    }
}
