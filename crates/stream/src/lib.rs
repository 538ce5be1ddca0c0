//! Views as folds of the event log.
//!
//! A [`Fold`] turns events into state; a [`Projector`] feeds it from the log, keeps it current, checkpoints it
//! to blobs and restores it at start. Live running, catching up after a restart and a rebuild from the first
//! event are the same code, so they give the same state byte for byte.
//!
//! It refuses folds that read a clock, draw randomness or do I/O: such a fold could not be rebuilt.
//!
//! To add a view: implement [`Fold`], start a [`Projector`] for it in the domain's `build`.

mod checkpoint;
mod fold;
mod metrics;
mod projector;

pub use checkpoint::{Checkpoint, Checkpoints};
pub use fold::{Fold, Rejection};
pub use metrics::StreamMetrics;
pub use projector::{HISTORY_GONE, Progress, Projector, ProjectorParts, ProjectorSettings};
