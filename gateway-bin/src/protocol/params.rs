//! The parameters of the declared methods.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::object::Object;

/// The parameters of all declared methods in one type, so that a frame is parsed once whichever member comes first.
macro_rules! params {
    ($($name:ident: $ty:ty = $field:ident,)*) => {
        #[derive(Default, Deserialize, Serialize)]
        #[serde(deny_unknown_fields, rename_all = "camelCase")]
        pub(super) struct Params<'a> {
            #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
            pub(super) session_key: Option<Cow<'a, str>>,
            #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
            pub(super) key: Option<Cow<'a, str>>,
            #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
            pub(super) agent_id: Option<Cow<'a, str>>,
            // Put in by the shipped page after a reconnect; the instance takes it from that page only.
            #[serde(default, rename = "__controlUiReconnectResume", skip_serializing)]
            _resume: Option<bool>,
            $(#[serde(default, skip_serializing_if = "Option::is_none")] pub(super) $name: Option<$ty>,)*
        }

        /// A parameter that only some methods have.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub(super) enum Field {
            SessionKey,
            Key,
            $($field,)*
        }

        impl Params<'_> {
            /// The parameters that are set.
            pub(super) fn fields(&self) -> impl Iterator<Item = Field> {
                [
                    self.session_key.is_some().then_some(Field::SessionKey),
                    self.key.is_some().then_some(Field::Key),
                    $(self.$name.is_some().then_some(Field::$field),)*
                ]
                .into_iter()
                .flatten()
            }
        }
    };
}

params! {
    active_minutes: u32 = ActiveMinutes,
    archived: bool = Archived,
    archived_only: bool = ArchivedOnly,
    attachments: Vec<Object<Attachment<'a>>> = Attachments,
    cursor: Text<'a> = Cursor,
    expected_session_id: Text<'a> = ExpectedSessionId,
    idempotency_key: Text<'a> = IdempotencyKey,
    include_derived_titles: bool = IncludeDerivedTitles,
    include_last_message: bool = IncludeLastMessage,
    label: Text<'a> = Label,
    limit: u32 = Limit,
    max_bytes: u32 = MaxBytes,
    max_chars: u32 = MaxChars,
    message: Text<'a> = Message,
    offset: u32 = Offset,
    pinned: bool = Pinned,
    queue_mode: Text<'a> = QueueMode,
    run_id: Text<'a> = RunId,
    search: Text<'a> = Search,
    session_id: Text<'a> = SessionId,
    thinking: Text<'a> = Thinking,
    timeout_ms: u32 = TimeoutMs,
    unread: bool = Unread,
}

/// A string that is borrowed where the frame has no escapes in it; serde borrows a `Cow` only where it is told to.
#[derive(Deserialize, Serialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// An attached file or picture.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Attachment<'a> {
    #[serde(
        default,
        borrow,
        rename = "type",
        skip_serializing_if = "Option::is_none"
    )]
    kind: Option<Cow<'a, str>>,
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    mime_type: Option<Cow<'a, str>>,
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    file_name: Option<Cow<'a, str>>,
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    origin: Option<Cow<'a, str>>,
    /// Base64.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    content: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    duration_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    width: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    height: Option<u32>,
}
