//! BM25 over the postings, term after term: every text that has a word of the query gets its exact score.
//!
//! It passes over nothing, so that totals and facets are exact. A word with several meanings counts as one term: its
//! frequency in a text is the weighted sum of theirs, and its rarity that of the commonest of them.

use tantivy::fieldnorm::FieldNormReader;
use tantivy::schema::IndexRecordOption;
use tantivy::{DocAddress, DocId, Searcher, SegmentReader, TantivyError, Term};

use super::segments::{Bits, count_values, near};
use super::{Fields, Found, Hit, KEY, TextQuery};
use crate::algorithms::bm25::{Bm25, inverse_document_frequency};
use crate::algorithms::typos;
use crate::analysis::Meaning;

/// What one word of the query adds to a score.
#[derive(Debug, Clone, PartialEq)]
pub struct TermShare {
    /// The terms that stand for the word, those that the text has.
    pub terms: Vec<String>,
    /// How often they come, weighted.
    pub frequency: f32,
    /// How many texts have the commonest of them.
    pub documents: u64,
    /// How much the word tells.
    pub inverse_document_frequency: f32,
    /// How many terms the text has, as the index keeps it: rounded, if it is long.
    pub length: u32,
    /// What it adds.
    pub score: f32,
}

/// A word of the query, weighed.
struct Word {
    terms: Vec<(Term, f32)>,
    documents: u64,
    weight: f32,
}

/// What all segments share.
struct Weighing {
    bm25: Bm25,
    average: f32,
    words: Vec<Word>,
}

impl Weighing {
    fn new(searcher: &Searcher, fields: Fields, bm25: Bm25, meanings: &[Meaning]) -> tantivy::Result<Self> {
        let (mut texts, mut terms) = (0_u64, 0_u64);
        for segment in searcher.segment_readers() {
            texts += u64::from(segment.max_doc());
            terms += segment.inverted_index(fields.body)?.total_num_tokens();
        }
        let mut words = Vec::new();
        for (meaning, times) in counted(meanings) {
            let terms: Vec<(Term, f32)> = meaning
                .terms
                .iter()
                .map(|(term, weight)| (Term::from_field_text(fields.body, term), *weight))
                .collect();
            let mut documents = 0;
            for (term, _) in &terms {
                documents = documents.max(searcher.doc_freq(term)?);
            }
            if documents > 0 {
                let weight = times as f32 * inverse_document_frequency(texts, documents);
                words.push(Word { terms, documents, weight });
            }
        }
        let average = if texts == 0 { 0.0 } else { (terms as f64 / texts as f64) as f32 };
        Ok(Self { bm25, average, words })
    }

    /// What the length of a text does, by the byte that the index keeps of it.
    fn norms(&self) -> Vec<f32> {
        let of = |id: u8| self.bm25.norm(FieldNormReader::id_to_fieldnorm(id) as f32, self.average);
        (0..=u8::MAX).map(of).collect()
    }
}

/// Equal words once, with how often they come.
fn counted(meanings: &[Meaning]) -> Vec<(&Meaning, usize)> {
    let mut counted: Vec<(&Meaning, usize)> = Vec::new();
    for meaning in meanings {
        match counted.iter_mut().find(|(known, _)| *known == meaning) {
            Some((_, times)) => *times += 1,
            None => counted.push((meaning, 1)),
        }
    }
    counted
}

pub(super) fn search(
    searcher: &Searcher,
    fields: Fields,
    bm25: Bm25,
    query: &TextQuery,
) -> tantivy::Result<Found> {
    let meanings = forgiven(searcher, fields, query)?;
    let weighing = Weighing::new(searcher, fields, bm25, &meanings)?;
    let mut found = Found::default();
    let mut best = Vec::new();
    for (place, segment) in searcher.segment_readers().iter().enumerate() {
        let mut passing = query.filter.passing(segment, fields)?;
        let scores = if meanings.is_empty() { None } else { Some(scores(segment, fields, &weighing)?) };
        if let Some(scores) = &scores {
            let mut matching = Bits::none(segment);
            let matches = (0_u32..).zip(scores).filter(|(_, score)| **score > 0.0);
            matches.for_each(|(document, _)| matching.insert(document));
            passing.keep(&matching);
        }
        found.total += passing.len();
        if query.counts_facets {
            count_values(segment, fields.kind, &passing, &mut found.types)?;
            count_values(segment, fields.tag, &passing, &mut found.tags)?;
        }
        let score_of = |document: DocId| scores.as_ref().map_or(0.0, |scores| scores[document as usize]);
        let of_segment = passing.iter().map(|document| (score_of(document), document));
        let of_segment = best_of(segment, of_segment, query.count)?;
        best.extend(of_segment.into_iter().map(|(score, key)| Ranked { score, segment: place, key }));
    }
    found.hits = hits(searcher, best, query.count)?;
    found.meanings = meanings;
    Ok(found)
}

