//! Looking at a task without taking it from whoever has it.

use std::collections::BTreeMap;
use std::sync::Arc;

use kernel::{Result, TenantId};
use store::Records;

use crate::task::head::Head;
use crate::task::shelf::{Kind, Shelf};
use crate::task::{Task, Totals};
use crate::{Output, Sink, TaskSettings, Topology};

/// The last commit of a task.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LastCommit {
    /// Which one it is. A task delivers what the one before made, and only then commits again.
    pub(crate) number: u64,
    /// How often the task was opened.
    pub(crate) epoch: u64,
    /// The first offset that is not taken.
    pub(crate) next_offset: u64,
    /// Whether it made outputs, delivered or not.
    pub(crate) has_outputs: bool,
}

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
        let found = find(topology, records, settings, partition).await?;
        Ok(found.map(|(_, head)| (head.next_offset, head.totals)))
    }

    /// What was committed last in a partition; none where nobody ever opened the task.
    ///
    /// # Errors
    /// As [`Task::look`].
    pub(crate) async fn last_commit(
        topology: &Topology,
        records: &Arc<dyn Records>,
        settings: &TaskSettings,
        partition: u32,
    ) -> Result<Option<LastCommit>> {
        let found = find(topology, records, settings, partition).await?;
        Ok(found.map(|(_, head)| LastCommit {
            number: head.commits,
            epoch: head.epoch,
            next_offset: head.next_offset,
            has_outputs: head.outbox.is_some(),
        }))
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
        let found = find(topology, records, settings, partition).await?;
        let Some((_, head)) = found else { return Ok(BTreeMap::new()) };
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
        Self::deliver_commit(topology, records, sink, settings, partition, None).await
    }

    /// As [`Task::deliver_last`], where the last commit is the one that is `wanted`: one that came since says that this one was
    /// delivered.
    ///
    /// # Errors
    /// As [`Task::deliver_last`].
    pub(crate) async fn deliver_commit(
        topology: &Topology,
        records: &Arc<dyn Records>,
        sink: &dyn Sink,
        settings: &TaskSettings,
        partition: u32,
        wanted: Option<u64>,
    ) -> Result<()> {
        let found = find(topology, records, settings, partition).await?;
        let wanted = found.filter(|(_, head)| wanted.is_none_or(|wanted| head.commits == wanted));
        let Some((shelf, head)) = wanted else { return Ok(()) };
        let Some(pages) = head.outbox else { return Ok(()) };
        let bytes = match shelf.read(Kind::Outbox, pages).await {
            Ok(bytes) => bytes,
            Err(error) => {
                // The next commit takes them away, and comes after their delivery.
                let now = shelf.head().await?.map(|found| Head::read(&found.body, topology)).transpose()?;
                return if now.is_some_and(|now| now.commits > head.commits) { Ok(()) } else { Err(error) };
            }
        };
        sink.deliver(Output::unpack(&bytes)?).await
    }
}

/// The head of a task and the records it is in; none where nobody ever opened the task.
async fn find(
    topology: &Topology,
    records: &Arc<dyn Records>,
    settings: &TaskSettings,
    partition: u32,
) -> Result<Option<(Shelf, Head)>> {
    let shelf = Shelf::new(Arc::clone(records), prefix(topology, settings, partition));
    let Some(found) = shelf.head().await? else { return Ok(None) };
    let head = Head::read(&found.body, topology)?;
    Ok(Some((shelf, head)))
}

/// Where the records of a task lie.
pub(super) fn prefix(topology: &Topology, settings: &TaskSettings, partition: u32) -> String {
    format!("{}/{}/{}/{partition:04}", settings.namespace, topology.name(), topology.input())
}
