//! Under which names the server has what, and in which form.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;

use crate::session::{End, Ended, Key, Kind, Record};

/// What an index has of a record.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) created_at: SystemTime,
}

// === impl Entry ===

impl Entry {
    pub(super) const fn of(record: &Record) -> Self {
        Self {
            key: record.key,
            created_at: record.created_at,
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let (key, created) = text.split_once(' ')?;
        Some(Self {
            key: Key::parse(key)?,
            created_at: time(created)?,
        })
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.key, millis(self.created_at))
    }
}

pub(super) fn read_ended(text: &str) -> Option<Ended> {
    let mut parts = text.splitn(4, ' ');
    let id = parts.next()?.parse().ok()?;
    let kind = parts.next()?;
    let length: usize = parts.next()?.parse().ok()?;
    let (a, b) = parts.next()?.split_at_checked(length)?;
    let what = End::from_parts(kind, a.into(), b.into())?;
    Some(Ended { id, what })
}

pub(super) fn read_record(key: Key, fields: Vec<Option<Bytes>>) -> Option<Record> {
    let mut fields = fields.into_iter();
    let mut data = None;
    let mut next = || fields.next().flatten();
    let mut texts = Vec::with_capacity(9);
    for _ in 0..9 {
        texts.push(String::from_utf8(next()?.to_vec()).ok()?);
    }
    data.replace(next()?);
    let [
        kind,
        user_id,
        provider,
        subject,
        session_id,
        created,
        seen,
        expires,
        version,
    ]: [String; 9] = texts.try_into().ok()?;
    Some(Record {
        key,
        kind: match &*kind {
            "session" => Kind::Session,
            "access_token" => Kind::AccessToken,
            _ => return None,
        },
        user_id: user_id.into(),
        provider: provider.into(),
        subject: subject.into(),
        session_id: session_id.strip_prefix('=').map(Arc::from),
        created_at: time(&created)?,
        seen_at: time(&seen)?,
        expires_at: time(&expires)?,
        version: version.parse().ok()?,
        data: data?,
    })
}

pub(super) fn indexes_of(record: &Record) -> impl Iterator<Item = String> {
    let session_id = record.session_id.as_deref();
    indexes(
        &record.user_id,
        &record.provider,
        &record.subject,
        session_id,
    )
}

pub(super) fn indexes(
    user_id: &str,
    provider: &str,
    subject: &str,
    session_id: Option<&str>,
) -> impl Iterator<Item = String> + use<> {
    [
        Some(user_index(user_id)),
        Some(subject_index(provider, subject)),
        session_id.map(|session_id| sid_index(provider, session_id)),
    ]
    .into_iter()
    .flatten()
}

pub(super) fn name(key: Key) -> String {
    format!("sso:record:{key}")
}

pub(super) fn user_index(user_id: &str) -> String {
    format!("sso:user:{user_id}")
}

pub(super) fn sid_index(provider: &str, session_id: &str) -> String {
    format!("sso:sid:{}:{provider}:{session_id}", provider.len())
}

pub(super) fn subject_index(provider: &str, subject: &str) -> String {
    format!("sso:sub:{}:{provider}:{subject}", provider.len())
}

pub(super) const fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Session => "session",
        Kind::AccessToken => "access_token",
    }
}

pub(super) fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(super) fn millis(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    // What scripts compute with is exact up to 2^53.
    since.as_millis().min(1 << 52).to_string()
}

pub(super) fn time(millis: &str) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_millis(millis.parse().ok()?))
}
