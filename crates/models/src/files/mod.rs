//! Artifacts of runs and versions: files by root and path, in parts, each with its checksum.
//!
//! An upload is written part by part, and becomes a file only when its last byte came and nothing of it was refused:
//! one that breaks off leaves parts that nobody sees, which a clean-up removes. A file names its upload, and several may
//! name the same: a version takes the files of a run over without a copy, and keeps them when the run's are replaced.
//!
//! It refuses formats that run code when they are read, archives that are traps, paths that leave a folder, and files
//! beyond the limit. It never holds more of a file in memory than a part.

mod formats;
mod path;
mod sweep;
mod upload;
mod zip;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kernel::{Clock, Entropy, Error, Result, Scope, Timestamp, codes};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use store::{
    Blobs, Document, Expect, IndexValue, Query, Records, Repository, Selection, Table, Versioned, Write,
};

pub use formats::REFUSED_FORMAT;
pub use path::{check_artifact_path, split_root};
pub use sweep::Swept;
pub use upload::Upload;

/// Where parts are kept.
const FOLDER: &str = "registry";
const PAGE: usize = 1_000;
/// Files that one root takes over from another, or loses, at once: they are one transaction.
const MAX_FILES_AT_ONCE: usize = 4_000;
/// Others who change the same file meanwhile, at most.
const ATTEMPTS: usize = 16;

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactFile {
    /// What it belongs to, such as `12/3f…/artifacts`.
    pub root: String,
    /// Its path below the root.
    pub path: String,
    /// Its size.
    pub size_bytes: u64,
    /// SHA-256 of its bytes, in hexadecimal digits.
    pub sha256: String,
    /// SHA-256 of each part, in order.
    pub parts: Vec<String>,
    /// The size of each part but the last.
    pub part_bytes: u64,
    /// Names the parts; files with the same bytes by [`Files::take_over`] share it.
    pub upload: String,
    /// When it came.
    pub created_at: Timestamp,
}

impl Document for ArtifactFile {
    const TABLE: Table = Table { name: "artifact_files", indexes: &["upload"] };

    fn key(&self) -> String {
        key(&self.root, &self.path)
    }

    fn indexes(&self) -> Vec<(&'static str, IndexValue)> {
        vec![("upload", IndexValue::Text(self.upload.clone()))]
    }
}

fn key(root: &str, path: &str) -> String {
    format!("{root}/{path}")
}

fn part_path(upload: &str, number: usize) -> String {
    format!("{FOLDER}/{upload}/{number:06}")
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    kernel::hex(digest(&SHA256, bytes).as_ref())
}

/// A file or folder of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The path below the root.
    pub path: String,
    /// The size of a file; none for a folder.
    pub size_bytes: Option<u64>,
}

/// How much is taken.
#[derive(Debug, Clone, Copy)]
pub struct FileLimits {
    /// The largest file.
    pub file_bytes: u64,
    /// The size of a part, which is what an upload or download holds in memory.
    pub part_bytes: usize,
}

/// The files of every tenant.
#[derive(Debug, Clone)]
pub struct Files {
    files: Repository<ArtifactFile>,
    blobs: Arc<dyn Blobs>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    limits: FileLimits,
}

impl Files {
    /// Over these engines.
    #[must_use]
    pub fn new(
        records: Arc<dyn Records>,
        blobs: Arc<dyn Blobs>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        limits: FileLimits,
    ) -> Self {
        Self { files: Repository::new(records), blobs, clock, entropy, limits }
    }

    /// Begins an upload of `expected_bytes`, where that is known.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for the path; `REFUSED_FORMAT`; `TOO_LARGE`.
    pub fn begin(&self, root: &str, path: &str, expected_bytes: Option<u64>) -> Result<Upload> {
        check_artifact_path(path)?;
        formats::check_name(path)?;
        let name = self.entropy.id(self.clock.now()).simple().to_string();
        let upload = Upload::new(self.clone(), root, path, name);
        upload.check_size(expected_bytes.unwrap_or(0))?;
        Ok(upload)
    }

    /// The file at a path; none where there is none.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for the path; those of the engine.
    pub async fn get(&self, scope: &Scope, root: &str, path: &str) -> Result<Option<ArtifactFile>> {
        check_artifact_path(path)?;
        Ok(self.files.get(scope, &key(root, path)).await?.map(|found| found.document))
    }

    /// Part `number` of a file, which is what its checksum says.
    ///
    /// # Errors
    /// `CORRUPTED` where it is not; those of the engine.
    pub async fn part(&self, scope: &Scope, file: &ArtifactFile, number: usize) -> Result<Bytes> {
        let bytes = self.blobs.get(scope, &part_path(&file.upload, number)).await?;
        if file.parts.get(number).is_some_and(|sum| *sum == sha256(&bytes)) {
            return Ok(bytes);
        }
        Err(Error::new(
            codes::CORRUPTED,
            format!("a part of the artifact `{}` fails its checksum", file.path),
        ))
    }