/// Words of a query that are taken for mistyped.
const FORGIVEN_MAX: usize = 8;

/// The words of the query, with what mistyped ones may have been.
fn forgiven(searcher: &Searcher, fields: Fields, query: &TextQuery) -> tantivy::Result<Vec<Meaning>> {
    let mut meanings = query.meanings.clone();
    if !query.forgives_typos {
        return Ok(meanings);
    }
    let mut unknown = 0;
    for meaning in &mut meanings {
        let mut is_known = false;
        for (term, _) in &meaning.terms {
            is_known |= searcher.doc_freq(&Term::from_field_text(fields.body, term))? > 0;
        }
        unknown += usize::from(!is_known);
        // Each looks through every word of every segment.
        if unknown > FORGIVEN_MAX {
            break;
        }
        if let (false, Some((word, _))) = (is_known, meaning.terms.first()) {
            let near = near(searcher, fields.body, word)?;
            let weighed = near.into_iter().map(|candidate| (candidate.term, typos::weight(candidate.edits)));
            meaning.terms.extend(weighed.collect::<Vec<_>>());
        }
    }
    Ok(meanings)
}

/// The score of every document of a segment; 0 for those that have no word.
fn scores(segment: &SegmentReader, fields: Fields, weighing: &Weighing) -> tantivy::Result<Vec<f32>> {
    let inverted = segment.inverted_index(fields.body)?;
    let lengths = segment.get_fieldnorms_reader(fields.body)?;
    let norms = weighing.norms();
    let mut scores = vec![0.0_f32; segment.max_doc() as usize];
    for word in &weighing.words {
        // Of several terms the frequencies are added up first; one term goes straight to the scores.
        let mut frequencies = vec![0.0_f32; if word.terms.len() > 1 { scores.len() } else { 0 }];
        for (term, weight) in &word.terms {
            let Some(mut postings) = inverted.read_block_postings(term, IndexRecordOption::WithFreqs)? else {
                continue;
            };
            while postings.block_len() > 0 {
                for (document, frequency) in postings.docs().iter().zip(postings.freqs()) {
                    let frequency = *frequency as f32 * weight;
                    if word.terms.len() > 1 {
                        frequencies[*document as usize] += frequency;
                    } else {
                        let norm = norms[usize::from(lengths.fieldnorm_id(*document))];
                        scores[*document as usize] += word.weight * Bm25::share(frequency, norm);
                    }
                }
                postings.advance();
            }
        }
        for (document, frequency) in (0_u32..).zip(frequencies).filter(|(_, frequency)| *frequency > 0.0) {
            let norm = norms[usize::from(lengths.fieldnorm_id(document))];
            scores[document as usize] += word.weight * Bm25::share(frequency, norm);
        }
    }
    Ok(scores)
}

/// A document among the best of its segment.
#[derive(Debug, Clone, Copy)]
struct Ranked {
    score: f32,
    segment: usize,
    /// The number of its key among those of the segment, which are in their order.
    key: u64,
}

