/// A token is about four bytes of English prose (OpenAI Help Center, "What are tokens and how to count them?").
const BYTES_PER_TOKEN: u64 = 4;

/// A guess at the tokens of this much text.
pub(super) const fn tokens(bytes: u64) -> u64 {
    bytes.div_ceil(BYTES_PER_TOKEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_tokens_up() {
        assert_eq!((tokens(0), tokens(1), tokens(4), tokens(5)), (0, 1, 1, 2));
    }
}
