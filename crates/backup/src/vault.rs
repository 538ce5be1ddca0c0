//! Where backups are kept: manifests and parts in any `Blobs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kernel::{Error, Result, Scope, TenantId, codes};
use store::{Blobs, PutMode};

use crate::latest::Latest;
use crate::part::{pack, unpack};
use crate::{Manifest, Part, aside, corrupted};

const MANIFESTS: &str = "manifests";
const PARTS: &str = "parts";
const LATEST: &str = "latest.json";
const ONCE: &str = "once";

/// A place for backups.
#[derive(Debug, Clone)]
pub struct Vault {
    blobs: Arc<dyn Blobs>,
    scope: Scope,
    name: String,
}

fn manifest_path(sequence: u64) -> String {
    format!("{MANIFESTS}/{sequence:010}.json")
}

pub(crate) fn part_path(part: &Part) -> String {
    format!("{PARTS}/{}", part.name())
}

/// Names what is damaged.
fn damaged(path: &str, cause: Error) -> Error {
    corrupted(format!("{path} is damaged: {}", cause.message())).with_source(cause)
}

impl Vault {
    /// Over `blobs`; `name` is what people call the place.
    ///
    /// # Errors
    /// None but for a defect.
    pub fn new(blobs: Arc<dyn Blobs>, name: String) -> Result<Self> {
        Ok(Self { blobs, scope: Scope::system(TenantId::new("_backup")?, "backup"), name })
    }

    /// What people call the place.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The numbers of the backups, oldest first.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn sequences(&self) -> Result<Vec<u64>> {
        let listed = self.blobs.list(&self.scope, MANIFESTS).await?;
        let number = |path: &str| path.rsplit('/').next()?.strip_suffix(".json")?.parse().ok();
        Ok(listed.iter().filter_map(|blob| number(&blob.path)).collect())
    }

    /// A backup's manifest and its hash.
    ///
    /// # Errors
    /// `NOT_FOUND`; `CORRUPTED` naming the file.
    pub async fn manifest(&self, sequence: u64) -> Result<(Manifest, String)> {
        let path = manifest_path(sequence);
        let sealed = self.blobs.get(&self.scope, &path).await.map_err(|error| match error.code() {
            codes::NOT_FOUND => {
                let message = format!("there is no backup {sequence} in {}", self.name);
                Error::new(codes::NOT_FOUND, message)
            }
            _ => error,
        })?;
        let (manifest, hash) = Manifest::open(&sealed).map_err(|error| damaged(&path, error))?;
        if manifest.sequence != sequence {
            return Err(corrupted(format!("{path} is the manifest of backup {}", manifest.sequence)));
        }
        Ok((manifest, hash))
    }

    /// The newest backup; none where there is none.
    ///
    /// # Errors
    /// Those of [`Vault::manifest`].
    pub async fn newest(&self) -> Result<Option<(Manifest, String)>> {
        match self.sequences().await?.last() {
            Some(sequence) => self.manifest(*sequence).await.map(Some),
            None => Ok(None),
        }
    }

    pub(crate) async fn put_manifest(&self, manifest: &Manifest) -> Result<()> {
        let (sealed, _) = manifest.seal()?;
        let path = manifest_path(manifest.sequence);
        self.blobs.put(&self.scope, &path, sealed.into(), PutMode::Create).await.map_err(|error| match error
            .code()
        {
            codes::CONFLICT => {
                let message = format!("another process made backup {} meanwhile", manifest.sequence);
                Error::new(codes::CONFLICT, message)
            }
            _ => error,
        })
    }

    pub(crate) async fn remove_manifest(&self, sequence: u64) -> Result<()> {
        self.blobs.delete(&self.scope, &manifest_path(sequence)).await
    }

    /// The parts that are there: name and size.
    pub(crate) async fn parts(&self) -> Result<BTreeMap<String, u64>> {
        let listed = self.blobs.list(&self.scope, PARTS).await?;
        let prefix = PARTS.len() + 1;
        Ok(listed.into_iter().map(|blob| (blob.path[prefix..].to_owned(), blob.size_bytes)).collect())
    }

    /// Puts a part unless it is there; `place` says which part it is, and whether that is there.
    pub(crate) async fn put(
        &self,
        raw: Bytes,
        place: impl FnOnce(Part) -> (Part, bool),
    ) -> Result<(Part, bool)> {
        let (part, stored) = aside(move || pack(&raw)).await?;
        let (part, is_there) = place(part);
        if is_there {
            return Ok((part, false));
        }
        self.blobs.put(&self.scope, &part_path(&part), stored, PutMode::Replace).await?;
        Ok((part, true))
    }

    /// Puts a part of the tables that are kept once.
    pub(crate) async fn put_once(&self, raw: Bytes) -> Result<Part> {
        let (part, stored) = aside(move || pack(&raw)).await?;
        let path = format!("{ONCE}/{}", part.blake3);
        self.blobs.put(&self.scope, &path, stored, PutMode::Replace).await?;
        Ok(part)
    }

    /// What a part of the tables that are kept once holds.
    pub(crate) async fn get_once(&self, part: &Part) -> Result<Vec<u8>> {
        self.get_at(format!("{ONCE}/{}", part.blake3), part).await
    }

    /// The list of the tables that are kept once; empty in a vault that never had any, unless it `must_be` there.
    pub(crate) async fn latest(&self, must_be: bool) -> Result<Latest> {
        match self.blobs.get(&self.scope, LATEST).await {
            Ok(sealed) => Latest::open(&sealed).map_err(|error| damaged(LATEST, error)),
            Err(error) if error.code() == codes::NOT_FOUND && !must_be => Ok(Latest::default()),
            Err(error) if error.code() == codes::NOT_FOUND => Err(corrupted(format!("{LATEST} is missing"))),
            Err(error) => Err(error),
        }
    }

    /// Replaces the list, then removes what belongs to the one before.
    pub(crate) async fn replace_latest(&self, latest: &Latest) -> Result<()> {
        self.blobs.put(&self.scope, LATEST, latest.seal()?.into(), PutMode::Replace).await?;
        for blob in self.blobs.list(&self.scope, ONCE).await? {
            let is_needed = latest.parts().any(|name| blob.path.strip_prefix("once/") == Some(name));
            if !is_needed {
                self.blobs.delete(&self.scope, &blob.path).await?;
            }
        }
        Ok(())
    }

    /// What a part holds.
    pub(crate) async fn get(&self, part: &Part) -> Result<Vec<u8>> {
        self.get_at(part_path(part), part).await
    }

    async fn get_at(&self, path: String, part: &Part) -> Result<Vec<u8>> {
        let stored = match self.blobs.get(&self.scope, &path).await {
            Ok(stored) => stored,
            Err(error) if error.code() == codes::NOT_FOUND => {
                return Err(corrupted(format!("{path} is missing")));
            }
            Err(error) => return Err(error),
        };
        let part = part.clone();
        aside(move || unpack(&part, &stored)).await.map_err(|error| damaged(&path, error))
    }

    pub(crate) async fn remove_part(&self, name: &str) -> Result<()> {
        self.blobs.delete(&self.scope, &format!("{PARTS}/{name}")).await
    }
}
