use std::{
    fmt::{self, Write as _},
    str::FromStr,
    time::SystemTime,
};

use crate::{Subject, unix_ms::UnixMs};

/// The name of one reservation: whoever has it can settle.
///
/// It says which reservation, whose, and when it was admitted, so that a store can still find the right window long
/// after the reservation itself is gone.
///
/// As text it is one printable line, `v1.<id in hexadecimal>.<Unix milliseconds>.<subject>`, in which control characters
/// and `%` of the subject are percent-encoded; its parents follow, each after `%,`. The text and the ticket stand for each other, so a ledger can keep
/// the text as an opaque reference and settle with it in another process.
///
/// # Examples
///
/// ```
/// use std::time::UNIX_EPOCH;
/// use tower_quota::Ticket;
///
/// let ticket = Ticket::new(7, "auth0|alice", UNIX_EPOCH);
/// let text = ticket.to_string();
/// assert_eq!(text, "v1.00000000000000000000000000000007.0.auth0|alice");
/// assert_eq!(text.parse(), Ok(ticket));
/// ```
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Ticket {
    id: u128,
    admitted_at: UnixMs,
    subject: Subject,
}

// === impl Ticket ===

impl Ticket {
    /// The name of reservation `id` of `subject`, admitted at `admitted_at` by the store's clock.
    ///
    /// The moment is kept to the millisecond, rounded down.
    #[must_use]
    pub fn new(id: u128, subject: impl Into<Subject>, admitted_at: SystemTime) -> Self {
        Self {
            id,
            admitted_at: UnixMs::from(admitted_at),
            subject: subject.into(),
        }
    }

    /// The same of a moment that is whole milliseconds already.
    #[cfg(feature = "memory")]
    pub(crate) const fn at(id: u128, subject: Subject, admitted_at: UnixMs) -> Self {
        Self {
            id,
            admitted_at,
            subject,
        }
    }

    /// Which reservation, among all that a store ever makes.
    #[must_use]
    pub const fn id(&self) -> u128 {
        self.id
    }

    /// Whose reservation.
    #[must_use]
    pub const fn subject(&self) -> &Subject {
        &self.subject
    }

    /// When it was admitted, to the millisecond. What is used counts in the windows of this moment.
    #[must_use]
    pub fn admitted_at(&self) -> SystemTime {
        self.admitted_at.system_time()
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v1.{:032x}.{}.", self.id, self.admitted_at.get())?;
        encode(self.subject.name(), f)?;
        self.subject.parents().try_for_each(|parent| {
            f.write_str(PARENT)?;
            encode(parent, f)
        })
    }
}

impl FromStr for Ticket {
    type Err = ParseTicketError;

    fn from_str(text: &str) -> Result<Self, ParseTicketError> {
        let ticket = parse(text).ok_or(ParseTicketError(()))?;
        // One text for each ticket: a reference that is compared as text must not have a second spelling.
        if ticket.to_string() == text {
            Ok(ticket)
        } else {
            Err(ParseTicketError(()))
        }
    }
}

/// The text is not a [`Ticket`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a quota ticket")]
pub struct ParseTicketError(());

/// Between a subject and its parents: no other `%` is followed by this.
const PARENT: &str = "%,";

fn encode(name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut utf8 = [0; 4];
    for character in name.chars() {
        if is_plain(character) {
            f.write_char(character)?;
        } else {
            for byte in character.encode_utf8(&mut utf8).bytes() {
                write!(f, "%{byte:02X}")?;
            }
        }
    }
    Ok(())
}

fn parse(text: &str) -> Option<Ticket> {
    let (id, rest) = text.strip_prefix("v1.")?.split_once('.')?;
    let (admitted_at, names) = rest.split_once('.')?;
    let mut names = names.split(PARENT).map(decode);
    let subject = Subject::new(names.next()??);
    let subject = names.try_fold(subject, |subject, parent| Some(subject.under(parent?)))?;
    Some(Ticket {
        id: u128::from_str_radix(id, 16).ok()?,
        admitted_at: UnixMs::new(admitted_at.parse().ok()?)?,
        subject,
    })
}

fn decode(subject: &str) -> Option<String> {
    let mut parts = subject.split('%');
    let mut decoded = parts.next()?.as_bytes().to_vec();
    for part in parts {
        decoded.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        decoded.extend_from_slice(part.get(2..)?.as_bytes());
    }
    String::from_utf8(decoded).ok()
}

/// Whether a character stands for itself. The two separators are not control characters, yet end a line for many readers.
fn is_plain(character: char) -> bool {
    !character.is_control() && !matches!(character, '%' | '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_subject_may_hold_anything() {
        let ticket = Ticket::new(
            u128::MAX,
            "a.b%41|\r\nü\u{2028}🦞",
            UNIX_EPOCH + Duration::from_millis(5),
        );

        assert_eq!(
            ticket.to_string(),
            "v1.ffffffffffffffffffffffffffffffff.5.a.b%2541|%0D%0Aü%E2%80%A8🦞"
        );
    }

    #[test]
    fn refuses_text_that_no_ticket_prints() {
        for text in [
            "",
            "v1",
            "v1..",
            "v2.00000000000000000000000000000007.0.alice",
            "v1.7.0.alice",
            "v1.+0000000000000000000000000000007.0.alice",
            "v1.0000000000000000000000000000000A.0.alice",
            "v1.00000000000000000000000000000007.00.alice",
            "v1.00000000000000000000000000000007.-1.alice",
            "v1.00000000000000000000000000000007.99999999999999999.alice",
            "v1.00000000000000000000000000000007.0.al%69ce",
            "v1.00000000000000000000000000000007.0.alice%0a",
            "v1.00000000000000000000000000000007.0.alice%",
            "v1.00000000000000000000000000000007.0.alice%é",
            "v1.00000000000000000000000000000007.0.alice%FF",
            "v1.00000000000000000000000000000007.0.alice\n",
            "v1.00000000000000000000000000000007.0.alice%,%",
            "v1.00000000000000000000000000000007.0.alice%,%2",
        ] {
            assert_eq!(
                text.parse::<Ticket>(),
                Err(ParseTicketError(())),
                "{text:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn text_and_ticket_stand_for_each_other(
            id: u128, ms in 0..253_370_764_799_999_u64, name: String, parents: Vec<String>,
        ) {
            let subject = parents.into_iter().fold(Subject::new(name), Subject::under);
            let ticket = Ticket::new(id, subject, UNIX_EPOCH + Duration::from_millis(ms));
            let text = ticket.to_string();
            prop_assert!(!text.contains(char::is_control));
            prop_assert_eq!(text.parse::<Ticket>(), Ok(ticket));
        }

        #[test]
        fn parsing_never_panics(text: String) {
            let _ = text.parse::<Ticket>();
            let _ = format!("v1.0.0.{text}").parse::<Ticket>();
        }
    }
}
