//! A model provider for tests: OpenAI's chat completions, responses and embeddings, and Anthropic's messages,
//! deterministic, with a record of what it would bill.
//!
//! The reply is `echo: <the last user message>`. A directive in that message changes what happens:
//!
//! | directive | effect |
//! | --- | --- |
//! | `[[in=120]] [[out=45]] [[cache_read=30]] [[cache_write=10]]` | token counts of this call; without: 100, 20, 0, 0 |
//! | `[[reasoning=5]]` | how much of the output was thinking |
//! | `[[sleep=1500]]` | milliseconds before the first byte |
//! | `[[words=200]] [[chunk_delay=50]]` | a reply of that many words, and milliseconds between the chunks of a streamed one |
//! | `[[say=NO_REPLY]]` | replies exactly that |
//! | `[[status=429]]` | fails with that status |
//! | `[[cut=3]]` | a streamed answer breaks off with its connection, after so many events |
//! | `[[fault=3]]` | an error is the last event of a streamed answer, after so many others |
//! | `[[times=2]]` | only so many calls with this message fail |
//! | `[[answer=900001]]` | the answer of that number, given again: what it is called is made of that |
//! | `[[tool=ls {"path":"."}]]` | calls that tool first: two model calls in one run |
//! | `[[rounds=3]]` | so many times; without: once, or each of several tools once, one after the other |
//!
//! `in` counts what has nothing to do with a cache, as Anthropic's `input_tokens` do; OpenAI's `prompt_tokens` and
//! `input_tokens` are `in`, `cache_read` and `cache_write` together. Embeddings have `in` and nothing else.
//!
//! OpenAI's API wants one of the provider's keys as bearer token; Anthropic's wants it in `x-api-key`, and
//! `anthropic-version` too. As the real ones do, they refuse requests for usage where there is nothing to ask for.
//! `GET /__requests` lists the [`ModelCall`]s, oldest first, and `POST /__reset` forgets them.

mod answer;
mod api;
mod call;
mod chat;
mod client;
mod directive;
mod embeddings;
mod messages;
mod prompt;
mod responses;
mod server;
mod stream;

pub use api::Api;
pub use call::{ModelCall, Tokens};
pub use client::ProviderClient;
pub use server::{ANTHROPIC_MODEL, EMBEDDING_MODEL, MODELS, Provider};
