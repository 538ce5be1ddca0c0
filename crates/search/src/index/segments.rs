//! What is read from `tantivy`'s segments: sets of documents, places of keys, terms near a word.

use std::collections::BTreeMap;

use tantivy::postings::BlockSegmentPostings;
use tantivy::query::FuzzyTermQuery;
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{DocAddress, DocId, Searcher, SegmentReader, Term};

use super::Counts;
use crate::algorithms::typos::{self, Candidate};

/// A set of the documents of a segment.
#[derive(Debug, Clone)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    pub(super) fn none(segment: &SegmentReader) -> Self {
        Self(vec![0; (segment.max_doc() as usize).div_ceil(64)])
    }

    /// All that were not deleted.
    pub(super) fn alive(segment: &SegmentReader) -> Self {
        let mut bits = Self::none(segment);
        segment.doc_ids_alive().for_each(|document| bits.insert(document));
        bits
    }

    pub(super) fn insert(&mut self, document: DocId) {
        self.0[document as usize / 64] |= 1 << (document % 64);
    }

    pub(super) fn contains(&self, document: DocId) -> bool {
        self.0[document as usize / 64] >> (document % 64) & 1 == 1
    }

    /// Those that are in both.
    pub(super) fn keep(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(mine, theirs)| *mine &= theirs);
    }

    pub(super) fn add(&mut self, postings: &mut BlockSegmentPostings) {
        while postings.block_len() > 0 {
            postings.docs().iter().for_each(|document| self.insert(*document));
            postings.advance();
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = DocId> {
        (0_u32..).step_by(64).zip(&self.0).flat_map(|(first, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                let bit = left.trailing_zeros();
                left &= left.wrapping_sub(1);
                (bit < 64).then_some(first + bit)
            })
        })
    }
}

/// Where the item of a key is; nothing where there is none.
pub(super) fn address_of(searcher: &Searcher, key: &Term) -> tantivy::Result<Option<DocAddress>> {
    for (place, segment) in (0_u32..).zip(searcher.segment_readers()) {
        let inverted = segment.inverted_index(key.field())?;
        let Some(mut postings) = inverted.read_block_postings(key, IndexRecordOption::Basic)? else {
            continue;
        };
        while postings.block_len() > 0 {
            if let Some(document) = postings.docs().iter().find(|document| !segment.is_deleted(**document)) {
                return Ok(Some(DocAddress::new(place, *document)));
            }
            postings.advance();
        }
    }
    Ok(None)
}

/// Adds how many of `found` have each value of a field.
pub(super) fn count_values(
    segment: &SegmentReader,
    field: Field,
    found: &Bits,
    counts: &mut Counts,
) -> tantivy::Result<()> {
    let inverted = segment.inverted_index(field)?;
    let mut values = inverted.terms().stream()?;
    while values.advance() {
        let mut postings =
            inverted.read_block_postings_from_terminfo(values.value(), IndexRecordOption::Basic)?;
        let mut count = 0_u64;
        while postings.block_len() > 0 {
            count += postings.docs().iter().filter(|document| found.contains(**document)).count() as u64;
            postings.advance();
        }
        if count > 0 {
            *counts.entry(String::from_utf8_lossy(values.key()).into_owned()).or_default() += count;
        }
    }
    Ok(())
}

/// What a word that no text has may have been, nearest first.
pub(super) fn near(searcher: &Searcher, field: Field, word: &str) -> tantivy::Result<Vec<Candidate>> {
    for edits in 1..=typos::edits_max(word) {
        let automaton = FuzzyTermQuery::new(Term::from_field_text(field, word), edits, true);
        let mut found: BTreeMap<String, u64> = BTreeMap::new();
        for segment in searcher.segment_readers() {
            let inverted = segment.inverted_index(field)?;
            let mut terms = inverted.terms().search(automaton.automaton()?).into_stream()?;
            while terms.advance() {
                let documents = u64::from(terms.value().doc_freq);
                *found.entry(String::from_utf8_lossy(terms.key()).into_owned()).or_default() += documents;
            }
        }
        if !found.is_empty() {
            let candidate = |(term, documents)| Candidate { term, edits, documents };
            return Ok(typos::best(found.into_iter().map(candidate).collect()));
        }
    }
    Ok(Vec::new())
}
