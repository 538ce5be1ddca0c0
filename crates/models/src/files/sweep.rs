//! Removes parts of uploads that broke off.

use std::collections::BTreeMap;
use std::time::Duration;

use kernel::{Error, Result, Scope};
use serde::Serialize;
use store::{IndexValue, Query, Selection};

use super::{FOLDER, Files};

/// An upload may go on for so long.
const UPLOAD_LASTS: Duration = Duration::from_secs(24 * 60 * 60);

/// What a clean-up removed, or would remove.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Swept {
    /// Uploads that no file names.
    pub uploads: u64,
    /// Their size.
    pub bytes: u64,
}

impl Files {
    /// Removes the parts of uploads that no file names and that began more than a day ago; only counts them in a
    /// `dry_run`.
    ///
    /// # Errors
    /// Those of the engines.
    pub async fn sweep(&self, scope: &Scope, dry_run: bool) -> Result<Swept> {
        let mut uploads: BTreeMap<String, (Vec<String>, u64)> = BTreeMap::new();
        for part in self.blobs.list(scope, FOLDER).await? {
            let Some(name) = part.path.split('/').nth(1).map(str::to_owned) else { continue };
            let entry = uploads.entry(name).or_default();
            entry.0.push(part.path);
            entry.1 += part.size_bytes;
        }
        let before = self.clock.now().checked_sub(UPLOAD_LASTS).map_err(Error::internal)?.as_millisecond();
        let mut swept = Swept::default();
        for (name, (paths, bytes)) in uploads {
            let query = Query::new(Selection::Equal("upload", IndexValue::Text(name.clone())), 1);
            let is_old = began_ms(&name).is_some_and(|began| began < before);
            if !is_old || !self.files.list(scope, &query).await?.0.is_empty() {
                continue;
            }
            swept.uploads += 1;
            swept.bytes += bytes;
            for path in paths.iter().filter(|_| !dry_run) {
                self.blobs.delete(scope, path).await?;
            }
        }
        Ok(swept)
    }
}

/// The time that stands in an id (UUID version 7): its first 48 bits.
fn began_ms(name: &str) -> Option<i64> {
    i64::from_str_radix(name.get(..12)?, 16).ok()
}
