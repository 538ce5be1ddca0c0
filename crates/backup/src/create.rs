//! Makes a backup: records, then objects, then checkpoints where they are needed, then the log, then the manifest.

mod log;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use kernel::{Error, Result, TenantId, codes};
use store::SavedRecord;
use tracing::warn;

use crate::part::write_records;
use crate::{
    Manifest, ObjectPart, Part, Previous, RecordsPart, Rules, Source, Step, Tell, Vault, latest,
    refuse_unfinished, scope_of, system_scope,
};

/// Held while a backup is made.
const LEASE: &str = "backup";
const LEASE_LASTS: Duration = Duration::from_secs(120);
/// A part of records has about as many bytes. Tests have many.
const RECORDS_BYTES: usize = if cfg!(test) { 1_000 } else { 8 << 20 };
/// Objects that vanish while they are copied make the backup begin anew, so often.
const ATTEMPTS: usize = 3;

/// How a backup is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// Backups that are kept, the newest; 0 for all.
    pub keep: usize,
    /// Sends everything anew, trusting nothing that is in the vault.
    pub full: bool,
    /// The release that makes it.
    pub release: &'static str,
}

/// What was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Uploaded {
    /// Parts.
    pub parts: usize,
    /// Their size.
    pub bytes: u64,
    /// Backups that were removed because more than wanted were kept.
    pub pruned: usize,
}

/// What came of it.
#[derive(Debug, Clone)]
pub enum Created {
    /// A new backup.
    New(Box<Manifest>, Uploaded),
    /// Nothing changed since this one.
    Unchanged(Box<Manifest>),
}

/// Makes a backup. Killed at any moment, it leaves the vault as it was, but for parts that the next one takes up or
/// removes.
///
/// # Errors
/// `OVERLOADED` while another process makes one; `CONFLICT` when the vault's backups are of another log; `CORRUPTED`
/// naming damaged data; those of the engines.
pub async fn create(
    source: &Source,
    rules: &Rules,
    vault: &Vault,
    options: &Options,
    tell: Tell<'_>,
) -> Result<Created> {
    refuse_unfinished(&source.records).await?;
    let scope = system_scope();
    if !source.leases.acquire(&scope, LEASE, LEASE_LASTS).await? {
        let message = "another process makes a backup now; wait until it is done";
        return Err(Error::new(codes::OVERLOADED, message));
    }
    let made = tokio::select! {
        made = make(source, rules, vault, options, tell) => made,
        lost = keep_lease(source) => Err(lost),
    };
    // It ends by itself where it cannot be given up.
    if let Err(error) = source.leases.release(&scope, LEASE).await {
        warn!(error = %error.chain(), "the lease of the backup is not given up");
    }
    made
}

async fn keep_lease(source: &Source) -> Error {
    loop {
        tokio::time::sleep(LEASE_LASTS / 4).await;
        match source.leases.acquire(&system_scope(), LEASE, LEASE_LASTS).await {
            Ok(true) => {}
            Ok(false) => return Error::new(codes::CONFLICT, "another process took over the backup"),
            Err(error) => warn!(error = %error.chain(), "the lease of the backup is not renewed"),
        }
    }
}

