//! The `Blobs` port: whole objects by tenant and path, for artifacts and backups.
//!
//! Rules every engine keeps: an object is there whole or not at all; `put` returns when it is durable; listing
//! is in path order. A path is segments of `a-z A-Z 0-9 . _ -` joined by `/`, no segment is empty, `.` or `..`, and
//! no object's path lies under another's (a folder is not an object).

use std::fmt::Debug;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use kernel::{Error, Result, Scope, codes};

/// The longest path, in bytes.
pub(crate) const MAX_PATH_BYTES: usize = 512;

/// What `put` does when the path is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutMode {
    /// Replaces the object.
    Replace,
    /// Fails with `CONFLICT`.
    Create,
}

/// What a listing tells of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobInfo {
    /// Its path, segments of `a-z A-Z 0-9 . _ -` joined by `/`.
    pub path: String,
    /// Its size.
    pub size_bytes: u64,
}

/// Whole objects by path.
#[async_trait]
pub trait Blobs: Send + Sync + Debug {
    /// Stores an object.
    ///
    /// # Errors
    /// `CONFLICT` with [`PutMode::Create`] when the path is taken, `VALIDATION_ERROR` for a bad path.
    async fn put(&self, scope: &Scope, path: &str, body: Bytes, mode: PutMode) -> Result<()>;

    /// The object.
    ///
    /// # Errors
    /// `NOT_FOUND` when there is none.
    async fn get(&self, scope: &Scope, path: &str) -> Result<Bytes>;

    /// A part of the object, cut at its end.
    ///
    /// # Errors
    /// `NOT_FOUND` when there is none, `VALIDATION_ERROR` for a range that ends before it starts.
    async fn get_range(&self, scope: &Scope, path: &str, range: Range<u64>) -> Result<Bytes>;

    /// The objects under the folder `prefix` (empty for all), in path order.
    async fn list(&self, scope: &Scope, prefix: &str) -> Result<Vec<BlobInfo>>;

    /// Removes; removing what is not there is fine.
    async fn delete(&self, scope: &Scope, path: &str) -> Result<()>;
}

/// Checks a path. Every engine calls it first.
///
/// # Errors
/// `VALIDATION_ERROR` when it has an empty segment, `.`, `..`, another character, or is too long.
pub fn check_path(path: &str) -> Result<()> {
    let lawful = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let good = |segment: &str| {
        !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(lawful)
    };
    if path.len() <= MAX_PATH_BYTES && path.split('/').all(good) {
        return Ok(());
    }
    let shown: String = path.chars().take(64).collect();
    let message =
        format!("a path is segments of a-z A-Z 0-9 . _ - joined by /, not `{}`", shown.escape_debug());
    Err(Error::new(codes::VALIDATION_ERROR, message).with_field("path"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_checked() {
        let check = |path: &str, good: bool| assert_eq!(check_path(path).is_ok(), good, "{path:?}");
        check("models/recommend/1.bin", true);
        check("a", true);
        check("", false);
        check("/a", false);
        check("a/", false);
        check("a//b", false);
        check("../a", false);
        check("a/./b", false);
        check("a\\b", false);
        check("a#1", false);
        check("ü", false);
        check(&"x".repeat(513), false);
    }
}
