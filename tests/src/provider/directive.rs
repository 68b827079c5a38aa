//! What a message asks the provider to do.

use serde_json::{Value, de::Deserializer};

use super::prompt::Prompt;

/// One call, planned.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    pub(super) input: u64,
    pub(super) output: u64,
    pub(super) cache_read: u64,
    pub(super) cache_write: u64,
    /// How much of the output was thinking.
    pub(super) reasoning: u64,
    /// Milliseconds before the first byte.
    pub(super) sleep: u64,
    /// Milliseconds between two chunks.
    pub(super) chunk_delay: u64,
    pub(super) status: Option<u16>,
    /// How a streamed answer fails, and after how many events.
    pub(super) breaks: Option<(Break, u64)>,
    /// How many of the calls with this message fail.
    pub(super) times: u64,
    /// The number of the answer, which was given before if it is that of one; without, the next one.
    pub(super) answer: Option<u64>,
    pub(super) reply: Reply,
}

/// How a streamed answer fails.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Break {
    /// The connection breaks off.
    Cut,
    /// An error is the last event.
    Fault,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reply {
    Text(String),
    Tool { name: String, arguments: String },
}

impl Plan {
    pub(super) fn of(prompt: &Prompt) -> Self {
        let number = |name| number(&prompt.last_user, name);
        let mut tools = tools(&prompt.last_user);
        let rounds = number("rounds").unwrap_or(tools.len() as u64);
        // The next one that is asked for; the last one again and again where it is called more often.
        let next = usize::try_from(prompt.tool_results).unwrap_or(usize::MAX);
        let last = tools.pop();
        let tool = tools.into_iter().nth(next).or(last);
        let tool = tool.filter(|_| prompt.tool_results < rounds);
        let output = number("out").unwrap_or(20);
        let cut = number("cut").map(|after| (Break::Cut, after));
        let fault = || number("fault").map(|after| (Break::Fault, after));
        Self {
            input: number("in").unwrap_or(100),
            output,
            cache_read: number("cache_read").unwrap_or(0),
            cache_write: number("cache_write").unwrap_or(0),
            reasoning: number("reasoning").unwrap_or(0).min(output),
            sleep: number("sleep").unwrap_or(0),
            chunk_delay: number("chunk_delay").unwrap_or(0),
            status: number("status").and_then(|status| u16::try_from(status).ok()),
            breaks: cut.or_else(fault),
            times: number("times").unwrap_or(u64::MAX),
            answer: number("answer"),
            reply: tool.unwrap_or_else(|| Reply::Text(reply(prompt))),
        }
    }

    /// This plan, where nothing is generated and nothing cached.
    pub(super) fn of_input_only(self) -> Self {
        Self {
            output: 0,
            cache_read: 0,
            cache_write: 0,
            reasoning: 0,
            ..self
        }
    }

    /// OpenAI counts cached tokens as part of the prompt.
    pub(super) fn prompt_tokens(&self) -> u64 {
        let cached = self.cache_read.saturating_add(self.cache_write);
        self.input.saturating_add(cached)
    }
}

fn reply(prompt: &Prompt) -> String {
    if let Some(exactly) = said(&prompt.last_user) {
        return exactly.to_owned();
    }
    match number(&prompt.last_user, "words") {
        Some(words) => (1..=words)
            .map(|n| format!("word{n}"))
            .collect::<Vec<_>>()
            .join(" "),
        None => format!("echo: {}", prompt.bare()),
    }
}

/// `[[say=TEXT]]`
fn said(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("[[say=")?;
    Some(rest.split_once("]]")?.0)
}

fn number(text: &str, name: &str) -> Option<u64> {
    let (_, rest) = text.split_once(&format!("[[{name}="))?;
    rest.split_once("]]")?.0.parse().ok()
}

/// Each `[[tool=NAME]]` or `[[tool=NAME {…}]]`; the arguments may hold brackets of their own.
fn tools(text: &str) -> Vec<Reply> {
    let mut tools = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("[[tool=") {
        rest = after;
        tools.extend(tool(after));
    }
    tools
}

/// The tool that `text` begins with.
fn tool(text: &str) -> Option<Reply> {
    let end = text.find(|c: char| c.is_whitespace() || c == ']')?;
    let (name, rest) = text.split_at(end);
    let rest = rest.trim_start();
    let arguments = if rest.starts_with('{') {
        let mut values = Deserializer::from_str(rest).into_iter::<Value>();
        values.next()?.ok()?;
        rest.get(..values.byte_offset())?
    } else {
        "{}"
    };
    Some(Reply::Tool {
        name: name.to_owned(),
        arguments: arguments.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::{super::prompt::Turn, *};

    fn plan(text: &str) -> Plan {
        Plan::of(&Prompt::of([Turn::User(text.to_owned())]))
    }

    #[test]
    fn echoes_and_counts_a_hundred_and_twenty_without_directives() {
        let plan = plan("hello");
        assert_eq!((plan.input, plan.output, plan.cache_read), (100, 20, 0));
        assert_eq!(plan.reply, Reply::Text("echo: hello".to_owned()));
    }

    #[test]
    fn says_exactly_what_it_is_told_to() {
        let reply = plan("about x [[say=NO_REPLY]] [[in=3]]").reply;
        assert_eq!(reply, Reply::Text("NO_REPLY".to_owned()));
    }

    #[test]
    fn reads_every_number() {
        let plan = plan(
            "x [[in=1]][[out=2]] [[cache_read=3]] [[sleep=4]] [[chunk_delay=5]] [[status=429]] [[words=2]] \
             [[cache_write=6]] [[reasoning=7]] [[times=8]] [[fault=9]]",
        );
        assert_eq!(
            (
                plan.input,
                plan.output,
                plan.cache_read,
                plan.prompt_tokens()
            ),
            (1, 2, 3, 10)
        );
        assert_eq!(
            (plan.cache_write, plan.reasoning, plan.times),
            (6, 2, 8),
            "nobody thinks more than they say"
        );
        assert_eq!(
            (plan.sleep, plan.chunk_delay, plan.status),
            (4, 5, Some(429))
        );
        assert_eq!(plan.breaks, Some((Break::Fault, 9)));
        assert_eq!(plan.reply, Reply::Text("word1 word2".to_owned()));
    }

    #[test]
    fn takes_tool_arguments_with_brackets_in_them() {
        let Reply::Tool { name, arguments } = plan(r#"[[tool=edit {"lines":[[1,2]]}]]"#).reply
        else {
            panic!("no tool call");
        };
        assert_eq!(
            (name.as_str(), arguments.as_str()),
            ("edit", r#"{"lines":[[1,2]]}"#)
        );
    }

    #[test]
    fn calls_a_tool_as_often_as_it_is_told_to() {
        let turns = |text: &str| [Turn::User(text.to_owned()), Turn::Tool("x".to_owned())];
        let plan = |text: &str| Plan::of(&Prompt::of(turns(text)));
        let again = plan("[[tool=ls]] [[rounds=2]] go").reply;
        assert!(matches!(again, Reply::Tool { .. }));
        let second = plan(r#"[[tool=ls]] [[tool=read {"path":"x"}]] go"#).reply;
        assert!(matches!(second, Reply::Tool { name, .. } if name == "read"));
        let plan = plan("[[tool=ls]] go");
        assert_eq!(plan.reply, Reply::Text("echo: go".to_owned()));
    }
}
