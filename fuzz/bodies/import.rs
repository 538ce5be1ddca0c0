//! The importers: the first byte chooses the format, the rest is the file. Nothing panics, and every reader ends.
//!
//! From `0` on, the characters stand for the formats in the order of `Format::ALL`; the one after the last leaves the
//! format to detection. With a byte of 64 or more columns are mapped by place, with 128 or more by name.

use recommend::import::{Format, Importer, Options, Plan, Request};

const FORMAT_0: u8 = b'0';
const MAPPINGS: [Option<&str>; 4] = [
    None,
    Some("user_id=#0,entity_id=#1,timestamp=#2,value=#3"),
    Some("entity_id=a,attributes=*"),
    Some("user_id=a,entity_id=b,metadata=*"),
];

/// # Panics
/// Where a reader does, or does not end.
pub(crate) fn import(bytes: &[u8]) {
    let Some((&choice, text)) = bytes.split_first() else { return };
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let path = folder.path().join("ratings.csv");
    std::fs::write(&path, text).expect("a temporary file");
    let choices = Format::ALL.len() + 1;
    let format = Format::ALL.get(usize::from(choice.wrapping_sub(FORMAT_0)) % choices).copied();
    let mapping = MAPPINGS[usize::from(choice / 64)].map(|map| map.parse().expect("it is well formed"));
    let Ok(plan) = Plan::detect(&path, &Request { format, mapping, ..Request::default() }) else { return };
    let Ok(importer) = Importer::start(plan, Options::default()) else { return };
    // Compressed text may be long, a loop is longer.
    assert!(importer.take(100_000_000).count() < 100_000_000, "the reader does not end");
}
