//! What is in a snapshot.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tower_workspace::fs::{Bounds, Snapshot, Tally};
use tracing::warn;

use super::{SnapshotError, Snapshots, failed};
use crate::api::{rfc3339, shown_limits};
use crate::clock;
use crate::store::SandboxState;

/// How long a walk through somebody's directory may take.
const WALK: Duration = Duration::from_secs(10);

// === impl Snapshots ===

impl Snapshots {
    /// What there is of somebody now, by the type of the snapshot.
    pub(super) async fn content_of(
        &self,
        user_id: &Arc<str>,
    ) -> Result<[(&'static str, Value); 4], SnapshotError> {
        let sandbox = self.store.sandbox_state(user_id).await;
        let sandbox = sandbox.map_err(failed("store"))?;
        Ok([
            ("workspace_files", self.files_of(user_id).await),
            ("api_keys", self.keys_of(user_id).await?),
            ("quota_status", self.quota_of(user_id).await?),
            ("sandbox_status", sandbox_status(sandbox)),
        ])
    }

    /// Files, counted. That they cannot be is a finding, too.
    async fn files_of(&self, user_id: &Arc<str>) -> Value {
        let unreadable = |error: &(dyn std::error::Error + 'static)| {
            warn!(error, "somebody's directory cannot be counted");
            json!({ "state": "unreadable" })
        };
        let provisioner = match self.environments.provisioner_of(user_id).await {
            Ok(provisioner) => provisioner,
            Err(error) => return unreadable(&error),
        };
        let bounds = Bounds::new().time(WALK);
        match provisioner.snapshot(user_id, bounds).await {
            Ok(Some(snapshot)) => files(&snapshot),
            Ok(None) => json!({ "state": "none" }),
            Err(error) => unreadable(&error),
        }
    }

    async fn keys_of(&self, user_id: &Arc<str>) -> Result<Value, SnapshotError> {
        let virtual_keys = self.store.count_virtual_keys(user_id).await;
        let virtual_keys = virtual_keys.map_err(failed("store"))?;
        let tokens = self.sign_in.access_tokens().list(user_id).await;
        let tokens = tokens.map_err(failed("session store"))?;
        let now = clock::now();
        let expired = tokens.iter().filter(|token| token.expires_at() <= now);
        let expired = expired.count();
        Ok(json!({
            "virtualKeys": { "inForce": virtual_keys.in_force, "ended": virtual_keys.ended },
            "providerKeys": self.own_keys.providers_of(user_id),
            "accessTokens": { "inForce": tokens.len().saturating_sub(expired), "expired": expired },
        }))
    }

    async fn quota_of(&self, user_id: &Arc<str>) -> Result<Value, SnapshotError> {
        let standings = self.quota.standings(&user_id.into()).await;
        let standings = standings.map_err(failed("quota store"))?;
        Ok(json!({ "limits": shown_limits(&standings) }))
    }
}

fn files(snapshot: &Snapshot) -> Value {
    json!({
        "state": if snapshot.truncated { "truncated" } else { "whole" },
        "total": tally(&snapshot.total),
        "workspace": snapshot.workspace.as_ref().map(tally),
        "sessions": snapshot.sessions.as_ref().map(tally),
        "sandboxWorkspace": snapshot.sandbox_workspace.as_ref().map(tally),
    })
}

fn tally(tally: &Tally) -> Value {
    json!({
        "files": tally.files, "directories": tally.directories, "links": tally.links, "others": tally.others,
        "unread": tally.unread, "bytes": tally.bytes, "diskBytes": tally.disk_bytes,
        "newest": tally.newest.map(rfc3339),
    })
}

fn sandbox_status(sandbox: Option<SandboxState>) -> Value {
    let Some(sandbox) = sandbox else {
        return json!({ "state": "none" });
    };
    json!({
        "state": if sandbox.agent_ready { "ready" } else { "preparing" },
        "instance": sandbox.instance, "agent": sandbox.agent_id, "hasSandbox": sandbox.has_sandbox,
    })
}
