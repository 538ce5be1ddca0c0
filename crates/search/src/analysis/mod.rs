//! From a text to the terms that it is found by: words as Unicode Standard Annex 29 has them, in lower case, without
//! the English possessive, without stop words, stemmed by Porter's algorithm (1980).
//!
//! Texts and queries take the same way, which is that of Lucene's English analyser. It refuses to guess the language, and
//! words of more than 128 bytes, which nobody looks for. To add a step: [`Analyzer::term`], and a new
//! [`ANALYSIS_FORMAT`], so that indexes that were made by the step before are built again.

mod stop_words;
mod synonyms;

use std::fmt;

use frostem::{Algorithm, Stemmer};
pub use synonyms::{Meaning, Synonyms};
use unicode_segmentation::UnicodeSegmentation;

/// What an index was made by; one of another number is built again.
pub const ANALYSIS_FORMAT: u32 = 1;

const WORD_BYTES_MAX: usize = 128;

/// A term and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What is looked up.
    pub term: String,
    /// The first byte of the word.
    pub start: usize,
    /// One past its last byte.
    pub end: usize,
}

/// Makes terms.
#[derive(Clone, Copy)]
pub struct Analyzer {
    stemmer: Stemmer,
}

impl fmt::Debug for Analyzer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Analyzer")
    }
}

impl Default for Analyzer {
    fn default() -> Self {
        Self { stemmer: Stemmer::new(Algorithm::Porter) }
    }
}

impl Analyzer {
    /// The terms of a text, in its order.
    #[must_use]
    pub fn tokens(&self, text: &str) -> Vec<Token> {
        let token = |(start, word): (usize, &str)| {
            let term = self.term(word)?;
            Some(Token { term, start, end: start + word.len() })
        };
        text.unicode_word_indices().filter_map(token).collect()
    }

    /// The term of one word; nothing where it is passed over.
    fn term(&self, word: &str) -> Option<String> {
        if word.len() > WORD_BYTES_MAX {
            return None;
        }
        let lower = word.to_lowercase();
        let stem = ["'s", "’s"].iter().find_map(|end| lower.strip_suffix(end)).unwrap_or(&lower);
        if stem.is_empty() || stop_words::contains(stem) {
            return None;
        }
        match self.stemmer.stem(stem) {
            // Of `s` alone the algorithm leaves nothing.
            nothing if nothing.is_empty() => Some(stem.to_owned()),
            stemmed => Some(stemmed.into_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_become_terms() {
        let check = |text: &str, expected: &[&str]| {
            let found: Vec<String> =
                Analyzer::default().tokens(text).into_iter().map(|token| token.term).collect();
            assert_eq!(found, expected, "{text:?}");
        };
        check("The yields are rising", &["yield", "rise"]);
        check("Brent's curve-building at 3.5%", &["brent", "curv", "build", "3.5"]);
        check("ÜBER Öl", &["über", "öl"]);
        check("", &[]);
        check("... !", &[]);
        check(&"x".repeat(200), &[]);
    }

    #[test]
    fn places_are_those_of_the_words() {
        let text = "über Curves.";
        let found = Analyzer::default().tokens(text);
        let words: Vec<&str> = found.iter().map(|token| &text[token.start..token.end]).collect();
        assert_eq!(words, ["über", "Curves"]);
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in "\\PC{0,200}") {
            for token in Analyzer::default().tokens(&text) {
                prop_assert!(text.get(token.start..token.end).is_some());
                prop_assert!(!token.term.is_empty());
            }
        }
    }
}
