//! Looking at a task without taking it from whoever has it.

use std::collections::BTreeMap;
use std::sync::Arc;

use kernel::{Result, TenantId};
use store::Records;

use crate::task::head::Head;
use crate::task::shelf::{Kind, Shelf};
use crate::task::{Task, Totals};
use crate::{Output, Sink, TaskSettings, Topology};

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

    /// How far each tenant came in the task of a partition, in milliseconds since 1970, as its last commit left it, without
    /// taking it from whoever has it; nobody where the task never began.
    ///
    /// # Errors
    /// Those of the records, and of a state that cannot be read.
    pub async fn watermarks_at(
        topology: &Topology,
        records: &Arc<dyn Records>,
        settings: &TaskSettings,
        partition: u32,
    ) -> Result<BTreeMap<TenantId, i64>> {
        let shelf = Shelf::new(Arc::clone(records), prefix(topology, settings, partition));
        let Some(found) = shelf.head().await? else { return Ok(BTreeMap::new()) };
        let head = Head::read(&found.body, topology)?;
        let rule = topology.event_time;
        Ok(head.tides.into_iter().map(|(tenant, tide)| (tenant, tide.watermark_ms(rule))).collect())
    }

    /// Hands the outputs of the last commit to `sink`, where whoever has the task may not have come to that. A sink takes the
    /// same ones again; those of earlier commits were delivered before it.
    ///
    /// # Errors
    /// Those of the records and the sink, and of a state that cannot be read.
    pub async fn deliver_last(
        topology: &Topology,
        records: &Arc<dyn Records>,
        sink: &dyn Sink,
        settings: &TaskSettings,
        partition: u32,
    ) -> Result<()> {
        Self::deliver_unless(topology, records, sink, settings, partition, None).await.map(drop)
    }

    /// As [`Task::deliver_last`], unless the last commit is the one that is `known` to be delivered; which one it is, by its
    /// number. A commit that came meanwhile says that the one before it was delivered.
    pub(crate) async fn deliver_unless(
        topology: &Topology,
        records: &Arc<dyn Records>,
        sink: &dyn Sink,
        settings: &TaskSettings,
        partition: u32,
        known: Option<u64>,
    ) -> Result<Option<u64>> {
        let shelf = Shelf::new(Arc::clone(records), prefix(topology, settings, partition));
        let Some(found) = shelf.head().await? else { return Ok(None) };
        let head = Head::read(&found.body, topology)?;
        let commit = Some(head.commits);
        let Some(pages) = head.outbox.filter(|_| known != commit) else { return Ok(commit) };
        let bytes = match shelf.read(Kind::Outbox, pages).await {
            Ok(bytes) => bytes,
            Err(error) => {
                // The next commit takes them away, and comes after their delivery.
                let now = shelf.head().await?.map(|found| Head::read(&found.body, topology)).transpose()?;
                return if now.is_some_and(|now| now.commits > head.commits) {
                    Ok(commit)
                } else {
                    Err(error)
                };
            }
        };
        sink.deliver(Output::read_all(&bytes)?).await?;
        Ok(commit)
    }
}

/// Where the records of a task lie.
pub(super) fn prefix(topology: &Topology, settings: &TaskSettings, partition: u32) -> String {
    format!("{}/{}/{}/{partition:04}", settings.namespace, topology.name(), topology.input())
}
