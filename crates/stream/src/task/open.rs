//! Opening a task: taking it from whoever had it, then reading its state.

use std::sync::Arc;

use kernel::{Error, Result, codes};
use store::{Expect, Extent};

use crate::Topology;
use crate::context::{Context, Origin};
use crate::event_time::Punctuation;
use crate::operator::State;
use crate::task::changes::{Change, HELD};
use crate::task::commit::{fenced, fenced_by};
use crate::task::delivery::Delivery;
use crate::task::head::Head;
use crate::task::held::Held;
use crate::task::look::prefix;
use crate::task::shelf::{Kind, Shelf};
use crate::task::{Progress, Task, TaskParts, TaskSettings};
use crate::topology::Program;

impl Task {
    /// Takes the task of a partition and reads its state. Whoever had it can no longer commit.
    ///
    /// # Errors
    /// `FENCED` when another took it at the same moment, `CONFLICT` when its state is of another format, `CORRUPTED`
    /// when it cannot be read, those of the parts.
    pub async fn open(
        topology: Arc<Topology>,
        parts: TaskParts,
        partition: u32,
        settings: TaskSettings,
    ) -> Result<Self> {
        check_namespace(&settings.namespace)?;
        let (name, input) = (topology.name(), &topology.input);
        let shelf = Shelf::new(Arc::clone(&parts.records), prefix(&topology, &settings, partition));
        let (head, expect) = match shelf.head().await? {
            Some(found) => {
                let head = Head::read(&found.body, &topology)?;
                (head.taken_over(), Expect::Version(found.version))
            }
            None => (Head::new(&topology, first_offset(&parts, &settings, partition).await?), Expect::Absent),
        };
        let head_version = shelf.commit(vec![shelf.put_head(head.write(), expect)]).await.map_err(fenced)?;
        let mut program = topology.build();
        let mut held = Held::default();
        for segment in &head.segments {
            let bytes = match shelf.read(Kind::State, *segment).await {
                Err(error) if !shelf.is_at(head_version).await? => return Err(fenced_by(error)),
                read => read?,
            };
            load(&Change::read_all(&bytes)?, &mut program, &mut held)?;
        }
        let mut counts = head.counts.iter();
        program.visit(&mut |part| part.site.counts = counts.next().copied().unwrap_or_default());
        let origin = Origin {
            topology: name.to_owned(),
            version: topology.version,
            source: topology.source(),
            input: input.clone(),
            dead_letters: topology.dead_letters.clone(),
            partition,
            task: settings.log_keeps_repeats.then(|| format!("{}/{partition}", settings.namespace)),
        };
        let nothing = Punctuation { partition, now_ms: 0, is_idle: false };
        let event = nothing.event(&kernel::TenantId::server(), "start")?;
        let committed = Progress { next_offset: head.next_offset, totals: head.totals };
        Ok(Self {
            committed,
            delivered: committed,
            applied: 0,
            delivery: if head.outbox.is_some() { Delivery::Due } else { Delivery::Done },
            context: Context::new(origin, event),
            topology,
            parts,
            settings,
            partition,
            shelf,
            head,
            head_version,
            program,
            held,
            waiting: std::collections::VecDeque::new(),
            is_broken: false,
        })
    }
}

fn check_namespace(namespace: &str) -> Result<()> {
    let lawful = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
    if (1..=64).contains(&namespace.len()) && namespace.bytes().all(lawful) {
        return Ok(());
    }
    let message = format!("a namespace is 1 to 64 of a-z 0-9 _ -, not `{}`", namespace.escape_debug());
    Err(Error::new(codes::VALIDATION_ERROR, message).with_field("namespace"))
}

async fn first_offset(parts: &TaskParts, settings: &TaskSettings, partition: u32) -> Result<u64> {
    if let Some(from) = settings.from {
        return Ok(from);
    }
    let extents = parts.source.extents().await?;
    let extent = extents.iter().find(|extent| extent.partition == partition);
    let begin = |extent: &Extent| if settings.begins_at_end { extent.next } else { extent.first };
    extent.map(begin).ok_or_else(|| {
        Error::new(codes::NOT_FOUND, format!("the source has no partition {partition}"))
            .with_field("partition")
    })
}

fn load(changes: &[Change<'_>], program: &mut Program, held: &mut Held) -> Result<()> {
    let mut outcome = Ok(());
    let mut take = |part: u16, state: &mut dyn State| {
        for change in changes.iter().filter(|change| change.part == part) {
            if outcome.is_ok() {
                outcome = state.load(change.key, change.value);
            }
        }
    };
    let mut part = 0;
    program.visit(&mut |shown| {
        if let Some(state) = shown.state {
            take(part, state);
        }
        part += 1;
    });
    take(HELD, held);
    outcome
}
