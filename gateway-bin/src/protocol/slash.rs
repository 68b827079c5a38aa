//! Slash commands inside a message: OpenClaw carries out what a message says, in the name of whoever sent it.
//!
//! It reads a command at the beginning of a message, behind any white space and any `[…]`, and a few (its directives and
//! inline shortcuts) wherever a word begins; in any case of letters, with `:` or white space behind the name. What a
//! command of 2026.9.6 does for somebody without rights was tried; where it reaches beyond the own session, or shows
//! something of the host, it is refused. A word at the beginning that is in no row is refused too: a plugin may have
//! made a command of it, and the next OpenClaw may. Skills are called by `/skill NAME` or `$NAME`. In the middle of
//! a message an unknown word is text.

use thiserror::Error;

use super::policy::{Cell, Policy, Reason};

/// One command of the table.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Command {
    /// Its name and the other ones that it goes by, without the slash.
    pub names: &'static [&'static str],
    /// Where in a message it is read.
    pub read: Read,
    /// What becomes of it in a pool.
    pub verdict: Verdict,
    /// In a cell; one that is refused there is as in a pool.
    pub cell: Cell,
}

/// Where in a message a command is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Read {
    /// At its beginning.
    First,
    /// Wherever a word begins.
    Anywhere,
}

/// What becomes of a command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Verdict {
    /// It passes: it is about the own session.
    Pass,
    /// It passes but with one of these words, or with one that begins with one of those that end with `=`, within its
    /// arguments.
    PassBut(&'static [&'static str], Reason),
    /// It is refused.
    Refuse(Reason),
}

/// A message is not forwarded, because of a command in it.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum Refused {
    /// A command that nobody may use here, or not with these arguments.
    #[error("/{0} is not available here: {1}")]
    Command(&'static str, Reason),
    /// A command that is in no row.
    #[error(
        "this command is not known here; a message that begins with another character is sent as it is"
    )]
    Unknown,
}

