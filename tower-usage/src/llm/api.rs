use std::fmt;

/// An API of language models.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Api {
    /// OpenAI's chat completions: `POST …/chat/completions`.
    ChatCompletions,
    /// OpenAI's responses: `POST …/responses`.
    Responses,
    /// OpenAI's embeddings: `POST …/embeddings`.
    Embeddings,
    /// Anthropic's messages: `POST …/v1/messages`.
    Messages,
}

// === impl Api ===

impl Api {
    /// The API whose requests have a path that ends so: with `/chat/completions`, `/responses`, `/embeddings` or
    /// `/messages`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_usage::llm::Api;
    /// assert_eq!(Api::of_path("/v1/messages"), Some(Api::Messages));
    /// assert_eq!(Api::of_path("/v1/messages/count_tokens"), None);
    /// ```
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        let ends = [
            ("/chat/completions", Self::ChatCompletions),
            ("/responses", Self::Responses),
            ("/embeddings", Self::Embeddings),
            ("/messages", Self::Messages),
        ];
        ends.into_iter()
            .find_map(|(end, api)| path.ends_with(end).then_some(api))
    }

    /// The name under which it is shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chat_completions",
            Self::Responses => "responses",
            Self::Embeddings => "embeddings",
            Self::Messages => "messages",
        }
    }
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_an_api_by_the_whole_end_of_the_path() {
        for (path, api) in [
            ("/v1/chat/completions", Some(Api::ChatCompletions)),
            (
                "/openai/deployments/d/chat/completions",
                Some(Api::ChatCompletions),
            ),
            ("/responses", Some(Api::Responses)),
            ("/v1/embeddings", Some(Api::Embeddings)),
            ("/v1/messages", Some(Api::Messages)),
            ("/v1/completions", None),
            ("/v1/responses/", None),
            ("/v1/responses/resp_1", None),
            ("/v1/xresponses", None),
            ("/v1/Messages", None),
            ("/v1/messages/batches", None),
            ("/v1/chat%2Fcompletions", None),
            ("responses", None),
            ("/", None),
            ("", None),
        ] {
            assert_eq!(Api::of_path(path), api, "{path}");
        }
    }
}
