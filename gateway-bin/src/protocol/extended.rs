//! What an instance with `extended_chat_params` is told beside a message.

use std::sync::Arc;

use super::method::SessionField;
use super::request::{Refusal, Request, push_json};

/// A person at an instance whose `chat.send` takes `workspaceDir` and `authProfileId` beside the session `user:<name>`,
/// which is all the conversation that the person has there.
///
/// All of it is made from who was verified. The name is that of the person's directory: no two people have the same, in
/// whatever case, and none has a `:` in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExtendedChat {
    /// `user:<name>`
    session: Arc<str>,
    /// What the instance makes of it, with the agent beside it.
    key: Arc<str>,
    /// The agent's main session, which is not used there.
    main: Box<str>,
    /// Members of the parameters of `chat.send`.
    members: Box<str>,
}

// === impl ExtendedChat ===

impl ExtendedChat {
    /// What is told of the person whose directory has that `name`, and whose agent is `agent`.
    #[must_use]
    pub fn new(name: &str, agent: &str, workspace_dir: &str, auth_profile_id: &str) -> Self {
        let mut members = String::from(r#""workspaceDir":"#);
        push_json(&mut members, workspace_dir);
        members.push_str(r#","authProfileId":"#);
        push_json(&mut members, auth_profile_id);
        let session = Self::session_of(name);
        Self {
            key: format!("agent:{agent}:{session}").into(),
            session: session.into(),
            main: format!("agent:{agent}:main").into(),
            members: members.into(),
        }
    }

    /// The session of the person whose directory has that `name`.
    #[must_use]
    pub fn session_of(name: &str) -> String {
        format!("user:{name}")
    }

    /// The session as the instance is told it.
    #[must_use]
    pub fn session(&self) -> &str {
        &self.session
    }

    /// The session as the instance names it.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    pub(super) fn members(&self) -> &str {
        &self.members
    }

    /// Puts the person's conversation in the place of the main session, and what is told beside a message to it.
    ///
    /// # Errors
    ///
    /// [`Refusal::OtherConversation`] for a message to another session.
    pub fn extend(self: &Arc<Self>, frame: &mut Request) -> Result<(), Refusal> {
        let names_one = matches!(
            frame.method.session,
            SessionField::SessionKey | SessionField::Key
        );
        let is_own = match frame.session.as_deref() {
            None | Some("main") => true,
            Some(key) => [&*self.session, &self.key, &self.main].contains(&key),
        };
        if names_one && is_own {
            frame.session = Some((*self.key).into());
        }
        if frame.method.name == "chat.send" {
            if !is_own {
                return Err(Refusal::OtherConversation);
            }
            frame.extended = Some(Arc::clone(self));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::parse_request;
    use super::*;

    const AGENT: &str = "slot-001";

    fn alice() -> Arc<ExtendedChat> {
        Arc::new(ExtendedChat::new(
            "alice",
            AGENT,
            "/w/a \"b\"/workspace",
            "user-alice-openai",
        ))
    }

    fn sent(method: &str, params: &Value) -> Result<Value, String> {
        let text = json!({"type": "req", "id": "1", "method": method, "params": params});
        let mut frame = parse_request(&text.to_string()).map_err(|error| error.to_string())?;
        let extended = alice().extend(&mut frame);
        extended.map_err(|refusal| refusal.to_string())?;
        let session = frame.session_of(AGENT).ok_or("foreign session")?;
        let frame = frame.to_frame(&session, AGENT);
        let frame: Value = serde_json::from_str(&frame).map_err(|error| error.to_string())?;
        Ok(frame["params"].clone())
    }

    #[test]
    fn a_message_goes_to_the_own_conversation_with_what_is_told_beside_it() {
        for session in [
            None,
            Some("main"),
            Some("user:alice"),
            Some("agent:slot-001:main"),
            Some("agent:slot-001:user:alice"),
        ] {
            let mut params = json!({"message": "hi", "idempotencyKey": "k"});
            if let Some(session) = session {
                params["sessionKey"] = session.into();
            }
            assert_eq!(
                sent("chat.send", &params),
                Ok(json!({
                    "message": "hi", "idempotencyKey": "k", "sessionKey": "user:alice", "agentId": AGENT,
                    "workspaceDir": "/w/a \"b\"/workspace", "authProfileId": "user-alice-openai",
                })),
                "{session:?}"
            );
        }
    }

    #[test]
    fn only_chat_send_is_told_more() {
        let of_main = sent("chat.history", &json!({})).unwrap();
        assert_eq!(of_main["sessionKey"], "agent:slot-001:user:alice");
        assert!(of_main.get("workspaceDir").is_none(), "{of_main}");
        let other = json!({"sessionKey": "agent:slot-001:dashboard:x"});
        let of_other = sent("chat.history", &other).unwrap();
        assert_eq!(of_other["sessionKey"], other["sessionKey"]);
        let chosen = sent("sessions.create", &json!({"label": "l"})).unwrap();
        assert!(chosen.get("key").is_none(), "the instance chooses");
    }

    #[test]
    fn d3_38_the_clients_own_values_are_refused() {
        let refused =
            "on this instance you have one conversation, user:<you>; leave the session out";
        for (member, value, why) in [
            ("workspaceDir", "/", "invalid parameters"),
            ("workspaceDir", "/w/a \"b\"/workspace", "invalid parameters"),
            ("workspace_dir", "/", "invalid parameters"),
            ("authProfileId", "user-bob-openai", "invalid parameters"),
            ("authProfileId", "user-alice-openai", "invalid parameters"),
            ("sessionKey", "user:bob", refused),
            ("sessionKey", "user:Alice", refused),
            ("sessionKey", "user:alice:x", refused),
            ("sessionKey", "agent:slot-001:user:bob", refused),
            ("sessionKey", "agent:slot-002:user:alice", refused),
            ("sessionKey", "agent:slot-001:dashboard:x", refused),
        ] {
            let mut params = json!({"message": "hi", "idempotencyKey": "k"});
            params[member] = value.into();
            assert_eq!(
                sent("chat.send", &params),
                Err(why.to_owned()),
                "{member}: {value}"
            );
        }
        for key in ["user:bob", "agent:slot-002:user:alice"] {
            assert!(sent("chat.history", &json!({"sessionKey": key})).is_err());
        }
    }
}