/// The table, in the order of OpenClaw's own, and what its bundled plugins add.
pub const COMMANDS: &[Command] = &[
    passes(&["help"], Read::Anywhere),
    passes(&["commands"], Read::Anywhere),
    passes(&["tools"], Read::First),
    // Skills run as the own agent; what one calls by itself is bound to the agent's tools.
    passes(&["skill"], Read::First),
    refused(&["dashboard"], Read::First, Reason::NotOffered).in_cell(),
    // Proposes skills for everybody.
    refused(&["learn"], Read::First, Reason::Everybody).in_cell(),
    // Makes a job that runs by the clock.
    refused(&["loop"], Read::First, Reason::Uncounted).in_cell(),
    // With `plugins` it tells what failed to load, and from where.
    but(
        &["status"],
        Read::Anywhere,
        &["plugins"],
        Reason::Administers,
    ),
    // Goes on by itself.
    refused(&["goal"], Read::First, Reason::Uncounted).in_cell(),
    refused(&["diagnostics"], Read::First, Reason::Administers),
    refused(&["login"], Read::First, Reason::Credentials),
    refused(&["openclaw"], Read::First, Reason::Administers),
    passes(&["tasks"], Read::First),
    refused(&["allowlist"], Read::First, Reason::Administers),
    refused(&["approve"], Read::First, Reason::Approvals).in_cell(),
    // Names directories of the host.
    refused(&["context"], Read::First, Reason::Host).in_cell(),
    passes(&["btw", "side"], Read::First),
    refused(&["export-session", "export"], Read::First, Reason::Host).in_cell(),
    refused(
        &["export-trajectory", "trajectory"],
        Read::First,
        Reason::Host,
    )
    .in_cell(),
    // `/tts on` makes every reply of everybody at the instance be spoken, by a service that nobody counts.
    refused(&["tts"], Read::First, Reason::Everybody),
    passes(&["whoami", "id"], Read::Anywhere),
    refused(&["session"], Read::First, Reason::Channels),
    refused(&["subagents"], Read::First, Reason::NotOffered).in_cell(),
    refused(&["acp"], Read::First, Reason::Host),
    refused(&["agents"], Read::First, Reason::NotOffered).in_cell(),
    passes(&["steer", "tell"], Read::First),
    refused(&["config"], Read::First, Reason::Administers),
    refused(&["mcp"], Read::First, Reason::Administers),
    refused(&["plugins", "plugin"], Read::First, Reason::Administers),
    refused(&["debug"], Read::First, Reason::Administers),
    passes(&["usage"], Read::First),
    passes(&["stop"], Read::First),
    refused(&["restart"], Read::First, Reason::Administers),
    refused(&["update"], Read::First, Reason::Administers),
    refused(&["activation"], Read::First, Reason::Channels),
    refused(&["send"], Read::First, Reason::Channels),
    // The instance refuses these two to everybody without its administration, in words of its own.
    passes(&["reset"], Read::First),
    passes(&["new"], Read::First),
    passes(&["name"], Read::First),
    passes(&["compact"], Read::First),
    passes(&["think", "thinking", "t"], Read::Anywhere),
    passes(&["verbose", "v"], Read::Anywhere),
    refused(&["trace"], Read::Anywhere, Reason::Administers),
    passes(&["fast"], Read::Anywhere),
    passes(&["reasoning", "reason"], Read::Anywhere),
    refused(&["elevated", "elev"], Read::Anywhere, Reason::Host),
    // Where and how freely the agent runs programs: for that message even somebody without rights may say so.
    refused(&["exec"], Read::Anywhere, Reason::Host),
    // `status` names files of the instance and a part of the agent's virtual key; the flags set what others get.
    but(
        &["model"],
        Read::Anywhere,
        &[
            "status",
            "-a",
            "--agent",
            "-g",
            "--global",
            "--runtime",
            "runtime=",
            "harness=",
        ],
        Reason::Administers,
    ),
    passes(&["models"], Read::First),
    passes(&["queue"], Read::Anywhere),
    refused(&["bash"], Read::First, Reason::Host),
    // Of plugins.
    refused(&["active-memory"], Read::First, Reason::Everybody).in_cell(),
    refused(&["card"], Read::First, Reason::Channels),
    refused(&["codex"], Read::First, Reason::Uncounted),
    refused(&["dreaming"], Read::First, Reason::Everybody).in_cell(),
    refused(&["pair"], Read::First, Reason::Devices),
    refused(&["reef"], Read::First, Reason::Channels),
    refused(&["voice", "talkvoice"], Read::First, Reason::Everybody),
    refused(&["workboard"], Read::First, Reason::Everybody).in_cell(),
];

/// How many words behind a command may be its arguments: `/model REF --runtime NAME -g` has four.
const ARGUMENTS: usize = 6;

/// Longest label that OpenClaw may take off the beginning of a message, in characters (`stripStructuralPrefixes`).
const LABEL: usize = 120;

/// Whether a message may go to the instance. Allocates nothing.
///
/// # Errors
///
/// [`Refused`], with the first command that may not.
pub fn check(message: &str) -> Result<(), Refused> {
    check_in(Policy::Pool, message)
}

/// The same as the column of `policy` has it.
///
/// # Errors
///
/// [`Refused`], with the first command that may not.
pub fn check_in(policy: Policy, message: &str) -> Result<(), Refused> {
    // Over all bytes, which are then compared many at a time.
    let is_mark = |byte: &u8| matches!(byte, b'/' | b'!');
    if !message
        .as_bytes()
        .iter()
        .fold(false, |any, byte| any | is_mark(byte))
    {
        return Ok(());
    }
    let (mut rest, mut place, mut begins) = (message, Place::Beginning, true);
    while let Some(next) = rest.chars().next() {
        let behind = rest.get(next.len_utf8()..).unwrap_or_default();
        if is_dropped(next) {
            rest = behind;
            continue;
        }
        if let Some(behind) = skip_space(rest) {
            (rest, place, begins) = (behind, place.behind_space(next), true);
            continue;
        }
        match (next, place) {
            ('/', _) if begins => {
                check_word(policy, behind, place)?;
                place = Place::Text;
            }
            ('!', Place::Beginning) => {
                return Err(Refused::Command("bash", Reason::Host));
            }
            ('[', Place::Beginning) => {
                if let Some((inside, behind)) = behind.split_once(']')
                    && !inside.contains('\n')
                {
                    (rest, begins) = (behind, true);
                    continue;
                }
                place = Place::Text;
            }
            _ => place = place.behind(next),
        }
        (rest, begins) = (behind, false);
    }
    Ok(())
}

