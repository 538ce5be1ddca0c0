//! From what two rankings found to the answer: fused, with the items as they are now, put in order by a cross-encoder where
//! that was asked for, marked and explained.
//!
//! It refuses what the filter forbids, whatever a vector was made with.

use std::sync::Arc;

use kernel::Result;

use crate::algorithms::fusion::{Fused, Fusion, fuse};
use crate::algorithms::highlight::{Highlighting, Word, highlight};
use crate::analysis::{Analyzer, Meaning};
use crate::index::{Counts, Found, TextIndex};
use crate::items::Item;
use crate::meanings::{Meant, current};
use crate::questions::{Answer, Explanation, Question, SearchResult};
use crate::reranking::TEXT_BYTES_MAX;

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

/// What may be shown.
struct Candidate {
    item: Item,
    fused: Fused<String>,
    rerank: Option<f32>,
}

/// The best of what was found, and what explains it.
pub(crate) struct Shortlist {
    candidates: Vec<Candidate>,
    lexical: Vec<(String, f32)>,
    semantic: Vec<(String, f32)>,
    meanings: Vec<Meaning>,
    total: u64,
    types: Counts,
    tags: Counts,
}

impl Shortlist {
    /// The texts of the candidates, as far as a model reads them.
    pub(crate) fn texts(&self) -> Vec<String> {
        let cut = |text: &str| text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned();
        self.candidates.iter().map(|candidate| cut(&candidate.item.text)).collect()
    }

    /// Puts the candidates in the order of a score for each; those of the same score stay as they stand.
    pub(crate) fn reorder(&mut self, scores: &[f32]) {
        for (candidate, score) in self.candidates.iter_mut().zip(scores) {
            candidate.rerank = Some(*score);
        }
        let score = |candidate: &Candidate| candidate.rerank.unwrap_or(f32::NEG_INFINITY);
        self.candidates.sort_by(|left, right| score(right).total_cmp(&score(left)));
    }
}

impl Showing {
    /// As many candidates as the question asks for.
    ///
    /// # Errors
    /// Those of the index.
    pub(crate) fn shortlist(&self, found: Found, semantic: &[Meant]) -> Result<Shortlist> {
        let lexical: Vec<(String, f32)> = found.hits.iter().map(|hit| (hit.key.clone(), hit.score)).collect();
        let semantic = current(semantic, &self.index)?;
        // One ranking alone keeps its own scores.
        let fused = match self.is_semantic {
            true => fuse(self.fusion, &lexical, &semantic),
            false => lexical.iter().map(|(key, score)| plain(key, *score)).collect(),
        };
        let wanted = self.question.rerank.unwrap_or(self.question.limit);
        let mut candidates = Vec::new();
        for fused in fused {
            if candidates.len() == wanted {
                break;
            }
            // The item may have been changed meanwhile.
            let item = self.index.item(&fused.key)?.filter(|item| self.question.filter.accepts(item));
            let Some(item) = item else { continue };
            candidates.push(Candidate { item, fused, rerank: None });
        }
        let Found { meanings, total, types, tags, .. } = found;
        Ok(Shortlist { candidates, lexical, semantic, meanings, total, types, tags })
    }

    /// The best of the candidates, shown.
    ///
    /// # Errors
    /// Those of the index.
    pub(crate) fn answer(&self, shortlist: Shortlist) -> Result<Answer> {
        let Shortlist { candidates, lexical, semantic, meanings, total, types, tags } = shortlist;
        let mut results = Vec::new();
        for candidate in candidates {
            if results.len() == self.question.limit {
                break;
            }
            // A cross-encoder takes its time: the item may be gone, or another than was scored.
            if candidate.rerank.is_some() {
                let now = self.index.item(&candidate.fused.key)?;
                let is_it = |now: &Item| now.text == candidate.item.text && self.question.filter.accepts(now);
                if !now.as_ref().is_some_and(is_it) {
                    continue;
                }
            }
            results.push(self.show(candidate, &meanings, [&lexical, &semantic])?);
        }
        let total = total.max(results.len() as u64);
        let (types, tags) = (commonest(types), commonest(tags));
        Ok(Answer { results, total, semantic: self.is_semantic, types, tags, ..Answer::default() })
    }

    fn show(
        &self,
        candidate: Candidate,
        meanings: &[Meaning],
        rankings: [&Vec<(String, f32)>; 2],
    ) -> Result<SearchResult> {
        let Candidate { item, fused, rerank } = candidate;
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
                    rerank,
                    words: self.index.explain(&fused.key, meanings)?,
                })
            }
        };
        let score = rerank.map_or(fused.score, f64::from);
        Ok(SearchResult { item, score, highlight, explanation })
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
