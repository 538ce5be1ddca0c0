//! Which items may be found: by type, tags and attributes.

use std::collections::BTreeSet;

use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{SegmentReader, Term};

use super::Fields;
use super::segments::Bits;
use crate::items::Item;

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

    /// Whether an item passes.
    #[must_use]
    pub fn accepts(&self, item: &Item) -> bool {
        let is_of_type =
            self.types.is_empty() || self.types.iter().any(|kind| kind == item.entity_type.as_str());
        let has_attributes = || {
            let own: BTreeSet<String> = item.attributes().collect();
            self.attributes.iter().all(|attribute| own.contains(attribute))
        };
        is_of_type
            && self.tags.iter().all(|tag| item.tags.contains(tag))
            && (self.attributes.is_empty() || has_attributes())
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