    /// The bytes of a small file.
    ///
    /// # Errors
    /// `TOO_LARGE` where it has more than `most`; those of [`Files::part`].
    pub async fn read(&self, scope: &Scope, file: &ArtifactFile, most: u64) -> Result<Vec<u8>> {
        if file.size_bytes > most {
            let message = format!("`{}` has more than {most} bytes", file.path);
            return Err(Error::new(codes::TOO_LARGE, message));
        }
        let mut bytes = Vec::new();
        for number in 0..file.parts.len() {
            bytes.extend_from_slice(&self.part(scope, file, number).await?);
        }
        Ok(bytes)
    }

    /// Every file below a root, or below a folder of it, by path.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for the folder; those of the engine.
    pub async fn below(&self, scope: &Scope, root: &str, folder: Option<&str>) -> Result<Vec<ArtifactFile>> {
        let found = self.versions_below(scope, root, folder).await?;
        Ok(found.into_iter().map(|found| found.document).collect())
    }

    async fn versions_below(
        &self,
        scope: &Scope,
        root: &str,
        folder: Option<&str>,
    ) -> Result<Vec<Versioned<ArtifactFile>>> {
        folder.map_or(Ok(()), check_artifact_path)?;
        let prefix = folder.map_or_else(|| format!("{root}/"), |folder| format!("{root}/{folder}/"));
        self.files.list_all(scope, Query::new(Selection::Prefix(prefix), PAGE)).await
    }

    /// What lies directly in a folder, or in the root; nothing where the path is a file's.
    ///
    /// # Errors
    /// As [`Files::below`].
    pub async fn list(&self, scope: &Scope, root: &str, folder: Option<&str>) -> Result<Vec<Listed>> {
        let skipped = folder.map_or(0, |folder| folder.len() + 1);
        let mut found = BTreeMap::new();
        for file in self.below(scope, root, folder).await? {
            match file.path[skipped..].split_once('/') {
                Some((name, _)) => found.insert(file.path[..skipped + name.len()].to_owned(), None),
                None => found.insert(file.path, Some(file.size_bytes)),
            };
        }
        Ok(found.into_iter().map(|(path, size_bytes)| Listed { path, size_bytes }).collect())
    }

    /// Writes that give `root` the files below a folder of another root, as they are now. Whoever commits them gets
    /// `CONFLICT` where one of the files is replaced or removed meanwhile.
    ///
    /// # Errors
    /// `TOO_LARGE` for too many files; those of the engine.
    pub async fn take_over(
        &self,
        scope: &Scope,
        from: (&str, Option<&str>),
        root: &str,
    ) -> Result<(Vec<ArtifactFile>, Vec<Write>)> {
        let found = self.versions_below(scope, from.0, from.1).await?;
        if found.len() > MAX_FILES_AT_ONCE {
            let message = format!("a version has at most {MAX_FILES_AT_ONCE} files, not {}", found.len());
            return Err(Error::new(codes::TOO_LARGE, message));
        }
        let skipped = from.1.map_or(0, |folder| folder.len() + 1);
        let (mut files, mut writes) = (Vec::new(), Vec::new());
        for original in found {
            let expect = Expect::Version(original.version);
            let mut file = original.document;
            // Written as it is, so that a removal that read it before fails.
            writes.push(Repository::write(&file, expect)?);
            file.path = file.path[skipped..].to_owned();
            root.clone_into(&mut file.root);
            writes.push(Repository::write(&file, Expect::Any)?);
            files.push(file);
        }
        Ok((files, writes))
    }

    /// Removes a file, or everything below a folder, or below the root.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for the path; those of the engine.
    pub async fn remove(&self, scope: &Scope, root: &str, path: Option<&str>) -> Result<usize> {
        let mut found = self.versions_below(scope, root, path).await?;
        if let Some(path) = path {
            found.extend(self.files.get(scope, &key(root, path)).await?);
        }
        let count = found.len();
        for file in found {
            self.remove_one(scope, file).await?;
        }
        Ok(count)
    }

    async fn remove_one(&self, scope: &Scope, file: Versioned<ArtifactFile>) -> Result<()> {
        let mut found = Some(file);
        for _ in 0..ATTEMPTS {
            let Some(Versioned { version, document }) = found else { return Ok(()) };
            let key = document.key();
            match self.files.delete(scope, &key, Expect::Version(version)).await {
                Ok(()) => return self.drop_parts(scope, &document.upload, document.parts.len()).await,
                Err(error) if error.code() == codes::CONFLICT => found = self.files.get(scope, &key).await?,
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(codes::CONFLICT, "the artifact is changed by too many at once; try again"))
    }

    /// Removes the parts of an upload that no file names any more.
    async fn drop_parts(&self, scope: &Scope, upload: &str, parts: usize) -> Result<()> {
        let query = Query::new(Selection::Equal("upload", IndexValue::Text(upload.to_owned())), 1);
        if !self.files.list(scope, &query).await?.0.is_empty() {
            return Ok(());
        }
        for number in 0..parts {
            self.blobs.delete(scope, &part_path(upload, number)).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
