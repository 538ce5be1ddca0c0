//! What a view must be able to do.

use std::fmt::Debug;

use kernel::{Error, Result};
use store::Stored;

/// Why a fold could not use an event. The event goes to the dead letters and the fold goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// A stable code, for example `UNKNOWN_INTERACTION_TYPE`.
    pub code: &'static str,
    /// What is wrong and what to do.
    pub reason: String,
}

impl From<Error> for Rejection {
    /// The rejection for an event that does not say what it should.
    fn from(error: Error) -> Self {
        Self { code: error.code().name, reason: error.to_string() }
    }
}

/// State folded from events. Many readers, one writer: `apply` is never called twice at a time.
///
/// The state after a sequence of events must depend on those events alone: no clock, no randomness, no I/O, no
/// iteration over an unordered map.
pub trait Fold: Send + Sync + Debug + 'static {
    /// The name of its checkpoints, `a-z 0-9 _`.
    fn name(&self) -> &'static str;

    /// The version of what `encode` writes. A checkpoint of another version is not read; the view is rebuilt.
    fn format(&self) -> u32;

    /// Takes in the next events of a partition, in log order. Returns the position in `batch` and the reason of
    /// each event that could not be used; such an event must leave the state as it was.
    fn apply(&self, partition: u32, batch: &[Stored]) -> Vec<(usize, Rejection)>;

    /// The whole state as bytes. Equal states give equal bytes.
    fn encode(&self) -> Vec<u8>;

    /// Replaces the state by what `encode` wrote, in one go: who reads meanwhile sees the one or the other.
    ///
    /// # Errors
    /// `CORRUPTED` when the bytes are anything else; the state is then as it was.
    fn decode(&self, bytes: &[u8]) -> Result<()>;

    /// Forgets everything.
    fn clear(&self);
}
