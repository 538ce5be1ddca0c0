//! Whether every byte of a vault is as it was written, and what is not.

use std::collections::BTreeMap;

use futures::{StreamExt, stream};
use kernel::{Error, ErrorKind, Result};
use store::{SavedRecord, Stored};

use crate::manifest::Holds;
use crate::part::{read_events, read_records};
use crate::vault::part_path;
use crate::{Manifest, Part, Plan, Step, Tell, Vault, aside, corrupted, latest};

const AT_ONCE: usize = 2;
/// Damages that are named in one error.
const NAMED_AT_MOST: usize = 10;

/// What was read and found whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Backups.
    pub backups: usize,
    /// Parts.
    pub parts: usize,
    /// Their size in the vault.
    pub bytes: u64,
}

/// Reads every manifest and every part, and checks all of it.
///
/// # Errors
/// `CORRUPTED` naming what is damaged; those of the engine.
pub async fn verify(vault: &Vault, tell: Tell<'_>) -> Result<Verified> {
    let mut damages = Vec::new();
    let mut manifests: Vec<(Manifest, String)> = Vec::new();
    for sequence in vault.sequences().await? {
        match vault.manifest(sequence).await {
            Ok(found) => {
                damages.extend(broken_chain(manifests.last(), &found.0));
                manifests.push(found);
            }
            Err(error) if error.kind() == ErrorKind::Corrupted => damages.push(error.message().to_owned()),
            Err(error) => return Err(error),
        }
    }
    let backups = manifests.len();
    let manifests: Vec<&Manifest> = manifests.iter().map(|(manifest, _)| manifest).collect();
    let (parts, bytes) = read_parts(vault, &manifests, &mut damages, tell).await?;
    let must_be = manifests.iter().any(|manifest| manifest.kept_once);
    let (more, more_bytes) = latest::verify(vault, must_be, &mut damages).await?;
    tell_damages(damages)?;
    Ok(Verified { backups, parts: parts + more, bytes: bytes + more_bytes })
}

/// Reads every part that a restore needs, and checks it.
///
/// # Errors
/// `CORRUPTED` naming what is damaged; those of the engine.
pub async fn verify_plan(vault: &Vault, plan: &Plan, tell: Tell<'_>) -> Result<Verified> {
    let mut damages = Vec::new();
    // The state's log is in the log of the plan, but for a last segment that is not needed.
    let state = Manifest { topics: Vec::new(), ..plan.state().clone() };
    let log = Manifest { records: Vec::new(), objects: Vec::new(), views: Vec::new(), ..plan.log().clone() };
    let (parts, bytes) = read_parts(vault, &[&state, &log], &mut damages, tell).await?;
    let (more, more_bytes) = latest::verify(vault, plan.state().kept_once, &mut damages).await?;
    tell_damages(damages)?;
    Ok(Verified { backups: 1, parts: parts + more, bytes: bytes + more_bytes })
}

fn broken_chain(before: Option<&(Manifest, String)>, manifest: &Manifest) -> Option<String> {
    let (before, hash) = before?;
    let previous = manifest.previous.as_ref().filter(|previous| previous.sequence == before.sequence)?;
    (previous.blake3 != *hash).then(|| {
        format!("backup {} is not the one that backup {} was made after", before.sequence, manifest.sequence)
    })
}

async fn read_parts(
    vault: &Vault,
    manifests: &[&Manifest],
    damages: &mut Vec<String>,
    tell: Tell<'_>,
) -> Result<(usize, u64)> {
    let mut unique: BTreeMap<String, (&Part, Holds<'_>, u64)> = BTreeMap::new();
    for manifest in manifests {
        for (part, holds) in manifest.parts() {
            unique.entry(part.name()).or_insert((part, holds, manifest.sequence));
        }
    }
    let (count, total) = (unique.len(), unique.values().map(|(part, ..)| part.bytes).sum());
    let check = |(part, holds, sequence): (&Part, Holds<'_>, u64)| {
        let (part, name) = (part.clone(), holds.name());
        let expected = Expected::of(holds);
        async move {
            let outcome = match vault.get(&part).await {
                Ok(raw) => aside(move || expected.check(&raw)).await.map_err(|error| {
                    corrupted(format!("{} is damaged: {}", part_path(&part), error.message()))
                }),
                Err(error) => Err(error),
            };
            let damage = match outcome {
                Ok(()) => None,
                Err(error) if error.kind() == ErrorKind::Corrupted => {
                    Some(format!("{} ({name}, of backup {sequence})", error.message()))
                }
                Err(error) => return Err(error),
            };
            Ok((part.bytes, damage))
        }
    };
    let checks: Vec<_> = unique.into_values().map(check).collect();
    let mut checked = stream::iter(checks).buffered(AT_ONCE);
    let mut done = 0;
    while let Some(outcome) = checked.next().await {
        let (bytes, damage) = outcome?;
        done += bytes;
        damages.extend(damage);
        tell(Step { what: "verifying", done, total });
    }
    Ok((count, total))
}

fn tell_damages(damages: Vec<String>) -> Result<()> {
    let more = damages.len().saturating_sub(NAMED_AT_MOST);
    let mut told = damages.into_iter().take(NAMED_AT_MOST).collect::<Vec<_>>();
    if told.is_empty() {
        return Ok(());
    }
    if more > 0 {
        told.push(format!("and {more} more"));
    }
    Err(Error::new(kernel::codes::CORRUPTED, told.join("; ")))
}

/// What a part must hold.
enum Expected {
    Events(u64, u64),
    Records(String, String, u64),
    Object,
}

impl Expected {
    fn of(holds: Holds<'_>) -> Self {
        match holds {
            Holds::Events(_, _, segment) => Self::Events(segment.first, segment.next),
            Holds::Records(records) => {
                Self::Records(records.tenant.to_string(), records.table.clone(), records.count)
            }
            Holds::Object(_) | Holds::View(_) => Self::Object,
        }
    }

    fn check(&self, raw: &[u8]) -> Result<()> {
        match self {
            Self::Events(first, next) => events(*first, *next, raw).map(drop),
            Self::Records(tenant, table, count) => records(tenant, table, *count, raw).map(drop),
            Self::Object => Ok(()),
        }
    }
}

/// The events of a segment, all of them.
pub(crate) fn events(first: u64, next: u64, raw: &[u8]) -> Result<Vec<Stored>> {
    let events = read_events(first, raw)?;
    if events.len() as u64 == next - first {
        return Ok(events);
    }
    Err(corrupted(format!("it has {} events, not {}", events.len(), next - first)))
}

/// The records of a part, all of them and no other.
pub(crate) fn records(tenant: &str, table: &str, count: u64, raw: &[u8]) -> Result<Vec<SavedRecord>> {
    let records = read_records(raw)?;
    let is_right = |record: &SavedRecord| record.tenant.as_str() == tenant && record.table == table;
    if records.len() as u64 == count && records.iter().all(is_right) {
        return Ok(records);
    }
    Err(corrupted("it has other records than the manifest says"))
}