/// Where in a message something stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    /// Nothing is before it that OpenClaw does not take off.
    Beginning,
    /// Behind so many characters that may be a label.
    Label(usize),
    /// Behind a label and its `:`.
    Colon,
    /// Behind `label: `, which OpenClaw takes off in some places and not in others.
    Labelled,
    /// In the text.
    Text,
}

/// Checks what stands behind a `/` with which a word begins.
fn check_word(policy: Policy, text: &str, place: Place) -> Result<(), Refused> {
    let first = matches!(place, Place::Beginning | Place::Labelled);
    // Commands of plugins may stand apart from their slash.
    let text = match first {
        true => text.trim_start_matches(is_space),
        false => text,
    };
    let end = text.find(ends_word).unwrap_or(text.len());
    let (name, arguments) = text.split_at_checked(end).unwrap_or_default();
    if !is_name(name) {
        return Ok(());
    }
    let table: &[Command] = if first { COMMANDS } else { &INLINE };
    let found = table
        .iter()
        .find_map(|command| Some((command, command.named(name)?)));
    let Some((command, called)) = found else {
        return match place {
            Place::Beginning => Err(Refused::Unknown),
            _ => Ok(()),
        };
    };
    if policy == Policy::Cell && command.cell == Cell::Pass {
        return Ok(());
    }
    match command.verdict {
        Verdict::Pass => Ok(()),
        Verdict::Refuse(reason) => Err(Refused::Command(called, reason)),
        Verdict::PassBut(words, reason) => {
            let mut arguments = arguments
                .split(|c| is_space(c) || c == ':')
                .filter(|word| !word.is_empty())
                .take(ARGUMENTS);
            match arguments.any(|argument| words.iter().any(|word| is_word(argument, word))) {
                true => Err(Refused::Command(called, reason)),
                false => Ok(()),
            }
        }
    }
}

/// Those that are read anywhere and may be refused: for all others the middle of a message is text.
static INLINE: [Command; INLINES] = {
    let mut inline = [passes(&[], Read::Anywhere); INLINES];
    let (mut free, mut commands): (&mut [Command], _) = (&mut inline, COMMANDS);
    while let [command, rest @ ..] = commands {
        if command.may_be_refused_anywhere()
            && let [slot, others @ ..] = free
        {
            *slot = *command;
            free = others;
        }
        commands = rest;
    }
    inline
};

/// How many those are.
const INLINES: usize = {
    let (mut inlines, mut commands) = (0, COMMANDS);
    while let [command, rest @ ..] = commands {
        if command.may_be_refused_anywhere() {
            inlines += 1;
        }
        commands = rest;
    }
    inlines
};

/// What is behind white space at the beginning of `text`, and behind a backslash and an `n`, which OpenClaw takes for a
/// line break.
fn skip_space(text: &str) -> Option<&str> {
    text.strip_prefix(is_space)
        .or_else(|| text.strip_prefix("\\n"))
}

/// White space of either language: JavaScript's has a byte order mark more.
fn is_space(c: char) -> bool {
    c.is_whitespace() || c == '\u{feff}'
}

/// Control characters that OpenClaw takes out of a message before it reads it (`DISALLOWED_CHAT_CONTROL_RE`).
fn is_dropped(c: char) -> bool {
    matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{7f}')
}

/// What may stand behind a command; `@` begins the name of whom it is for.
fn ends_word(c: char) -> bool {
    (is_space(c) && !is_dropped(c)) || matches!(c, ':' | '@' | '\\')
}

/// The characters of a word as they are compared.
fn folded(word: &str) -> impl Iterator<Item = char> {
    word.chars()
        .filter(|c| !is_dropped(*c))
        .flat_map(char::to_lowercase)
        .map(|c| if c == '_' { '-' } else { c })
}