async fn make(
    source: &Source,
    rules: &Rules,
    vault: &Vault,
    options: &Options,
    tell: Tell<'_>,
) -> Result<Created> {
    let sequences = vault.sequences().await?;
    let previous = match (options.full, sequences.last()) {
        (false, Some(newest)) => Some(vault.manifest(*newest).await.map_err(|error| {
            let message = format!(
                "{}; nothing can be added to it: look with `watershed backup verify`, then send everything \
                 anew with `watershed backup create --full`",
                error.message()
            );
            Error::new(error.code(), message).with_source(error)
        })?),
        _ => None,
    };
    let held = vault.parts().await?;
    let sequence = sequences.last().map_or(1, |newest| newest + 1);
    let (known, lost, uploaded) = (BTreeMap::new(), BTreeMap::new(), Uploaded::default());
    let mut maker = Maker { source, rules, vault, tell, sequence, known, lost, uploaded };
    for (part, _) in previous.iter().flat_map(|(manifest, _)| manifest.parts()) {
        let is_there = held.get(&part.name()) == Some(&part.bytes);
        let parts = if is_there { &mut maker.known } else { &mut maker.lost };
        parts.insert(part.blake3.clone(), part.clone());
    }
    let before = previous.as_ref().map(|(manifest, _)| manifest);
    let taken_at = source.clock.now();
    let (records, objects) = maker.state(before).await?;
    let views = maker.views(before).await?;
    let log_at = source.clock.now();
    let topics = maker.log(before).await?;
    crate::views::check(&topics, &views)?;
    let manifest = Manifest {
        format: Manifest::FORMAT,
        sequence,
        taken_at,
        log_at,
        release: options.release.to_owned(),
        previous: previous
            .as_ref()
            .map(|(manifest, hash)| Previous { sequence: manifest.sequence, blake3: hash.clone() }),
        topics,
        records,
        objects,
        views,
        kept_once: !rules.tables_kept_once.is_empty(),
    };
    let Maker { mut uploaded, .. } = maker;
    // After the log was read, so that no event lacks its key; even where nothing else changed.
    latest::replace(source, rules, vault).await?;
    match previous {
        // Parts that were lost and sent again are worth no new backup either.
        Some((previous, _)) if manifest.is_same_data(&previous) => {
            return Ok(Created::Unchanged(Box::new(previous)));
        }
        _ => {}
    }
    // Listed before the manifest is there: what another process sends for the next backup is not in the list, and so
    // is not taken for a leftover.
    let held = vault.parts().await?;
    let missing = |(part, _): &(&Part, _)| held.get(&part.name()) != Some(&part.bytes);
    if let Some((part, holds)) = manifest.parts().find(missing) {
        let message = format!("part {} ({}) vanished meanwhile; try again", part.name(), holds.name());
        return Err(Error::new(codes::CONFLICT, message));
    }
    vault.put_manifest(&manifest).await?;
    uploaded.pruned = prune(vault, sequences, &manifest, options.keep, held).await;
    Ok(Created::New(Box::new(manifest), uploaded))
}

/// Removes backups beyond those that are kept, and parts that belong to none. The new backup stands whatever happens
/// here, so a failure is only told.
async fn prune(
    vault: &Vault,
    older: Vec<u64>,
    newest: &Manifest,
    keep: usize,
    held: BTreeMap<String, u64>,
) -> usize {
    let keep = if keep == 0 { usize::MAX } else { keep };
    let gone = (older.len() + 1).saturating_sub(keep);
    let outcome = async {
        for sequence in &older[..gone] {
            vault.remove_manifest(*sequence).await?;
        }
        let mut needed: BTreeSet<String> = newest.parts().map(|(part, _)| part.name()).collect();
        for sequence in &older[gone..] {
            let (manifest, _) = vault.manifest(*sequence).await?;
            needed.extend(manifest.parts().map(|(part, _)| part.name()));
        }
        for name in held.keys().filter(|name| !needed.contains(*name)) {
            vault.remove_part(name).await?;
        }
        Ok::<_, Error>(())
    };
    if let Err(error) = outcome.await {
        warn!(error = %error.chain(), "what no backup needs is left in the vault for now");
    }
    gone
}

pub(crate) struct Maker<'a> {
    pub(crate) source: &'a Source,
    pub(crate) rules: &'a Rules,
    vault: &'a Vault,
    tell: Tell<'a>,
    sequence: u64,
    /// Parts of the backup before, and of this one, that are in the vault, by hash.
    known: BTreeMap<String, Part>,
    /// Parts of the backup before that are not.
    lost: BTreeMap<String, Part>,
    uploaded: Uploaded,
}

