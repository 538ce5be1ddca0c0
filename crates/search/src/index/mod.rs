//! The index of one tenant's items: postings, tags and the items themselves, kept by `tantivy` in one folder or in
//! memory.
//!
//! It is a view: everything in it comes from the log, and may be made again from there. `tantivy` keeps the postings;
//! the scores are ours (`scoring`), because it fixes BM25's parameters. Statistics count items that were replaced or
//! deleted until their segment is merged, as Lucene's do. It refuses to decide when to write: [`TextIndex::apply`] is one
//! commit. To add a field: [`Fields`], and a new [`FORMAT`].

mod filter;
mod library;
mod scoring;
mod segments;

use std::fmt::Debug;
use std::path::Path;

pub use filter::Filter;
use kernel::{Error, Result, codes};
pub use library::{Library, Place, Progress};
use parking_lot::Mutex;
pub use scoring::TermShare;
use tantivy::schema::{
    FAST, Field, IndexRecordOption, STORED, STRING, Schema, TextFieldIndexing, TextOptions, Value as _,
};
use tantivy::tokenizer::{PreTokenizedString, Token as TantivyToken};
use tantivy::{Index, IndexReader, IndexWriter, ReloadPolicy, TantivyDocument, Term};
use tracing::warn;

use crate::algorithms::bm25::Bm25;
use crate::analysis::{ANALYSIS_FORMAT, Analyzer, Meaning};
use crate::items::{Change, Item};

/// What an index on disk was made by; one of another number is built again.
pub const FORMAT: u32 = 100 * ANALYSIS_FORMAT + 2;

/// Fields that are read by document.
const KEY: &str = "key";
const DIGEST: &str = "digest";

/// Memory of a writer before it writes a segment.
const WRITER_BYTES: usize = 32 << 20;

/// The fields of an index.
#[derive(Debug, Clone, Copy)]
struct Fields {
    key: Field,
    body: Field,
    kind: Field,
    tag: Field,
    attribute: Field,
    source: Field,
    digest: Field,
}

impl Fields {
    fn schema() -> (Schema, Self) {
        let mut schema = Schema::builder();
        let indexing = TextFieldIndexing::default().set_index_option(IndexRecordOption::WithFreqs);
        let fields = Self {
            key: schema.add_text_field(KEY, STRING | FAST),
            body: schema.add_text_field("body", TextOptions::default().set_indexing_options(indexing)),
            kind: schema.add_text_field("type", STRING),
            tag: schema.add_text_field("tag", STRING),
            attribute: schema.add_text_field("attribute", STRING),
            source: schema.add_bytes_field("source", STORED),
            digest: schema.add_u64_field(DIGEST, FAST),
        };
        (schema.build(), fields)
    }
}

/// What is asked of an index.
#[derive(Debug, Clone, Default)]
pub struct TextQuery {
    /// The words and what they may stand for. Without any, every item that passes is found, in the order of keys.
    pub meanings: Vec<Meaning>,
    /// Which items may be found.
    pub filter: Filter,
    /// Results at most.
    pub count: usize,
    /// Whether words that no text has are taken for mistyped.
    pub forgives_typos: bool,
    /// Whether to count types and tags of all that is found.
    pub counts_facets: bool,
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// The key of the item.
    pub key: String,
    /// Its BM25 score.
    pub score: f32,
}

/// How many of what was found have a value.
pub type Counts = std::collections::BTreeMap<String, u64>;

/// Everything that was found.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// The best, best first, ties by key.
    pub hits: Vec<Hit>,
    /// How many there are in all.
    pub total: u64,
    /// How many of each type, where that was asked for.
    pub types: Counts,
    /// How many with each tag, where that was asked for.
    pub tags: Counts,
    /// The words as they were looked for, with what stood for mistyped ones.
    pub meanings: Vec<Meaning>,
}

/// What an index holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IndexStats {
    /// Items that can be found.
    pub items: u64,
    /// Terms of all their texts.
    pub terms: u64,
    /// Segments that they are in.
    pub segments: usize,
}

/// The index of one tenant.
pub struct TextIndex {
    index: Index,
    fields: Fields,
    reader: IndexReader,
    writer: Mutex<Option<IndexWriter>>,
    analyzer: Analyzer,
    bm25: Bm25,
}

impl Debug for TextIndex {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TextIndex").field("bm25", &self.bm25).finish_non_exhaustive()
    }
}

impl TextIndex {
    /// The index of a folder that exists; an empty folder becomes an empty index.
    ///
    /// # Errors
    /// `CORRUPTED` where what is there cannot be read.
    pub fn open(folder: &Path, bm25: Bm25) -> Result<Self> {
        let directory = tantivy::directory::MmapDirectory::open(folder).map_err(damaged)?;
        Self::over(Index::open_or_create(directory, Fields::schema().0).map_err(damaged)?, bm25)
    }

    /// An empty index in memory.
    ///
    /// # Errors
    /// Those of the index.
    pub fn in_memory(bm25: Bm25) -> Result<Self> {
        Self::over(Index::create_in_ram(Fields::schema().0), bm25)
    }

    fn over(index: Index, bm25: Bm25) -> Result<Self> {
        let reader =
            index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into().map_err(damaged)?;
        let writer = Mutex::new(None);
        Ok(Self { index, fields: Fields::schema().1, reader, writer, analyzer: Analyzer::default(), bm25 })
    }