fn is_name(word: &str) -> bool {
    let mut name = folded(word).peekable();
    name.peek().is_some() && name.all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-'))
}

/// Whether an argument is `word`, or begins with it where it ends with `=`.
fn is_word(argument: &str, word: &str) -> bool {
    let mut argument = folded(argument);
    let begins = word.chars().all(|c| argument.next() == Some(c));
    begins && (word.ends_with('=') || argument.next().is_none())
}

const fn passes(names: &'static [&'static str], read: Read) -> Command {
    Command {
        names,
        read,
        verdict: Verdict::Pass,
        cell: Cell::Pass,
    }
}

const fn but(
    names: &'static [&'static str],
    read: Read,
    words: &'static [&'static str],
    reason: Reason,
) -> Command {
    Command {
        names,
        read,
        verdict: Verdict::PassBut(words, reason),
        cell: Cell::Refuse,
    }
}

const fn refused(names: &'static [&'static str], read: Read, reason: Reason) -> Command {
    Command {
        names,
        read,
        verdict: Verdict::Refuse(reason),
        cell: Cell::Refuse,
    }
}

// === impl Command ===

impl Command {
    /// Passes in a cell: it reaches what is its person's own.
    const fn in_cell(mut self) -> Self {
        self.cell = Cell::Pass;
        self
    }

    /// The name of it that a word is.
    fn named(&self, word: &str) -> Option<&'static str> {
        let mut names = self.names.iter().copied();
        names.find(|name| folded(word).eq(name.chars()))
    }

    const fn may_be_refused_anywhere(&self) -> bool {
        matches!(self.read, Read::Anywhere) && !matches!(self.verdict, Verdict::Pass)
    }
}

// === impl Place ===

impl Place {
    /// The place behind a character that is no space.
    fn behind(self, c: char) -> Self {
        match self {
            Self::Label(_) if c == ':' => Self::Colon,
            Self::Beginning | Self::Labelled => Self::Label(1),
            Self::Label(length) if length < LABEL => Self::Label(length.saturating_add(1)),
            Self::Label(_) | Self::Colon | Self::Text => Self::Text,
        }
    }

