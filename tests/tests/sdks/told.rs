//! What the SDKs tell, and what the provider has written down of it.

use std::{collections::HashMap, path::Path, time::Duration};

use gateway_tests::{
    error::Result,
    kit::Kit,
    provider::{ANTHROPIC_MODEL, Api, EMBEDDING_MODEL, MODELS, ModelCall, Tokens},
    script,
};
use serde::Deserialize;
use serde_json::Value;

/// The longest that a script may take, which waits for the SDK to repeat what has failed.
const LIMIT: Duration = Duration::from_secs(120);

/// One line of a script: see `node/sdk.mjs`.
#[derive(Debug, Deserialize)]
pub(crate) struct Told {
    call: String,
    #[serde(default)]
    ids: Vec<String>,
    text: Option<String>,
    usage: Option<Usage>,
    error: Option<Value>,
    answers: Vec<Answer>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Usage {
    input: u64,
    cache_read: u64,
    cache_write: u64,
    output: u64,
    reasoning: u64,
}

#[derive(Debug, Deserialize)]
struct Answer {
    status: u16,
}

/// A provider's APIs, as their SDKs are told of them.
pub(crate) struct Place<'a> {
    pub(crate) openai: &'a str,
    pub(crate) anthropic: &'a str,
    pub(crate) key: &'a str,
}

/// Runs both scripts for somebody whose messages all hold `mark`, and answers what they tell, and everything they print.
pub(crate) async fn run_scripts(
    kit: &Kit,
    place: &Place<'_>,
    mark: &str,
    dir: &Path,
) -> Result<(Vec<Told>, String)> {
    let environment = |base_url, model| {
        [
            ("BASE_URL", base_url),
            ("API_KEY", place.key),
            ("MARK", mark),
            ("MODEL", model),
            ("EMBEDDING_MODEL", EMBEDDING_MODEL),
        ]
    };
    let (openai, anthropic) = (
        environment(place.openai, MODELS[0]),
        environment(place.anthropic, ANTHROPIC_MODEL),
    );
    let log = |name: &str| dir.join(format!("{mark}-{name}.log"));
    let (logs, install) = ((log("openai"), log("anthropic")), &kit.install);
    let (openai, anthropic) = tokio::try_join!(
        script::run(install, "sdk-openai", &openai, &logs.0, LIMIT),
        script::run(install, "sdk-anthropic", &anthropic, &logs.1, LIMIT),
    )?;
    let printed = openai + &anthropic;
    let lines = printed.lines().map(|line| {
        let told = serde_json::from_str(line);
        told.unwrap_or_else(|error| panic!("{error}: {line}"))
    });
    Ok((lines.collect(), printed))
}

/// The calls of `mark`, by the names that the scripts give them. Every one is one of those that are told of.
pub(crate) fn agree(all: &[Told], calls: &[ModelCall], mark: &str) {
    let mut by_name: HashMap<&str, Vec<&ModelCall>> = HashMap::new();
    for call in calls {
        let name = call.last_user.strip_prefix(mark).map(str::trim_start);
        let name = name.and_then(|rest| rest.split_once(": "));
        let (name, _) = name.expect("a name");
        by_name.entry(name).or_default().push(call);
    }
    for told in all {
        compare(
            told,
            &by_name.remove(told.call.as_str()).unwrap_or_default(),
        );
    }
    assert!(by_name.is_empty(), "nobody tells of {:?}", by_name.keys());
    for api in [Api::Chat, Api::Responses, Api::Embeddings, Api::Messages] {
        assert!(calls.iter().any(|call| call.api == api), "{api:?}");
    }
}

/// What an SDK tells of a call is what the provider has written down of it.
fn compare(told: &Told, calls: &[&ModelCall]) {
    let name = told.call.as_str();
    let answered: Vec<_> = told.answers.iter().map(|answer| answer.status).collect();
    let recorded: Vec<_> = calls.iter().map(|call| call.status).collect();
    assert_eq!(answered, recorded, "{name}: each attempt");
    let (attempts, last) = (calls.len(), calls.last());
    let last = last.unwrap_or_else(|| panic!("{name} did not come to the provider"));
    let is = |part| name.split('-').any(|other| other == part);
    if is("failed") {
        let error = told.error.as_ref().expect("an error");
        assert_eq!(error["status"], last.status, "{name}: {error}");
        assert!(error["body"].is_object(), "{name}: {error}");
        assert_eq!((attempts, told.usage.is_some()), (3, false), "{name}");
        return;
    }
    let is_left = is("aborted");
    match &told.error {
        Some(error) => assert!(
            is_left && error["name"] == "APIUserAbortError",
            "{name}: {error}"
        ),
        None => assert!(
            !told.text.as_deref().unwrap_or_default().is_empty(),
            "{name}"
        ),
    }
    assert_eq!(
        attempts,
        if is("tool") || is("retried") { 2 } else { 1 },
        "{name}"
    );
    if told.error.is_none() && last.api != Api::Embeddings {
        let calls = calls.iter().filter(|call| call.status == 200);
        let ids: Vec<_> = calls.map(|call| call.id.as_str()).collect();
        assert_eq!(told.ids, ids, "{name}");
    }
    assert_eq!(told.usage.is_none(), is_left || is("bare"), "{name}");
    if let Some(usage) = &told.usage {
        let billed: Tokens = calls.iter().map(|call| call.tokens()).sum();
        assert_eq!(usage.input, billed.input, "{name}");
        assert_eq!(usage.cache_read, billed.cache_read, "{name}");
        assert_eq!(usage.cache_write, billed.cache_write, "{name}");
        assert_eq!(usage.output, billed.output, "{name}");
        assert_eq!(usage.reasoning, billed.reasoning, "{name}");
    }
}
