//! The settings of the engine, each with a default that suits a laptop.

use kernel::{Error, Result, codes};
use serde::{Deserialize, Serialize};

/// The settings of an [`EmbeddedStore`](crate::EmbeddedStore).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Partitions of a topic that is new; a topic keeps the count it was made with. 1 to 1,024.
    pub partitions: u32,
    /// Free disk space that writes leave untouched, so that what was written can always be tidied. At least 1 MiB.
    pub reserve_bytes: u64,
    /// Memory for blocks read from disk. At least 1 MiB.
    pub block_cache_bytes: u64,
    /// Memory for the newest events, and as much for their ids, before they move to sorted tables; up to three
    /// times that while the disk is behind. 1 MiB to 1 GiB; a folder keeps what it was made with.
    pub write_buffer_bytes: u64,
    /// Bytes of events that are kept of what was written last, so that stages in the process need not read and parse them
    /// again; 0 keeps none. At most 16 GiB.
    pub recent_bytes: u64,
    /// Memory for cached values.
    pub cache_bytes: u64,
    /// At most so many vectors (of one collection of a tenant, under a filter) are searched exactly, and more where many
    /// others share their index; the rest through that index, which is built in the background. 0: always through it.
    pub exact_search_vectors: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            partitions: 1,
            reserve_bytes: 64 << 20,
            block_cache_bytes: 64 << 20,
            write_buffer_bytes: 16 << 20,
            recent_bytes: 128 << 20,
            cache_bytes: 64 << 20,
            exact_search_vectors: 10_000,
        }
    }
}

impl Options {
    /// Checks the bounds.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` naming the option.
    pub fn check(&self) -> Result<()> {
        let within = |name: &str, value: u64, low: u64, high: u64| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            let message = format!("must be {low} to {high}, not {value}");
            Err(Error::new(codes::VALIDATION_ERROR, message).with_field(name))
        };
        within("partitions", u64::from(self.partitions), 1, 1_024)?;
        within("reserve_bytes", self.reserve_bytes, 1 << 20, u64::MAX)?;
        within("block_cache_bytes", self.block_cache_bytes, 1 << 20, u64::MAX)?;
        within("recent_bytes", self.recent_bytes, 0, 1 << 34)?;
        within("write_buffer_bytes", self.write_buffer_bytes, 1 << 20, 1 << 30)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_held() {
        let check = |options: Options, field: Option<&str>| {
            let error = options.check().err();
            assert_eq!(error.as_ref().and_then(Error::field), field, "{options:?}");
        };
        check(Options::default(), None);
        check(Options { partitions: 0, ..Options::default() }, Some("partitions"));
        check(Options { partitions: 1_025, ..Options::default() }, Some("partitions"));
        check(Options { reserve_bytes: 0, ..Options::default() }, Some("reserve_bytes"));
        check(Options { write_buffer_bytes: 0, ..Options::default() }, Some("write_buffer_bytes"));
    }
}
