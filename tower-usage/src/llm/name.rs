use std::sync::Arc;

/// Longer ids and names of models are not taken; they would end in every record.
const LIMIT: usize = 256;

/// An id or the name of a model, unless it is empty or too long.
pub(super) fn name(text: &str) -> Option<Arc<str>> {
    (!text.is_empty() && text.len() <= LIMIT).then(|| text.into())
}
