//! Everything of somebody, as one archive.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::time::SystemTime;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt, stream};
use http::HeaderValue;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tower_sso::Identity;
use tower_workspace::fs::{Archive, Bounds, Exported, Provisioner};
use tracing::{info, warn};

use super::actor::Actor;
use super::admin_quota::shown_terms;
use super::quota::{limits, standings};
use super::users::not_found;
use super::{Api, ApiError, rfc3339, usage};
use crate::clock;
use crate::records::Span;
use crate::snapshots::{Snapshots, shown};

/// Bytes of one piece of the answer, and pieces that wait for who reads.
const PIECE: usize = 64 << 10;
const PIECES: usize = 4;

/// Snapshots of one file.
const SNAPSHOTS: usize = 500;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Files of JSON lines, by and by.
type Lines = BoxStream<'static, Result<String, Failure>>;

/// Everything of somebody, without keys.
///
/// A tar archive of their files, what is kept about them (`about.json`), their usage records (`usage/records-….jsonl`) and
/// snapshots (`snapshots/snapshots-….jsonl`), and what was left out (`export.json`). An answer that breaks off is not all.
#[utoipa::path(
    get,
    path = "/api/admin/users/{user_id}/export",
    responses(
        (status = OK, body = Vec<u8>, content_type = "application/x-tar", description = "the archive"),
        (status = NOT_FOUND, description = "there is no such user"),
    )
)]
pub(super) async fn export(
    State(api): State<Api>,
    Extension(admin): Extension<Arc<Identity>>,
    Path(user_id): Path<Arc<str>>,
) -> Result<Response, ApiError> {
    let about = about(&api, &user_id).await?;
    let everything = Span {
        from: SystemTime::UNIX_EPOCH,
        to: clock::now(),
    };
    let records = api.records.export(Some(&user_id), everything);
    let records = records.map(|page| Ok(usage::json_lines(&page?)));
    let snapshots = snapshots(api.snapshots.clone(), Arc::clone(&user_id));
    let lines = [
        ("usage/records", records.boxed()),
        ("snapshots/snapshots", snapshots.boxed()),
    ];
    let provisioner = api.environments.provisioner_of(&user_id).await;
    let provisioner = provisioner.map_err(|error| ApiError::unavailable("store", &error))?;
    info!(by = %Actor(&admin), "a user is exported");
    let (pieces, mut answered) = mpsc::channel(PIECES);
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || {
        let sender = Pieces(pieces.clone());
        let written = write(sender, &provisioner, &user_id, &about, lines, &runtime);
        if let Err(error) = written {
            warn!(error = &*error as &dyn std::error::Error, "an export ended");
            // Which ends the connection, so that nobody takes a part for the whole.
            let _ = pieces.blocking_send(Err(io::Error::other("the export failed")));
        }
    });
    let pieces = stream::poll_fn(move |cx| answered.poll_recv(cx));
    let mut response = Response::new(Body::from_stream(pieces));
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("application/x-tar");
    headers.insert(CONTENT_TYPE, kind);
    let name = HeaderValue::from_static("attachment; filename=\"user.tar\"");
    headers.insert(CONTENT_DISPOSITION, name);
    Ok(response)
}

/// What is kept about somebody.
async fn about(api: &Api, user_id: &Arc<str>) -> Result<Value, ApiError> {
    let store_down = |error| ApiError::unavailable("store", &error);
    let user = api.store.find_user(user_id).await.map_err(store_down)?;
    let user = user.ok_or_else(not_found)?;
    let environment = api.store.find_environment(user_id).await;
    let environment = environment.map_err(store_down)?;
    let terms = api.terms.of(user_id).await;
    let terms = terms.map_err(|error| ApiError::unavailable("store", &error))?;
    let standings = standings(api, user_id).await?;
    Ok(json!({
        "user": user.user_id, "provider": user.provider, "email": user.email, "name": user.name,
        "avatarUrl": user.avatar_url, "lastLoginAt": rfc3339(user.last_login_at),
        "environment": environment.map(|row| json!({
            "instance": row.instance, "agent": row.agent_id, "workspaceDir": row.workspace_dir,
            "profileName": row.profile_name, "authProfileId": row.auth_profile_id,
        })),
        "ownKeysAt": api.own_keys.providers_of(user_id),
        "quota": shown_terms(&terms), "standing": limits(&standings),
    }))
}

/// Somebody's snapshots as JSON lines, page by page, the latest first.
fn snapshots(
    snapshots: Snapshots,
    user_id: Arc<str>,
) -> impl Stream<Item = Result<String, Failure>> + Send {
    stream::try_unfold(String::new(), move |after| {
        let (snapshots, user_id) = (snapshots.clone(), Arc::clone(&user_id));
        async move {
            let page = snapshots.list(&user_id, &after, SNAPSHOTS).await?;
            let lines = page.iter().map(|row| format!("{}\n", json!(shown(row))));
            let last = page.last().map(|row| row.id.clone());
            Ok(last.map(|last| (lines.collect(), last)))
        }
    })
}

fn write<const N: usize>(
    sender: Pieces,
    provisioner: &Provisioner,
    user_id: &str,
    about: &Value,
    lines: [(&str, Lines); N],
    runtime: &Handle,
) -> Result<(), Failure> {
    let now = clock::now();
    let mut archive = Archive::new(BufWriter::with_capacity(PIECE, sender));
    archive.append("about.json", now, format!("{about:#}\n").as_bytes())?;
    let exported = provisioner.export(user_id, Bounds::new(), &mut archive)?;
    for (name, mut pages) in lines {
        for number in 1_u64.. {
            let Some(page) = runtime.block_on(pages.next()) else {
                break;
            };
            let name = format!("{name}-{number:06}.jsonl");
            archive.append(&name, now, page?.as_bytes())?;
        }
    }
    let told = format!("{:#}\n", told(&exported.unwrap_or_default()));
    archive.append("export.json", now, told.as_bytes())?;
    archive.finish()?;
    Ok(())
}

fn told(exported: &Exported) -> Value {
    let omissions = exported.omissions.iter().map(|omission| {
        json!({ "path": omission.path.to_string_lossy(), "reason": omission.reason.as_str() })
    });
    json!({
        "files": exported.files, "directories": exported.directories, "links": exported.links,
        "bytes": exported.bytes, "truncated": exported.truncated, "omitted": exported.omitted,
        "omissions": omissions.collect::<Vec<_>>(),
    })
}

/// Where a thread that may block writes, for who reads the answer.
struct Pieces(mpsc::Sender<io::Result<Bytes>>);

// === impl Pieces ===

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = Bytes::copy_from_slice(bytes);
        let sent = self.0.blocking_send(Ok(piece));
        sent.map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
