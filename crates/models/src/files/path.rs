//! Paths of artifacts. They are keys of records and never reach a file system here; clients write them to theirs, so
//! whatever could leave a folder there is refused.

use kernel::{Error, Result, codes};

/// The longest path, in bytes; with the root before it, it is a key.
const MAX_PATH_BYTES: usize = 400;

/// Checks the path of a file or folder below a root.
///
/// # Errors
/// `VALIDATION_ERROR` for an empty segment, `.`, `..` (also percent-encoded), a backslash, a colon or a control
/// character.
pub fn check_artifact_path(path: &str) -> Result<()> {
    let good = path.len() <= MAX_PATH_BYTES && path.split('/').all(is_segment);
    if good {
        return Ok(());
    }
    let shown: String = path.chars().take(64).collect();
    let message = format!(
        "an artifact's path is names joined by /, without `..`, at most {MAX_PATH_BYTES} bytes, not `{}`",
        shown.escape_debug()
    );
    Err(Error::new(codes::VALIDATION_ERROR, message).with_field("path"))
}

/// The root that a path begins with, and what is below it: artifacts of a run, of a logged model, or of a version.
#[must_use]
pub fn split_root(path: &str) -> Option<(&str, Option<&str>)> {
    let depth = match path.split('/').take(4).collect::<Vec<_>>().as_slice() {
        ["registered", _, _, ..] | [_, _, "artifacts", ..] => 3,
        [_, "models", _, "artifacts"] => 4,
        _ => return None,
    };
    match path.match_indices('/').nth(depth - 1) {
        Some((at, _)) => Some((&path[..at], Some(&path[at + 1..]).filter(|rest| !rest.is_empty()))),
        None => Some((path, None)),
    }
}

fn is_segment(segment: &str) -> bool {
    let lower = segment.to_ascii_lowercase();
    let is_bad = |character: char| character.is_control() || matches!(character, '\\' | ':');
    let is_encoded = ["%2e", "%2f", "%5c", "%00", "%25"].iter().any(|code| lower.contains(code));
    !segment.is_empty()
        && !segment.trim().is_empty()
        && !matches!(segment, "." | "..")
        && !segment.contains(is_bad)
        && !is_encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_told_from_what_is_below() {
        let check =
            |path: &str, expected: Option<(&str, Option<&str>)>| assert_eq!(split_root(path), expected);
        check("1/ab/artifacts", Some(("1/ab/artifacts", None)));
        check("1/ab/artifacts/m/x", Some(("1/ab/artifacts", Some("m/x"))));
        check("1/models/m-1/artifacts/x", Some(("1/models/m-1/artifacts", Some("x"))));
        check("registered/ab/3/x", Some(("registered/ab/3", Some("x"))));
        check("registered/ab/3/", Some(("registered/ab/3", None)));
        for none in ["", "1", "1/ab", "1/models/m-1", "registered/ab"] {
            check(none, None);
        }
    }

    #[test]
    fn what_could_leave_a_folder_is_refused() {
        let check = |path: &str, good: bool| assert_eq!(check_artifact_path(path).is_ok(), good, "{path:?}");
        check("model/MLmodel", true);
        check("a b/ü.onnx", true);
        check("..a/b..", true);
        for bad in
            ["", "/a", "a/", "a//b", "..", "a/../b", "./a", "a\\b", "c:/a", "a/%2e%2e/b", "a%2Fb", "a\n", " "]
        {
            check(bad, false);
        }
        check(&"x".repeat(401), false);
    }
}