    /// The place behind white space.
    fn behind_space(self, c: char) -> Self {
        match self {
            Self::Label(_) if c == '\n' => Self::Text,
            Self::Colon => Self::Labelled,
            Self::Label(length) if length < LABEL => Self::Label(length.saturating_add(1)),
            Self::Label(_) => Self::Text,
            Self::Beginning | Self::Labelled | Self::Text => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused_command(message: &str) -> Option<&'static str> {
        match check(message) {
            Err(Refused::Command(name, _)) => Some(name),
            Ok(()) | Err(Refused::Unknown) => None,
        }
    }

    #[test]
    fn d3_39_in_a_cell_what_runs_it_is_refused_and_what_is_in_it_is_not() {
        for command in COMMANDS {
            if command.verdict == Verdict::Pass {
                assert_eq!(command.cell, Cell::Pass, "{:?}", command.names);
            }
        }
        for (message, in_pool, in_cell) in [
            ("/help", true, true),
            ("/goal ship it", false, true),
            ("/agents", false, true),
            ("/config show", false, false),
            ("/restart", false, false),
            ("please /exec ask=off", false, false),
            ("! ls", false, false),
            ("/model x -g", false, false),
            ("/of-a-plugin", false, false),
        ] {
            let passes =
                [Policy::Pool, Policy::Cell].map(|policy| check_in(policy, message).is_ok());
            assert_eq!(passes, [in_pool, in_cell], "{message}");
        }
    }

    #[test]
    fn no_name_stands_twice_and_each_is_spelled_as_it_is_compared() {
        let mut names: Vec<_> = COMMANDS.iter().flat_map(|command| command.names).collect();
        names.sort_unstable();
        assert!(names.is_sorted_by(|a, b| a < b));
        for name in names {
            assert!(is_name(name) && folded(name).eq(name.chars()), "{name}");
        }
    }

    #[test]
    fn a_command_is_read_in_every_spelling_that_openclaw_reads() {
        for message in [
            "/config show",
            "/config",
            " \n\t/config show",
            "/CONFIG show",
            "/cOnFiG: show",
            "/config:show",
            "/config\nshow",
            "/config@bot show",
            "/ config show",
            "\u{1}/config show",
            "/con\u{7f}fig show",
            "/\u{0}config",
            "\u{feff}/config show",
            "\u{2028}/config show",
            "\u{a0}/config\u{a0}show",
            "[x] /config show",
            "[Mon 2026-11-26 12:00 UTC] [y]/config show",
            "hello: /config show",
            "hello:\nthere: /config show",
            "\\n/config show",
        ] {
            assert_eq!(refused_command(message), Some("config"), "{message:?}");
        }
        assert_eq!(refused_command("/export_session x"), Some("export-session"));
        assert_eq!(refused_command("/talk\u{1}voice"), Some("talkvoice"));
        for message in ["!ls", "! ls", " !poll", "[x] !ls"] {
            assert_eq!(refused_command(message), Some("bash"), "{message}");
        }
        // The sign of the unit Kelvin is a `k` to whoever asks for small letters.
        assert_eq!(check("/tas\u{212a}s"), Ok(()));
    }

    #[test]
    fn a_directive_is_read_wherever_a_word_begins() {
        for message in [
            "/exec security=full",
            "list it /exec security=full please",
            "list it\n/EXEC: ask=off",
            "list it\\n/exec ask=off",
            "/think high /exec",
            "list\u{a0}/exec",
            "list \u{1}/ex\u{2}ec",
            "/exec@bot",
        ] {
            assert_eq!(refused_command(message), Some("exec"), "{message:?}");
        }
        assert_eq!(refused_command("now /elev full"), Some("elev"));
        assert_eq!(refused_command("/model status"), Some("model"));
        assert_eq!(refused_command("so /MODEL: Status"), Some("model"));
        assert_eq!(refused_command("/model a/b -g"), Some("model"));
        assert_eq!(refused_command("/model a/b runtime=x"), Some("model"));
        assert_eq!(refused_command("hey /status plugins"), Some("status"));
    }

    #[test]
    fn text_is_text_and_commands_of_the_own_session_pass() {
        for message in [
            "",
            "hello",
            "/new",
            "/stop",
            "/model",
            "/model slot-001-openai/test-small -s",
            "/status",
            "hey /status you",
            "/think high",
            "/compact keep the names",
            "/skill mine x",
            "$mine x",
            "/etc/hosts is a file",
            "/config.json is a file",
            "//config show",
            "-/config show",
            "/config=show",
            "look at /config here",
            "a\n/config show",
            "see https://x/exec for it",
            "(/exec)",
            "a/exec b",
            "1 /2",
            "what a day!",
            "say: !important is CSS",
            "/",
            "/ ",
            "\u{200b}/config show",
        ] {
            assert_eq!(check(message), Ok(()), "{message:?}");
        }
    }

    #[test]
    fn a_word_at_the_beginning_that_is_in_no_row_is_refused() {
        for message in [
            "/future now",
            "/mine",
            " /future",
            "/ future",
            "[x] /future:",
        ] {
            assert_eq!(check(message), Err(Refused::Unknown), "{message}");
        }
        assert_eq!(check("hello /future"), Ok(()));
        assert_eq!(check("hello: /future"), Ok(()));
    }

    #[test]
    fn a_long_message_is_read_once() {
        // Were each word looked for in what is behind it, this would take hours.
        assert_eq!(check(&"[ /a : ".repeat(1_000_000)), Ok(()));
        assert_eq!(
            check(&format!("[{}", "[".repeat(1_000_000)).replace("[[", "[/")),
            Ok(())
        );
    }

    proptest! {
        #[test]
        fn no_message_makes_it_panic(message in "[ \\n\\[\\]:/!@\\\\a-z\\PC]{0,60}") {
            let _ = check(&message);
        }

        #[test]
        fn whatever_stands_before_it_a_directive_is_found(text in "[a-z /:\\[\\]\n]{0,40}") {
            prop_assume!(!text.contains("/model"));
            let message = format!("{text} /exec security=full");
            prop_assert!(check(&message).is_err());
        }
    }
}
