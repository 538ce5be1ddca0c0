//! What a restore would bring back: which backup, and up to where.
//!
//! A time between two backups is met so. What the backup before it has stays whole. Of what the next one adds to a
//! partition of the log, the events up to the last one whose own time is not later: the log does not keep when it took
//! an event in, only what the sender says, and goes on in one order. So
//! - a sender whose clock is ahead cuts off nothing: its event stays where another, not later, comes after it;
//! - an event that comes late (or is dated back) brings those before it along, at most to the end of that next backup;
//! - what is left out is only what comes after, all of it later by its own time.
//!
//! Records and objects are those of the backup before.

use std::collections::BTreeMap;

use kernel::{Error, Result, Timestamp, codes};

use crate::verify::events;
use crate::{Manifest, PartitionPart, Vault, ViewPart, aside};

/// By topic and partition, one past the last event.
pub(crate) type Ends = BTreeMap<(String, u32), u64>;

/// What is asked for: the newest backup where nothing is said.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    /// This backup.
    pub backup: Option<u64>,
    /// As it was at this time.
    pub to_time: Option<Timestamp>,
}

/// What will be brought back.
#[derive(Debug, Clone)]
pub struct Plan {
    log: Manifest,
    // Of records and objects, where those are of an older backup than the log.
    state: Option<Manifest>,
    until: Option<Timestamp>,
    name: String,
}

fn none(vault: &Vault) -> Error {
    Error::new(codes::NOT_FOUND, format!("there is no backup in {}", vault.name()))
}

impl Plan {
    /// Chooses.
    ///
    /// # Errors
    /// `NOT_FOUND` where there is no such backup; `CORRUPTED` naming a damaged manifest.
    pub async fn make(vault: &Vault, wanted: Wanted) -> Result<Self> {
        let Some(until) = wanted.to_time else {
            let found = match wanted.backup {
                Some(sequence) => vault.manifest(sequence).await?,
                None => vault.newest().await?.ok_or_else(|| none(vault))?,
            };
            return Ok(Self { log: found.0, state: None, until: None, name: found.1 });
        };
        let mut later: Option<(Manifest, String)> = None;
        for sequence in vault.sequences().await?.into_iter().rev() {
            let found = vault.manifest(sequence).await?;
            if found.0.log_at > until {
                later = Some(found);
                continue;
            }
            return Ok(match later {
                Some((log, name)) => Self { log, state: Some(found.0), until: Some(until), name },
                None => Self { log: found.0, state: None, until: None, name: found.1 },
            });
        }
        let (log, name) = later.ok_or_else(|| none(vault))?;
        Ok(Self { log, state: None, until: Some(until), name })
    }

    /// The backup whose events are restored.
    #[must_use]
    pub fn log(&self) -> &Manifest {
        &self.log
    }

    /// The backup whose records and objects are restored.
    #[must_use]
    pub fn state(&self) -> &Manifest {
        self.state.as_ref().unwrap_or(&self.log)
    }

    /// What was acknowledged before this is brought back.
    #[must_use]
    pub fn recovery_point(&self) -> Timestamp {
        self.until.map_or(self.log.taken_at, |until| until.min(self.log.taken_at))
    }

    /// Whether the records are later than the time that was asked for, because no backup is as old as that.
    #[must_use]
    pub fn is_older_than_every_backup(&self) -> bool {
        self.until.is_some() && self.state.is_none()
    }

    /// What tells this plan from others.
    pub(crate) fn name(&self) -> String {
        let until = self.until.map(|until| format!(" until {until}"));
        format!("{}{}", self.name, until.unwrap_or_default())
    }

    /// Where each partition will end.
    ///
    /// # Errors
    /// `CORRUPTED` naming a damaged part; `CONFLICT` where a view would lack events; those of the engine.
    pub(crate) async fn ends(&self, vault: &Vault) -> Result<Ends> {
        let mut ends = Ends::new();
        for (topic, partition, part) in self.log.partitions() {
            let end = match self.until {
                None => part.next,
                Some(until) => self.end_at(vault, (topic, partition, part), until).await?,
            };
            self.check_views((topic, partition, part), end)?;
            ends.insert((topic.to_owned(), partition), end);
        }
        Ok(ends)
    }

    /// Fails where it could not be brought back, before anything is written.
    ///
    /// # Errors
    /// `CORRUPTED` naming a damaged part; `CONFLICT` where a view would lack events; those of the engine.
    pub async fn check(&self, vault: &Vault) -> Result<()> {
        self.ends(vault).await.map(drop)
    }

    /// One past the last event that is not later, looked for from the end.
    async fn end_at(
        &self,
        vault: &Vault,
        (topic, partition, part): (&str, u32, &PartitionPart),
        until: Timestamp,
    ) -> Result<u64> {
        let held = self.state.as_ref().and_then(|state| {
            state.partitions().find(|(name, number, _)| (*name, *number) == (topic, partition))
        });
        let whole = held.map_or(0, |(_, _, held)| held.next);
        for segment in part.segments.iter().rev().take_while(|segment| segment.next > whole) {
            let raw = vault.get(&segment.part).await?;
            let (first, next) = (segment.first, segment.next);
            let found = aside(move || events(first, next, &raw)).await?;
            if let Some(last) = found.iter().rfind(|stored| stored.event.time <= until) {
                return Ok(whole.max(last.offset + 1));
            }
        }
        Ok(whole.max(part.first()))
    }

    /// The checkpoints that a restore begins with.
    pub(crate) fn views(&self) -> &[ViewPart] {
        &self.state().views
    }

    /// A log that lacks its beginning is of use only with views that have that, and nothing beyond its end.
    fn check_views(&self, (topic, partition, part): (&str, u32, &PartitionPart), end: u64) -> Result<()> {
        let first = part.first();
        if first == 0 {
            return Ok(());
        }
        let fits = |view: &ViewPart| {
            let next = view.offsets.get(&partition).copied().unwrap_or(0);
            view.topic != topic || (first..=end).contains(&next)
        };
        if end > first && self.views().iter().any(|view| view.topic == topic) && self.views().iter().all(fits)
        {
            return Ok(());
        }
        let message = format!(
            "the events before {first} of partition {partition} of topic `{topic}` were gone when the backup was made, and \
             it has the views of a later time only; choose that backup's time or a later one, or a backup with --backup"
        );
        Err(Error::new(codes::CONFLICT, message))
    }
}
