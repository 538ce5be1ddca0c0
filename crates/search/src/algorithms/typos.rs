//! What a mistyped word may have been.
//!
//! Only a word that no text has is taken for mistyped, and only one that is long enough: one edit from four letters on,
//! two from eight on. An edit puts in, takes out or changes a letter, or swaps two neighbours (Damerau 1964). The search
//! for candidates is the index's; this says how many edits, and which candidates are best.

/// How many candidates stand for a mistyped word.
pub const CANDIDATES_MAX: usize = 8;
/// What a candidate counts for each edit that it is away.
const WEIGHT_PER_EDIT: f32 = 0.6;

/// How many edits a word may be away from what it was to be.
#[must_use]
pub fn edits_max(word: &str) -> u8 {
    match word.chars().count() {
        0..=3 => 0,
        4..=7 => 1,
        _ => 2,
    }
}

/// A word that may have been meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The word, as texts have it.
    pub term: String,
    /// How far it is.
    pub edits: u8,
    /// How many texts have it.
    pub documents: u64,
}

/// The best candidates: the fewest edits, then the most texts, then by the word.
#[must_use]
pub fn best(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    candidates.sort_by(|left, right| {
        let by_texts = || right.documents.cmp(&left.documents).then_with(|| left.term.cmp(&right.term));
        left.edits.cmp(&right.edits).then_with(by_texts)
    });
    // What is further away than the best was hardly meant.
    let nearest = candidates.first().map_or(0, |first| first.edits);
    candidates.retain(|candidate| candidate.edits == nearest);
    candidates.truncate(CANDIDATES_MAX);
    candidates
}

/// What a candidate counts, of what the word itself would.
#[must_use]
pub fn weight(edits: u8) -> f32 {
    WEIGHT_PER_EDIT.powi(i32::from(edits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_words_are_taken_as_they_are() {
        let check = |word: &str, edits: u8| assert_eq!(edits_max(word), edits, "{word}");
        check("", 0);
        check("cat", 0);
        check("über", 1);
        check("yielded", 1);
        check("commodity", 2);
    }

    #[test]
    fn nearest_and_commonest_first() {
        let candidate = |term: &str, edits, documents| Candidate { term: term.to_owned(), edits, documents };
        let found = best(vec![
            candidate("far", 2, 900),
            candidate("rare", 1, 1),
            candidate("common", 1, 50),
            candidate("also", 1, 1),
        ]);
        let terms: Vec<&str> = found.iter().map(|candidate| candidate.term.as_str()).collect();
        assert_eq!(terms, ["common", "also", "rare"]);
        assert!(best(Vec::new()).is_empty());
        assert!(weight(0) == 1.0 && weight(2) < weight(1));
    }
}
