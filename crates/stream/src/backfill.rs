//! Backfill: the same topology over a part of the log, with a state of its own.
//!
//! It runs the code that runs live, so what it makes of the same events is the same, under the same ids: delivered to
//! the same topics it is dropped as known, delivered elsewhere it can be compared. A backfill that was stopped goes
//! on where it was, because its state is kept like any other.

use std::collections::BTreeMap;
use std::sync::Arc;

use kernel::{Error, Result, codes};

use crate::{Step, Task, TaskParts, TaskSettings, Topology, Totals};

/// Which part of the log.
#[derive(Debug, Clone, Default)]
pub struct Backfill {
    /// The namespace of its state, not the one that runs live.
    pub namespace: String,
    /// By partition, the first offset; where one is missing, all that is held.
    pub from: BTreeMap<u32, u64>,
    /// By partition, the first offset that is not taken; where one is missing, the end at the call.
    pub until: BTreeMap<u32, u64>,
}

/// Runs `topology` over a part of the source, one partition after the other; what became of the events of each.
///
/// # Errors
/// `VALIDATION_ERROR` for the namespace that runs live, those of [`Task::open`] and [`Task::step`].
pub async fn backfill(
    topology: &Arc<Topology>,
    parts: &TaskParts,
    range: &Backfill,
) -> Result<BTreeMap<u32, Totals>> {
    if range.namespace == TaskSettings::default().namespace {
        let message = "a backfill has a namespace of its own, so that it does not touch what runs live";
        return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("namespace"));
    }
    let mut totals = BTreeMap::new();
    for extent in parts.source.extents().await? {
        let settings = TaskSettings {
            namespace: range.namespace.clone(),
            from: range.from.get(&extent.partition).copied(),
            until: Some(range.until.get(&extent.partition).copied().unwrap_or(extent.next)),
            ..TaskSettings::default()
        };
        let mut task = Task::open(Arc::clone(topology), parts.clone(), extent.partition, settings).await?;
        while let Step::Took(_) = task.step().await? {}
        totals.insert(extent.partition, task.totals());
    }
    Ok(totals)
}
