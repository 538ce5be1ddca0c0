//! From what two rankings found to the answer: fused, with the items as they are now, marked and explained.
//!
//! It refuses what the filter forbids, whatever a vector was made with.

use std::sync::Arc;

use kernel::Result;
use store::Match;

use crate::algorithms::fusion::{Fused, Fusion, fuse};
use crate::algorithms::highlight::{Highlighting, Word, highlight};
use crate::analysis::{Analyzer, Meaning};
use crate::index::{Counts, Found, TextIndex};
use crate::items::Item;
use crate::service::{Answer, Explanation, Question, SearchResult};

/// Types and tags that are counted in an answer, those that most have.
const FACETS_MAX: usize = 100;

/// What is done with what was found.
pub(crate) struct Showing {
    pub(crate) index: Arc<TextIndex>,
    pub(crate) analyzer: Analyzer,
    pub(crate) fusion: Fusion,
    pub(crate) question: Question,
    pub(crate) is_semantic: bool,
}

impl Showing {
    pub(crate) fn answer(&self, found: Found, semantic: &[Match]) -> Result<Answer> {
        let lexical: Vec<(String, f32)> = found.hits.iter().map(|hit| (hit.key.clone(), hit.score)).collect();
        let semantic: Vec<(String, f32)> = semantic.iter().map(|one| (one.key.clone(), one.score)).collect();
        // One ranking alone keeps its own scores.
        let fused = match self.is_semantic {
            true => fuse(self.fusion, &lexical, &semantic),
            false => lexical.iter().map(|(key, score)| plain(key, *score)).collect(),
        };
        let mut results = Vec::new();
        for one in fused {
            if results.len() == self.question.limit {
                break;
            }
            // A vector may outlive its item, and what its item was, for a while.
            let item = self.index.item(&one.key)?.filter(|item| self.question.filter.accepts(item));
            let Some(item) = item else { continue };
            results.push(self.show(item, &one, &found.meanings, [&lexical, &semantic])?);
        }
        let total = found.total.max(results.len() as u64);
        let (types, tags) = (commonest(found.types), commonest(found.tags));
        Ok(Answer { results, total, semantic: self.is_semantic, types, tags, ..Answer::default() })
    }

    fn show(
        &self,
        item: Item,
        fused: &Fused<String>,
        meanings: &[Meaning],
        rankings: [&Vec<(String, f32)>; 2],
    ) -> Result<SearchResult> {
        let highlight = self.question.highlights.then(|| self.highlight(&item.text, meanings));
        let explanation = match self.question.explains {
            false => None,
            true => {
                let own = |list: &Vec<(String, f32)>| {
                    list.iter().find(|(key, _)| *key == fused.key).map(|(_, score)| *score)
                };
                Some(Explanation {
                    lexical: fused.lexical,
                    semantic: fused.semantic,
                    bm25: own(rankings[0]),
                    cosine: own(rankings[1]),
                    words: self.index.explain(&fused.key, meanings)?,
                })
            }
        };
        Ok(SearchResult { item, score: fused.score, highlight, explanation })
    }

    fn highlight(&self, text: &str, meanings: &[Meaning]) -> String {
        let term_of = |term: &str| {
            meanings.iter().position(|meaning| meaning.terms.iter().any(|(known, _)| known == term))
        };
        let word = |token: crate::analysis::Token| Word {
            start: token.start,
            end: token.end,
            term: term_of(&token.term),
        };
        let words: Vec<Word> = self.analyzer.tokens(text).into_iter().map(word).collect();
        highlight(text, &words, Highlighting::default())
    }
}

/// The values that most have.
fn commonest(counts: Counts) -> Counts {
    if counts.len() <= FACETS_MAX {
        return counts;
    }
    let mut counts: Vec<(String, u64)> = counts.into_iter().collect();
    counts.sort_by(|left, right| right.1.cmp(&left.1).then_with(|| left.0.cmp(&right.0)));
    counts.truncate(FACETS_MAX);
    counts.into_iter().collect()
}

fn plain(key: &str, score: f32) -> Fused<String> {
    let score = f64::from(score);
    Fused { key: key.to_owned(), score, lexical: Some(score), semantic: None }
}