    /// Takes changes in, in their order, as one commit. When it returns they are on disk and every search sees them.
    ///
    /// # Errors
    /// Those of the disk; then none of them is in.
    pub fn apply(&self, changes: &[Change]) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut slot = self.writer.lock();
        if slot.is_none() {
            let writer = self.index.writer_with_num_threads(1, WRITER_BYTES).map_err(failed)?;
            *slot = Some(writer);
        }
        let writer = slot.as_mut().ok_or_else(|| Error::internal("the writer is gone"))?;
        let written = self.write(writer, changes);
        if written.is_err() {
            // What is half in must not go with the next commit; the writer itself may be broken.
            *slot = None;
        }
        drop(slot);
        written?;
        self.reader.reload().map_err(failed)
    }

    fn write(&self, writer: &mut IndexWriter, changes: &[Change]) -> Result<()> {
        for change in changes {
            let key = change.key();
            writer.delete_term(Term::from_field_text(self.fields.key, &key));
            if let Change::Put(item) = change {
                writer.add_document(self.document(key, item)?).map_err(failed)?;
            }
        }
        writer.commit().map(drop).map_err(failed)
    }

    /// Lets go of the memory of writing, until the next change. Waits for merges that run: a writer that is dropped
    /// before their end gives them up, and segments would pile up.
    pub fn rest(&self) {
        let writer = self.writer.lock().take();
        if let Some(writer) = writer
            && let Err(cause) = writer.wait_merging_threads()
        {
            warn!(%cause, "segments of a search index were not merged");
        }
    }

    fn document(&self, key: String, item: &Item) -> Result<TantivyDocument> {
        let fields = self.fields;
        let mut document = TantivyDocument::new();
        document.add_text(fields.key, key);
        document.add_text(fields.kind, item.entity_type.as_str());
        item.tags.iter().for_each(|tag| document.add_text(fields.tag, tag));
        item.attributes().for_each(|attribute| document.add_text(fields.attribute, attribute));
        document.add_bytes(fields.source, &serde_json::to_vec(item).map_err(Error::internal)?);
        document.add_u64(fields.digest, item.digest()?);
        let token = |(position, token): (usize, crate::analysis::Token)| TantivyToken {
            offset_from: token.start,
            offset_to: token.end,
            position,
            text: token.term,
            position_length: 1,
        };
        let tokens = self.analyzer.tokens(&item.text).into_iter().enumerate().map(token).collect();
        document.add_pre_tokenized_text(fields.body, PreTokenizedString { text: String::new(), tokens });
        Ok(document)
    }

    /// What matches, best first.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn search(&self, query: &TextQuery) -> Result<Found> {
        scoring::search(&self.reader.searcher(), self.fields, self.bm25, query).map_err(failed)
    }

    /// What each word adds to the score of an item, for the meanings that [`Found`] tells; empty where it has none.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn explain(&self, key: &str, meanings: &[Meaning]) -> Result<Vec<TermShare>> {
        let searcher = self.reader.searcher();
        let term = Term::from_field_text(self.fields.key, key);
        let Some(address) = segments::address_of(&searcher, &term).map_err(failed)? else {
            return Ok(Vec::new());
        };
        scoring::explain(&searcher, self.fields, self.bm25, address, meanings).map_err(failed)
    }

    /// The item of a key; nothing where there is none.
    ///
    /// # Errors
    /// Those of the disk; `CORRUPTED` where it cannot be read.
    pub fn item(&self, key: &str) -> Result<Option<Item>> {
        let searcher = self.reader.searcher();
        let term = Term::from_field_text(self.fields.key, key);
        let Some(address) = segments::address_of(&searcher, &term).map_err(failed)? else { return Ok(None) };
        let document: TantivyDocument = searcher.doc(address).map_err(failed)?;
        let source = document.get_first(self.fields.source).and_then(|value| value.as_bytes());
        let source = source.ok_or_else(|| Error::new(codes::CORRUPTED, "an indexed item has no source"))?;
        serde_json::from_slice(source).map(Some).map_err(damaged)
    }

    /// What tells the item of a key from what it was before; nothing where there is none.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn digest(&self, key: &str) -> Result<Option<u64>> {
        let searcher = self.reader.searcher();
        let term = Term::from_field_text(self.fields.key, key);
        let Some(address) = segments::address_of(&searcher, &term).map_err(failed)? else { return Ok(None) };
        let fast = searcher.segment_reader(address.segment_ord).fast_fields();
        Ok(fast.u64(DIGEST).map_err(failed)?.first(address.doc_id))
    }

    /// Reads every file of every segment and compares its checksum.
    ///
    /// # Errors
    /// `CORRUPTED` naming a damaged file.
    pub fn check(&self) -> Result<()> {
        match self.index.validate_checksum().map_err(damaged)?.into_iter().min() {
            None => Ok(()),
            Some(file) => Err(damaged(format!("{} is damaged", file.display()))),
        }
    }

    /// What it holds.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn stats(&self) -> Result<IndexStats> {
        let searcher = self.reader.searcher();
        let mut stats = IndexStats { items: searcher.num_docs(), ..IndexStats::default() };
        for segment in searcher.segment_readers() {
            stats.terms += segment.inverted_index(self.fields.body).map_err(failed)?.total_num_tokens();
            stats.segments += 1;
        }
        Ok(stats)
    }
}

fn damaged(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(codes::CORRUPTED, "the search index cannot be read; it is built again at the next start")
        .with_source(cause)
}

fn failed(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(codes::UNAVAILABLE, "the search index cannot be read or written for now").with_source(cause)
}

#[cfg(test)]
mod tests;
