//! The parameters of the declared methods.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::object::Object;

/// The parameters of all declared methods in one type, so that a frame is parsed once whichever member comes first.
macro_rules! params {
    ($($name:ident: $ty:ty = $field:ident,)*; nullable { $($may:ident: $may_ty:ty = $may_field:ident,)* }) => {
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
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub(super) archived: Option<Archived>,
            $(#[serde(default, skip_serializing_if = "Option::is_none")] pub(super) $name: Option<$ty>,)*
            $(
                #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
                pub(super) $may: Option<Option<$may_ty>>,
            )*
        }

        /// A parameter that only some methods have.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub(super) enum Field {
            SessionKey,
            Key,
            Archived,
            ArchivedToo,
            $($field,)*
            $($may_field,)*
        }

        impl Params<'_> {
            /// The parameters that are set.
            pub(super) fn fields(&self) -> impl Iterator<Item = Field> {
                [
                    self.session_key.is_some().then_some(Field::SessionKey),
                    self.key.is_some().then_some(Field::Key),
                    self.archived.as_ref().map(Archived::field),
                    $(self.$name.is_some().then_some(Field::$field),)*
                    $(self.$may.is_some().then_some(Field::$may_field),)*
                ]
                .into_iter()
                .flatten()
            }
        }
    };
}

params! {
    active_minutes: u32 = ActiveMinutes,
    active_only: bool = ActiveOnly,
    allow_missing: bool = AllowMissing,
    archived_only: bool = ArchivedOnly,
    attachments: Vec<Object<Attachment<'a>>> = Attachments,
    board_face: Text<'a> = BoardFace,
    clear_queued: bool = ClearQueued,
    configured_agents_only: bool = ConfiguredAgentsOnly,
    cursor: Text<'a> = Cursor,
    delete_transcript: bool = DeleteTranscript,
    deliver: No = Deliver,
    emit_command_hooks: bool = EmitCommandHooks,
    exclude_cron: bool = ExcludeCron,
    exclude_subagents: bool = ExcludeSubagents,
    exclude_system: bool = ExcludeSystem,
    expected_lifecycle_revision: Text<'a> = ExpectedLifecycleRevision,
    expected_session_id: Text<'a> = ExpectedSessionId,
    expected_session_routing_contract: Text<'a> = ExpectedSessionRoutingContract,
    expected_session_updated_at: Number = ExpectedSessionUpdatedAt,
    idempotency_key: Text<'a> = IdempotencyKey,
    include_activity_summary: bool = IncludeActivitySummary,
    include_derived_titles: bool = IncludeDerivedTitles,
    include_global: bool = IncludeGlobal,
    include_last_message: bool = IncludeLastMessage,
    include_unknown: bool = IncludeUnknown,
    input_run_ids: Vec<Text<'a>> = InputRunIds,
    limit: u32 = Limit,
    max_bytes: u32 = MaxBytes,
    max_chars: u32 = MaxChars,
    message: Text<'a> = Message,
    message_id: Text<'a> = MessageId,
    offset: u32 = Offset,
    owner_first: bool = OwnerFirst,
    pending_before: u32 = PendingBefore,
    pinned: bool = Pinned,
    queue_mode: Text<'a> = QueueMode,
    require_last_interaction: bool = RequireLastInteraction,
    run_id: Text<'a> = RunId,
    search: Text<'a> = Search,
    session_id: Text<'a> = SessionId,
    short_id: Text<'a> = ShortId,
    slug_hint: Text<'a> = SlugHint,
    sort_by: Text<'a> = SortBy,
    spawned_by: Text<'a> = SpawnedBy,
    thinking: Text<'a> = Thinking,
    timeout_ms: u32 = TimeoutMs,
    title_source: Text<'a> = TitleSource,
    token: Text<'a> = Token,
    unread: bool = Unread,
    view: Text<'a> = View,
    ;
    // `null` takes away what there was, or says that nothing is expected.
    nullable {
        category: Text<'a> = Category,
        color: Text<'a> = Color,
        expected_leaf_entry_id: Text<'a> = ExpectedLeafEntryId,
        expected_marked_unread_at: Number = ExpectedMarkedUnreadAt,
        expected_permission_mode: Text<'a> = ExpectedPermissionMode,
        expected_tool_overrides: Never = ExpectedToolOverrides,
        icon: Text<'a> = Icon,
        label: Text<'a> = Label,
        model: Text<'a> = Model,
        thinking_level: Text<'a> = ThinkingLevel,
    }
}

/// A number, as the client wrote it.
type Number = serde_json::Number;

/// A flag that only may be `false`.
#[derive(Deserialize, Serialize)]
#[serde(try_from = "bool", into = "bool")]
#[derive(Clone, Copy)]
pub(super) struct No;

impl TryFrom<bool> for No {
    type Error = &'static str;

    fn try_from(flag: bool) -> Result<Self, Self::Error> {
        if flag { Err("must be false") } else { Ok(Self) }
    }
}

impl From<No> for bool {
    fn from(_: No) -> Self {
        false
    }
}

/// A parameter that only may be `null`.
#[derive(Deserialize, Serialize)]
pub(super) enum Never {}

/// `archived` of two methods: a flag of one, and of another also the word `"all"`.
#[derive(Deserialize, Serialize)]
#[serde(untagged)]
pub(super) enum Archived {
    Flag(bool),
    All(AllWord),
}

#[derive(Deserialize, Serialize)]
pub(super) enum AllWord {
    #[serde(rename = "all")]
    All,
}

impl Archived {
    const fn field(&self) -> Field {
        match self {
            Self::Flag(_) => Field::Archived,
            Self::All(_) => Field::ArchivedToo,
        }
    }
}

/// Tells `null` from what is absent.
fn nullable<'de, T, D>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: serde::Deserializer<'de>,
{
    Option::deserialize(deserializer).map(Some)
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
