//! Words that stand for the same thing, one word each: a query for one finds texts with another.
//!
//! They work on the terms of a query, never by replacing pieces of its text, so that `ust` does not change `dust`. The
//! texts are indexed as they are: other synonyms need no new index. It refuses synonyms of several words.

use std::collections::BTreeMap;

use kernel::{Error, Result, codes};

use crate::analysis::{Analyzer, Token};

/// What a synonym counts, of what the word itself counts.
const SYNONYM_WEIGHT: f32 = 0.8;

/// One word of a query: the terms that a text may have for it, the word's own first, and what each counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Meaning {
    /// Terms with their weights, 0 to 1.
    pub terms: Vec<(String, f32)>,
}

/// Groups of words that mean the same.
#[derive(Debug, Clone, Default)]
pub struct Synonyms {
    of_term: BTreeMap<String, Vec<String>>,
}

impl Synonyms {
    /// From groups of single words.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for what is not one word, or is one that is passed over.
    pub fn new(groups: &[Vec<String>], analyzer: &Analyzer) -> Result<Self> {
        let mut of_term: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for group in groups {
            let terms = group.iter().map(|word| one_term(word, analyzer)).collect::<Result<Vec<_>>>()?;
            for term in &terms {
                let others = terms.iter().filter(|other| *other != term).cloned();
                let known = of_term.entry(term.clone()).or_default();
                known.extend(others);
                known.sort_unstable();
                known.dedup();
            }
        }
        Ok(Self { of_term })
    }

    /// What the words of a query may stand for. A word that comes twice counts twice, as a text of a query does.
    #[must_use]
    pub fn meanings(&self, query: &[Token]) -> Vec<Meaning> {
        let meaning = |token: &Token| {
            let others = self.of_term.get(&token.term).into_iter().flatten();
            let others = others.map(|other| (other.clone(), SYNONYM_WEIGHT));
            Meaning { terms: std::iter::once((token.term.clone(), 1.0)).chain(others).collect() }
        };
        query.iter().map(meaning).collect()
    }
}

fn one_term(word: &str, analyzer: &Analyzer) -> Result<String> {
    let mut tokens = analyzer.tokens(word).into_iter();
    match (tokens.next(), tokens.next()) {
        (Some(token), None) => Ok(token.term),
        _ => {
            let message =
                format!("a synonym is one word that is not passed over, not `{}`", word.escape_debug());
            Err(Error::new(codes::VALIDATION_ERROR, message).with_field("synonyms"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(groups: &[&[&str]]) -> Result<Synonyms> {
        let groups: Vec<Vec<String>> =
            groups.iter().map(|group| group.iter().map(|word| (*word).to_owned()).collect()).collect();
        Synonyms::new(&groups, &Analyzer::default())
    }

    fn terms(synonyms: &Synonyms, query: &str) -> Vec<Vec<String>> {
        let meanings = synonyms.meanings(&Analyzer::default().tokens(query));
        meanings
            .into_iter()
            .map(|meaning| meaning.terms.into_iter().map(|(term, _)| term).collect())
            .collect()
    }

    #[test]
    fn words_are_replaced_whole() {
        let synonyms = groups(&[&["UST", "treasuries", "govvies"]]).unwrap();
        assert_eq!(terms(&synonyms, "ust dust"), [vec!["ust", "govvi", "treasuri"], vec!["dust"]]);
        assert_eq!(terms(&Synonyms::default(), "ust"), [vec!["ust"]]);
        assert!(terms(&synonyms, "the").is_empty());
    }

    #[test]
    fn what_is_not_one_word_is_refused() {
        for word in ["two words", "", "the"] {
            assert_eq!(groups(&[&["one", word]]).unwrap_err().field(), Some("synonyms"), "{word:?}");
        }
    }
}
