//! The importers: the first byte chooses the format, the rest is the file. Nothing panics, and every reader ends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use recommend::import::{Format, Importer, Options, Plan, Request};

const MAPPINGS: [Option<&str>; 3] =
    [None, Some("user_id=#0,entity_id=#1,timestamp=#2,value=#3"), Some("entity_id=a,attributes=*")];

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, text)) = bytes.split_first() else { return };
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let path = folder.path().join("ratings.csv");
    std::fs::write(&path, text).expect("a temporary file");
    // One choice past the last format leaves it to detection.
    let format = Format::ALL.get(usize::from(choice) % (Format::ALL.len() + 1)).copied();
    let mapping = MAPPINGS[usize::from(choice) / 64 % MAPPINGS.len()].map(|map| map.parse().expect("it is well formed"));
    let Ok(plan) = Plan::detect(&path, &Request { format, mapping, ..Request::default() }) else { return };
    let Ok(importer) = Importer::start(plan, Options::default()) else { return };
    // Compressed text may be long, a loop is longer.
    assert!(importer.take(100_000_000).count() < 100_000_000, "the reader does not end");
});
