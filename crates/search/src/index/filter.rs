//! Which items may be found: by type, tags and attributes.

use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{SegmentReader, Term};

use super::Fields;
use super::segments::Bits;

/// What an item must have. Empty parts ask for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// One of these types.
    pub types: Vec<String>,
    /// Every one of these tags.
    pub tags: Vec<String>,
    /// Every one of these attributes, as [`crate::items::attribute`] writes them.
    pub attributes: Vec<String>,
}

impl Filter {
    /// Whether everything passes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.types.is_empty() && self.tags.is_empty() && self.attributes.is_empty()
    }

    /// What of a segment may be found.
    pub(super) fn passing(&self, segment: &SegmentReader, fields: Fields) -> tantivy::Result<Bits> {
        let mut passing = Bits::alive(segment);
        if !self.types.is_empty() {
            let mut any = Bits::none(segment);
            for kind in &self.types {
                add(&mut any, segment, fields.kind, kind)?;
            }
            passing.keep(&any);
        }
        let tags = self.tags.iter().map(|tag| (fields.tag, tag));
        let attributes = self.attributes.iter().map(|attribute| (fields.attribute, attribute));
        for (field, value) in tags.chain(attributes) {
            let mut one = Bits::none(segment);
            add(&mut one, segment, field, value)?;
            passing.keep(&one);
        }
        Ok(passing)
    }
}

fn add(bits: &mut Bits, segment: &SegmentReader, field: Field, value: &str) -> tantivy::Result<()> {
    let inverted = segment.inverted_index(field)?;
    let term = Term::from_field_text(field, value);
    if let Some(mut postings) = inverted.read_block_postings(&term, IndexRecordOption::Basic)? {
        bits.add(&mut postings);
    }
    Ok(())
}
