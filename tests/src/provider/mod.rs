//! A model provider for tests: OpenAI's chat completions, deterministic, with a record of what it
//! would bill.
//!
//! The reply is `echo: <the last user message>`. A directive in that message changes what happens:
//!
//! | directive | effect |
//! | --- | --- |
//! | `[[in=120]] [[out=45]] [[cache_read=30]]` | token counts of this call; without: 100, 20, 0 |
//! | `[[sleep=1500]]` | milliseconds before the first byte |
//! | `[[words=200]] [[chunk_delay=50]]` | a reply of that many words, and milliseconds between the chunks of a streamed one |
//! | `[[status=429]]` | fails with that status |
//! | `[[tool=ls {"path":"."}]]` | calls that tool first: two model calls in one run |
//!
//! `in` counts what was not read from the cache; OpenAI's `prompt_tokens` is `in` plus `cache_read`.
//!
//! `POST /v1/chat/completions` and `GET /v1/models` want one of the provider's keys as bearer token.
//! `GET /__requests` lists the [`ModelCall`]s, oldest first, and `POST /__reset` forgets them.

mod call;
mod chat;
mod client;
mod directive;
mod prompt;
mod server;
mod stream;

pub use call::ModelCall;
pub use client::ProviderClient;
pub use server::{MODELS, Provider};
