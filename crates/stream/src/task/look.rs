//! Looking at a task without taking it from whoever has it.

use std::sync::Arc;

use kernel::Result;
use store::Records;

use crate::task::head::Head;
use crate::task::shelf::Shelf;
use crate::task::{Task, Totals};
use crate::{TaskSettings, Topology};

impl Task {
    /// The first offset of a partition that is not taken, and what became of the events before; none where nobody ever
    /// opened the task.
    ///
    /// # Errors
    /// `CONFLICT` when its state is of another format, `CORRUPTED` when it cannot be read, those of the records.
    pub async fn look(
        topology: &Topology,
        records: &Arc<dyn Records>,
        settings: &TaskSettings,
        partition: u32,
    ) -> Result<Option<(u64, Totals)>> {
        let shelf = Shelf::new(Arc::clone(records), prefix(topology, settings, partition));
        let Some(found) = shelf.head().await? else { return Ok(None) };
        let head = Head::read(&found.body, topology)?;
        Ok(Some((head.next_offset, head.totals)))
    }
}

/// Where the records of a task lie.
pub(super) fn prefix(topology: &Topology, settings: &TaskSettings, partition: u32) -> String {
    format!("{}/{}/{}/{partition:04}", settings.namespace, topology.name(), topology.input())
}