impl Maker<'_> {
    pub(crate) async fn put(&mut self, raw: impl Into<Bytes>) -> Result<Part> {
        let Self { known, lost, sequence, .. } = self;
        let place = |part: Part| match (known.get(&part.blake3), lost.get(&part.blake3)) {
            (Some(known), _) => (known.clone(), true),
            // Under its own name, so that the backup before is whole again too.
            (None, Some(lost)) => (lost.clone(), false),
            (None, None) => (Part { sent_for: *sequence, ..part }, false),
        };
        let (part, is_new) = self.vault.put(raw.into(), place).await?;
        if is_new {
            self.uploaded.parts += 1;
            self.uploaded.bytes += part.bytes;
            self.known.insert(part.blake3.clone(), part.clone());
        }
        Ok(part)
    }

    /// Records, and the objects that they speak of.
    async fn state(&mut self, before: Option<&Manifest>) -> Result<(Vec<RecordsPart>, Vec<ObjectPart>)> {
        for _ in 0..ATTEMPTS {
            let records = self.records().await?;
            let mut tenants: BTreeSet<TenantId> = records.iter().map(|part| part.tenant.clone()).collect();
            tenants.insert(TenantId::server());
            if let Some(objects) = self.objects(&tenants, before).await? {
                return Ok((records, objects));
            }
        }
        let message = "objects vanish faster than they can be copied; try again later";
        Err(Error::new(codes::UNAVAILABLE, message))
    }

    async fn records(&mut self) -> Result<Vec<RecordsPart>> {
        let mut snapshot = self.source.records.snapshot(&self.rules.tables_left_out);
        let mut parts = Vec::new();
        let (mut some, mut bytes, mut done): (Vec<SavedRecord>, usize, u64) = (Vec::new(), 0, 0);
        while let Some(page) = snapshot.try_next().await? {
            for record in page.into_iter().filter(|record| !self.rules.is_kept_once(&record.table)) {
                let is_other = some
                    .last()
                    .is_some_and(|last| (&last.tenant, &last.table) != (&record.tenant, &record.table));
                if is_other || bytes >= RECORDS_BYTES {
                    parts.extend(self.records_part(std::mem::take(&mut some)).await?);
                    bytes = 0;
                }
                bytes += record.bytes();
                done += 1;
                some.push(record);
            }
            (self.tell)(Step { what: "records", done, total: 0 });
        }
        parts.extend(self.records_part(some).await?);
        Ok(parts)
    }

    async fn records_part(&mut self, records: Vec<SavedRecord>) -> Result<Option<RecordsPart>> {
        let Some(first) = records.first() else { return Ok(None) };
        let (tenant, table, count) = (first.tenant.clone(), first.table.clone(), records.len() as u64);
        let part = self.put(write_records(&records)?).await?;
        Ok(Some(RecordsPart { tenant, table, count, part }))
    }

    /// The objects of the tenants; none where one vanished on the way.
    async fn objects(
        &mut self,
        tenants: &BTreeSet<TenantId>,
        before: Option<&Manifest>,
    ) -> Result<Option<Vec<ObjectPart>>> {
        let mut objects = Vec::new();
        for tenant in tenants {
            let scope = scope_of(tenant);
            for blob in self.source.blobs.list(&scope, "").await? {
                if self.rules.is_left_out(&blob.path) {
                    continue;
                }
                let known = before.and_then(|manifest| {
                    let is_it = |held: &&ObjectPart| {
                        held.tenant == *tenant
                            && held.path == blob.path
                            && held.part.raw_bytes == blob.size_bytes
                    };
                    let found = manifest.objects.iter().find(is_it)?;
                    let is_there = self.known.get(&found.part.blake3) == Some(&found.part);
                    (is_there && self.rules.is_written_once(&blob.path)).then(|| found.part.clone())
                });
                let part = match known {
                    Some(part) => part,
                    None => match self.source.blobs.get(&scope, &blob.path).await {
                        Ok(body) => self.put(body).await?,
                        Err(error) if error.code() == codes::NOT_FOUND => return Ok(None),
                        Err(error) => return Err(error),
                    },
                };
                objects.push(ObjectPart { tenant: tenant.clone(), path: blob.path, part });
                (self.tell)(Step { what: "objects", done: objects.len() as u64, total: 0 });
            }
        }
        Ok(Some(objects))
    }
}
