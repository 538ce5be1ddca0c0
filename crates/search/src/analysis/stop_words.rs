//! English words that every text has. The list is the short one that Lucene uses; a longer one would take words that
//! mean something in names. To add a word: here, in order, and a new `ANALYSIS_FORMAT`.

const WORDS: [&str; 33] = [
    "a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is", "it", "no",
    "not", "of", "on", "or", "such", "that", "the", "their", "then", "there", "these", "they", "this", "to",
    "was", "will", "with",
];

/// Whether the word, in lower case, is passed over.
pub(super) fn contains(word: &str) -> bool {
    WORDS.binary_search(&word).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_in_order() {
        assert!(WORDS.is_sorted());
        assert!(contains("the") && !contains("yield") && !contains(""));
    }
}
