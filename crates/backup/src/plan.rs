//! What a restore would bring back: which backup, and up to where.
//!
//! A time between two backups is met so: what the backup before it has stays whole, and of what the next one adds to
//! the log, the events up to the first whose own time is later. Records and objects are those of the backup before.

use kernel::{Error, Result, Timestamp, codes};
use store::Stored;

use crate::{Manifest, Vault};

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

    /// The first events of a partition's segment that are restored; none are restored after one that is not.
    pub(crate) fn keep(&self, topic: &str, partition: u32, events: &mut Vec<Stored>) {
        let Some(until) = self.until else { return };
        let whole = self.state.as_ref().and_then(|state| {
            let found = state.topics.iter().find(|found| found.topic == topic)?;
            Some(found.partitions.get(partition as usize)?.next)
        });
        let whole = whole.unwrap_or(0);
        let end = events.iter().position(|stored| stored.offset >= whole && stored.event.time > until);
        events.truncate(end.unwrap_or(events.len()));
    }
}
