//! Which files are taken. Pickles, in whatever they are wrapped, run code when they are read: they are refused by name
//! and by content. Archives are looked into without being unpacked.
//!
//! To refuse another format: a case in [`check_name`] or [`check_start`].

use kernel::{Error, ErrorCode, ErrorKind, Result};

/// A file is of a kind that is not taken.
pub const REFUSED_FORMAT: ErrorCode = ErrorCode {
    name: "REFUSED_FORMAT",
    kind: ErrorKind::Invalid,
    title: "The file is of a format that is not stored",
};

const PICKLES: [&str; 6] = ["pkl", "pickle", "joblib", "dill", "cloudpickle", "skops-pickle"];
/// How much of a file [`check_start`] looks at.
pub(super) const START_BYTES: usize = 512;

/// Refuses names of pickles, also before `.gz` and the like.
///
/// # Errors
/// `REFUSED_FORMAT`.
pub(super) fn check_name(path: &str) -> Result<()> {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    let is_pickle = name.split('.').skip(1).any(|extension| PICKLES.contains(&extension));
    if is_pickle { Err(pickle(path)) } else { Ok(()) }
}

/// Refuses what begins as a pickle does, and arrays of NumPy that hold one.
///
/// # Errors
/// `REFUSED_FORMAT`.
pub(super) fn check_start(path: &str, start: &[u8]) -> Result<()> {
    let is_pickle = is_binary_pickle(start) || is_text_pickle(start) || is_array_of_objects(start);
    if is_pickle { Err(pickle(path)) } else { Ok(()) }
}

/// Protocol 2 and later: `PROTO n`, then an opcode. A safetensors file may begin so too, with the length of its header.
fn is_binary_pickle(start: &[u8]) -> bool {
    let is_safetensors = start.get(8) == Some(&b'{') && start[2..8].iter().all(|byte| *byte == 0);
    matches!(start, [0x80, 2..=5, ..]) && !is_safetensors
}

/// Protocol 0 and 1 of an object: `cmodule\nname\n`, at the beginning or after marks.
fn is_text_pickle(start: &[u8]) -> bool {
    let is_name = |line: &[u8]| {
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.');
        !line.is_empty()
            && line.first().is_some_and(|byte| !byte.is_ascii_digit())
            && line.iter().all(is_part)
    };
    let body = start.iter().position(|byte| *byte != b'(').map_or(start, |at| &start[at..]);
    let Some((b'c' | b'i', rest)) = body.split_first() else { return false };
    let mut lines = rest.split(|byte| *byte == b'\n');
    let (module, name, after) = (lines.next(), lines.next(), lines.next());
    // Words of text go on with words; a pickle goes on with an opcode.
    let is_opcode = |line: &[u8]| match line {
        [b'p', rest @ ..] => !rest.is_empty() && rest.iter().all(u8::is_ascii_digit),
        [b'q' | b'r', next, ..] => !next.is_ascii_alphanumeric(),
        [b'(' | b')' | b'.' | b'0', ..] => true,
        _ => false,
    };
    module.is_some_and(is_name) && name.is_some_and(is_name) && after.is_some_and(is_opcode)
}

fn is_array_of_objects(start: &[u8]) -> bool {
    let text = String::from_utf8_lossy(start);
    start.starts_with(b"\x93NUMPY")
        && (text.contains("'|O'") || text.contains("\"|O\"") || text.contains("'O'"))
}

pub(super) fn pickle(path: &str) -> Error {
    let message = format!(
        "`{}` is or holds a pickle, which runs code when it is read; store ONNX, safetensors, or text",
        path.escape_debug()
    );
    Error::new(REFUSED_FORMAT, message).with_field("path")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pickles_are_told_by_name_and_by_content() {
        let name = |path: &str, good: bool| assert_eq!(check_name(path).is_ok(), good, "{path}");
        name("model/model.onnx", true);
        name("pickle/readme.txt", true);
        for bad in ["model.pkl", "a/B.PICKLE", "m.joblib", "m.pkl.gz", "python_model.cloudpickle"] {
            name(bad, false);
        }
        let start = |bytes: &[u8], good: bool| {
            assert_eq!(check_start("file", bytes).is_ok(), good, "{}", bytes.escape_ascii());
        };
        start(b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00", false);
        start(b"\x80\x02}q\x00.", false);
        start(b"cos\nsystem\n(S'ls'\ntR.", false);
        start(b"(cposix\nsystem\np0\n.", false);
        start(b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False}", false);
        start(b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False}", true);
        start(b"\x80\x02\x00\x00\x00\x00\x00\x00{\"a\":{}}", true);
        start(b"channels:\n- conda-forge\n", true);
        start(b"code\nmore\npages\n", true);
        start(b"\x08\x09\x12\x07pytorch", true);
        start(b"", true);
    }
}
