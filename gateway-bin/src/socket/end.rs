use tokio_websockets::{CloseCode, Message};

/// Why a relay ended, as the close frame for the client says it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum End {
    /// The client closed or is gone: nothing to say.
    Client,
    /// The client broke the protocol.
    Protocol(u16, &'static str),
    /// The instance closed: its code is carried over.
    Instance(u16, Box<str>),
    /// What the socket was opened with has expired.
    Expired,
    /// What the socket was opened with was revoked: somebody signed out, or was disabled.
    Revoked,
    /// The gateway stops.
    Shutdown,
}

// === impl End ===

impl End {
    /// The close frame for the client; `None`: it needs none.
    ///
    /// Codes that may not be sent (RFC 6455 §7.4.1: 1005, 1006, 1015) become 1012, on which clients come back.
    #[must_use]
    pub fn close(&self) -> Option<Message> {
        let (code, reason) = match self {
            Self::Client => return None,
            Self::Protocol(code, reason) => (*code, *reason),
            Self::Instance(code, reason) => (*code, &**reason),
            Self::Expired => (4401, "credential expired"),
            Self::Revoked => (4401, "signed out"),
            Self::Shutdown => (1012, "service restart"),
        };
        let code = CloseCode::try_from(code)
            .ok()
            .filter(|code| !code.is_reserved())
            .unwrap_or(CloseCode::SERVICE_RESTART);
        // A control frame holds 125 bytes, two of them the code (RFC 6455 §5.5).
        let reason = reason.get(..reason.len().min(123)).unwrap_or("");
        Some(Message::close(Some(code), reason))
    }
}