/// The best of a segment, ties by key, as scores and numbers of keys.
fn best_of(
    segment: &SegmentReader,
    more: impl Iterator<Item = (f32, DocId)>,
    count: usize,
) -> tantivy::Result<Vec<(f32, u64)>> {
    let mut best: Vec<(f32, u64)> = Vec::new();
    if count == 0 {
        return Ok(best);
    }
    let Some(keys) = segment.fast_fields().str(KEY)? else { return Ok(best) };
    let mut least = f32::NEG_INFINITY;
    for (score, document) in more {
        // A place is given up only to what is better by score or key: what is worse by score need not be looked at.
        if score < least {
            continue;
        }
        let Some(key) = keys.ords().first(document) else { continue };
        best.push((score, key));
        if best.len() >= 2 * count + ROOM {
            least = shorten(&mut best, count);
        }
    }
    shorten(&mut best, count);
    Ok(best)
}

/// The best of all segments, best first, ties by key.
fn hits(searcher: &Searcher, mut best: Vec<Ranked>, count: usize) -> tantivy::Result<Vec<Hit>> {
    best.sort_unstable_by(|left, right| right.score.total_cmp(&left.score));
    // Keys are slow to read: only of those that may be among the best, whatever their keys are.
    if let Some(last) = count.checked_sub(1).and_then(|last| best.get(last)).map(|last| last.score) {
        best.retain(|ranked| ranked.score >= last);
    }
    // A block of keys is unpacked once for all that are in it.
    best.sort_unstable_by_key(|ranked| (ranked.segment, ranked.key));
    let mut hits = Vec::with_capacity(best.len());
    for of_segment in best.chunk_by(|left, right| left.segment == right.segment) {
        let Some(segment) =
            of_segment.first().and_then(|ranked| searcher.segment_readers().get(ranked.segment))
        else {
            continue;
        };
        let Some(keys) = segment.fast_fields().str(KEY)? else { continue };
        let numbers: Vec<u64> = of_segment.iter().map(|ranked| ranked.key).collect();
        let mut scores = of_segment.iter().map(|ranked| ranked.score);
        let has_all = keys.dictionary().sorted_ords_to_term_cb(&numbers, |key| {
            let key = String::from_utf8_lossy(key).into_owned();
            hits.extend(scores.next().map(|score| Hit { key, score }));
        })?;
        if !has_all {
            return Err(TantivyError::InternalError("an indexed item has no key".to_owned()));
        }
    }
    hits.sort_by(|left, right| right.score.total_cmp(&left.score).then_with(|| left.key.cmp(&right.key)));
    hits.truncate(count);
    Ok(hits)
}

/// Candidates beyond what is wanted, before they are sorted.
const ROOM: usize = 64;

/// Cuts to the best `count`, and returns the score of the last of them.
fn shorten(best: &mut Vec<(f32, u64)>, count: usize) -> f32 {
    best.sort_unstable_by(|left, right| right.0.total_cmp(&left.0).then_with(|| left.1.cmp(&right.1)));
    best.truncate(count);
    if best.len() < count { f32::NEG_INFINITY } else { best.last().map_or(f32::NEG_INFINITY, |last| last.0) }
}

pub(super) fn explain(
    searcher: &Searcher,
    fields: Fields,
    bm25: Bm25,
    address: DocAddress,
    meanings: &[Meaning],
) -> tantivy::Result<Vec<TermShare>> {
    let weighing = Weighing::new(searcher, fields, bm25, meanings)?;
    let segment = searcher.segment_reader(address.segment_ord);
    let inverted = segment.inverted_index(fields.body)?;
    let length = segment.get_fieldnorms_reader(fields.body)?.fieldnorm(address.doc_id);
    let norm = bm25.norm(length as f32, weighing.average);
    let mut shares = Vec::new();
    for word in &weighing.words {
        let (mut frequency, mut terms) = (0.0, Vec::new());
        for (term, weight) in &word.terms {
            let Some(mut postings) = inverted.read_block_postings(term, IndexRecordOption::WithFreqs)? else {
                continue;
            };
            let place = postings.seek(address.doc_id);
            if place < postings.block_len() && postings.doc(place) == address.doc_id {
                frequency += postings.freq(place) as f32 * weight;
                terms.push(term.value().as_str().unwrap_or_default().to_owned());
            }
        }
        if frequency > 0.0 {
            shares.push(TermShare {
                terms,
                frequency,
                documents: word.documents,
                inverse_document_frequency: word.weight,
                length,
                score: word.weight * Bm25::share(frequency, norm),
            });
        }
    }
    Ok(shares)
}
