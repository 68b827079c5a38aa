use std::collections::{HashSet, VecDeque};

use crate::protocol::{InstanceFrame, Refusal, Request};

/// So many ids of each kind are remembered for a socket; then the oldest is forgotten.
const REMEMBERED: usize = 512;

/// The ids of runs and sessions that are the user's own: those that came by on this socket, in answers to the user or in
/// events of the user's own agent. An id that a client has from elsewhere may be anybody's.
#[derive(Debug, Default)]
pub(super) struct Owned {
    runs: Recent,
    sessions: Recent,
}

#[derive(Debug, Default)]
struct Recent {
    known: HashSet<Box<str>>,
    order: VecDeque<Box<str>>,
}

// === impl Owned ===

impl Owned {
    /// Remembers the ids in a frame of the instance that is the user's own.
    pub(super) fn learn(&mut self, frame: &InstanceFrame<'_>) {
        frame.runs().for_each(|id| self.runs.put(id));
        frame.sessions().for_each(|id| self.sessions.put(id));
    }

    /// Remembers the ids of sessions that were listed.
    pub(super) fn learn_sessions(&mut self, ids: &[Box<str>]) {
        ids.iter().for_each(|id| self.sessions.put(id));
    }

    /// Refuses a request that names a run or a session which is not known to be the user's own.
    pub(super) fn check(&self, request: &Request) -> Result<(), Refusal> {
        let unknown = |id: &Option<Box<str>>, own: &Recent| {
            id.as_ref().is_some_and(|id| !own.known.contains(id))
        };
        if unknown(&request.of_run, &self.runs) {
            return Err(Refusal::NotOwn("run"));
        }
        if unknown(&request.of_session, &self.sessions) {
            return Err(Refusal::NotOwn("session"));
        }
        Ok(())
    }
}

// === impl Recent ===

impl Recent {
    fn put(&mut self, id: &str) {
        // Most events are of the run that the one before was of.
        if self.order.back().is_some_and(|last| **last == *id) || self.known.contains(id) {
            return;
        }
        if self.order.len() >= REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.known.insert(id.into());
        self.order.push_back(id.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::parse_request;

    fn abort(run_id: &str) -> Request {
        let text = format!(
            r#"{{"type":"req","id":"1","method":"chat.abort","params":{{"runId":"{run_id}"}}}}"#
        );
        parse_request(&text).unwrap()
    }

    fn learn(owned: &mut Owned, run_id: &str) {
        let text = format!(r#"{{"type":"event","event":"chat","payload":{{"runId":"{run_id}"}}}}"#);
        owned.learn(&serde_json::from_str(&text).unwrap());
    }

    #[test]
    fn only_ids_that_came_by_are_the_users_own() {
        let mut owned = Owned::default();
        assert_eq!(owned.check(&abort("r")), Err(Refusal::NotOwn("run")));
        learn(&mut owned, "r");
        assert_eq!(owned.check(&abort("r")), Ok(()));
        assert!(owned.check(&abort("R")).is_err());

        let text = r#"{"type":"req","id":"1","method":"chat.send","params":{"message":"m","sessionId":"s"}}"#;
        let send = parse_request(text).unwrap();
        assert_eq!(owned.check(&send), Err(Refusal::NotOwn("session")));
        owned.learn_sessions(&["s".into()]);
        assert_eq!(owned.check(&send), Ok(()));
    }

    #[test]
    fn the_oldest_is_forgotten() {
        let mut owned = Owned::default();
        for n in 0..=REMEMBERED {
            learn(&mut owned, &n.to_string());
        }
        assert!(owned.check(&abort("0")).is_err());
        assert!(owned.check(&abort("1")).is_ok());
        assert_eq!(owned.runs.known.len(), REMEMBERED);
    }
}
