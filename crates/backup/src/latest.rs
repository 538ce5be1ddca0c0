//! Tables that are kept once, as they are now, whichever backup is restored.
//!
//! The list is replaced in one step, and only then do the parts of the one before go: a backup that is killed leaves the
//! one list or the other.

use futures::TryStreamExt;
use kernel::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use store::SavedRecord;

use crate::part::{read_records, write_records};
use crate::{Part, Rules, Source, Vault, aside, corrupted};

/// A part of records has about as many bytes. Tests have many.
const RECORDS_BYTES: usize = if cfg!(test) { 1_000 } else { 8 << 20 };

/// The parts, in order.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Latest {
    parts: Vec<Part>,
}

impl Latest {
    /// The stored form: a hash, and JSON.
    pub(crate) fn seal(&self) -> Result<Vec<u8>> {
        let json = serde_json::to_vec(self).map_err(Error::internal)?;
        Ok([blake3::hash(&json).to_hex().as_bytes(), b"\n", &json].concat())
    }

    pub(crate) fn open(sealed: &[u8]) -> Result<Self> {
        let (hash, json) = sealed.split_at_checked(blake3::OUT_LEN * 2 + 1).unwrap_or_default();
        if hash.strip_suffix(b"\n") != Some(blake3::hash(json).to_hex().as_bytes()) {
            return Err(corrupted("its checksum is wrong"));
        }
        serde_json::from_slice(json).map_err(|cause| corrupted("it cannot be read").with_source(cause))
    }

    pub(crate) fn parts(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(|part| part.blake3.as_str())
    }
}

/// Replaces what the vault has of these tables by what is in the records now.
///
/// # Errors
/// Those of the engines.
pub(crate) async fn replace(source: &Source, rules: &Rules, vault: &Vault) -> Result<()> {
    if rules.tables_kept_once.is_empty() {
        return Ok(());
    }
    let mut snapshot = source.records.snapshot(&rules.tables_left_out);
    let (mut latest, mut some, mut bytes) = (Latest::default(), Vec::new(), 0);
    while let Some(page) = snapshot.try_next().await? {
        for record in page.into_iter().filter(|record| rules.is_kept_once(&record.table)) {
            bytes += record.bytes();
            some.push(record);
            if bytes >= RECORDS_BYTES {
                latest.parts.push(put(vault, &mut some).await?);
                bytes = 0;
            }
        }
    }
    if !some.is_empty() {
        latest.parts.push(put(vault, &mut some).await?);
    }
    vault.replace_latest(&latest).await
}

async fn put(vault: &Vault, some: &mut Vec<SavedRecord>) -> Result<Part> {
    vault.put_once(write_records(&std::mem::take(some))?.into()).await
}

/// Reads all of them; returns how many parts there are, and their size. Adds what is damaged.
///
/// # Errors
/// Those of the engine.
pub(crate) async fn verify(vault: &Vault, must_be: bool, damages: &mut Vec<String>) -> Result<(usize, u64)> {
    let (mut parts, mut bytes) = (0, 0);
    let mut note = |outcome: Result<()>| match outcome {
        Err(error) if error.kind() == ErrorKind::Corrupted => {
            damages.push(error.message().to_owned());
            Ok(())
        }
        other => other,
    };
    let latest = match vault.latest(must_be).await {
        Ok(latest) => latest,
        Err(error) => return note(Err(error)).map(|()| (0, 0)),
    };
    for part in latest.parts {
        let read = match vault.get_once(&part).await {
            Ok(raw) => aside(move || read_records(&raw).map(drop)).await,
            Err(error) => Err(error),
        };
        note(read)?;
        parts += 1;
        bytes += part.bytes;
    }
    Ok((parts, bytes))
}

/// Hands each piece of them to `take`; returns how many there are.
///
/// # Errors
/// `CORRUPTED` naming the file; those of the engines and of `take`.
pub(crate) async fn restore(
    vault: &Vault,
    must_be: bool,
    mut take: impl AsyncFnMut(Vec<SavedRecord>) -> Result<()>,
) -> Result<u64> {
    let mut done = 0;
    for part in vault.latest(must_be).await?.parts {
        let raw = vault.get_once(&part).await?;
        let records = aside(move || read_records(&raw)).await?;
        done += records.len() as u64;
        take(records).await?;
    }
    Ok(done)
}
