//! Runs a body over the committed corpus of its target, for the ordinary tests of the crate that owns the code.
//!
//! A folder that is missing or empty fails: a test over nothing would hold for ever.

use std::path::Path;

/// Calls `body` with every file of `fuzz/corpus/TARGET`, in the order of their names.
///
/// # Panics
/// Where the body does, after the name of the file; where there is no file.
pub(crate) fn run_over(target: &str, body: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|cause| panic!("{}: {cause}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a folder that can be listed").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    for file in files {
        let bytes = std::fs::read(&file).unwrap_or_else(|cause| panic!("{}: {cause}", file.display()));
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(&bytes)));
        assert!(outcome.is_ok(), "{} fails, see above", file.display());
    }
}
