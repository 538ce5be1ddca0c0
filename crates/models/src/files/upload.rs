//! One upload: parts are written as they fill, the file appears at the end.

use bytes::{Bytes, BytesMut};
use kernel::{Error, Result, Scope, codes};
use ring::digest::{Context, SHA256};
use store::{Expect, PutMode};

use super::formats::{START_BYTES, check_start};
use super::{ATTEMPTS, ArtifactFile, Files, key, part_path, sha256, zip};

/// A file on its way in.
#[derive(Debug)]
pub struct Upload {
    files: Files,
    root: String,
    path: String,
    name: String,
    buffer: BytesMut,
    start: Option<Bytes>,
    parts: Vec<String>,
    size_bytes: u64,
    sum: Sum,
}

struct Sum(Context);

impl std::fmt::Debug for Sum {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Sum")
    }
}

impl Upload {
    pub(super) fn new(files: Files, root: &str, path: &str, name: String) -> Self {
        Self {
            files,
            root: root.to_owned(),
            path: path.to_owned(),
            name,
            buffer: BytesMut::new(),
            start: None,
            parts: Vec::new(),
            size_bytes: 0,
            sum: Sum(Context::new(&SHA256)),
        }
    }

    pub(super) fn check_size(&self, size_bytes: u64) -> Result<()> {
        let most = self.files.limits.file_bytes;
        if size_bytes <= most {
            return Ok(());
        }
        let message = format!("an artifact has at most {most} bytes (`registry.max_artifact_mb`)");
        Err(Error::new(codes::TOO_LARGE, message))
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// `TOO_LARGE`; `REFUSED_FORMAT`; those of the engine.
    pub async fn push(&mut self, scope: &Scope, bytes: &[u8]) -> Result<()> {
        self.size_bytes += bytes.len() as u64;
        self.check_size(self.size_bytes)?;
        self.sum.0.update(bytes);
        let most = self.files.limits.part_bytes;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(most - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            rest = later;
            if self.buffer.len() == most {
                self.flush(scope).await?;
            }
        }
        Ok(())
    }

    async fn flush(&mut self, scope: &Scope) -> Result<()> {
        let part = self.buffer.split().freeze();
        if self.start.is_none() {
            let start = part.slice(..part.len().min(START_BYTES));
            check_start(&self.path, &start)?;
            self.start = Some(start);
        }
        self.parts.push(sha256(&part));
        let path = part_path(&self.name, self.parts.len() - 1);
        self.files.blobs.put(scope, &path, part, PutMode::Create).await
    }

    /// Makes the file visible, in place of one that was there.
    ///
    /// # Errors
    /// `REFUSED_FORMAT`; those of the engine.
    pub async fn finish(mut self, scope: &Scope) -> Result<ArtifactFile> {
        // An empty file has one empty part.
        if !self.buffer.is_empty() || self.parts.is_empty() {
            self.flush(scope).await?;
        }
        let file = ArtifactFile {
            root: self.root.clone(),
            path: self.path.clone(),
            size_bytes: self.size_bytes,
            sha256: kernel::hex(self.sum.0.clone().finish().as_ref()),
            parts: self.parts.clone(),
            part_bytes: self.files.limits.part_bytes as u64,
            upload: self.name.clone(),
            created_at: self.files.clock.now(),
        };
        if self.start.as_deref().is_some_and(zip::is_zip)
            && let Err(error) = self.check_archive(scope, &file).await
        {
            self.abandon(scope).await?;
            return Err(error);
        }
        for _ in 0..ATTEMPTS {
            let before = self.files.files.get(scope, &key(&self.root, &self.path)).await?;
            let expect = before.as_ref().map_or(Expect::Absent, |found| Expect::Version(found.version));
            match self.files.files.put(scope, &file, expect).await {
                Ok(_) => {
                    if let Some(before) = before.map(|found| found.document) {
                        self.files.drop_parts(scope, &before.upload, before.parts.len()).await?;
                    }
                    return Ok(file);
                }
                Err(error) if error.code() == codes::CONFLICT => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(codes::CONFLICT, "the artifact is changed by too many at once; try again"))
    }

    /// Removes what was written.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn abandon(self, scope: &Scope) -> Result<()> {
        // The last one may have been written without an answer.
        for number in 0..=self.parts.len() {
            self.files.blobs.delete(scope, &part_path(&self.name, number)).await?;
        }
        Ok(())
    }

    async fn check_archive(&self, scope: &Scope, file: &ArtifactFile) -> Result<()> {
        let end =
            self.range(scope, file, file.size_bytes.saturating_sub(zip::END_BYTES), zip::END_BYTES).await?;
        let (offset, length) = zip::directory(&file.path, &end, file.size_bytes)?;
        let directory = self.range(scope, file, offset, length).await?;
        zip::check_directory(&file.path, &directory, file.size_bytes)
    }

    async fn range(&self, scope: &Scope, file: &ArtifactFile, from: u64, length: u64) -> Result<Vec<u8>> {
        let (to, part_bytes) = ((from + length).min(file.size_bytes), file.part_bytes);
        let mut found = Vec::new();
        for number in from / part_bytes..to.div_ceil(part_bytes) {
            let part = self.files.part(scope, file, number as usize).await?;
            let start = number * part_bytes;
            let within = |place: u64| (place.saturating_sub(start) as usize).min(part.len());
            found.extend_from_slice(&part[within(from)..within(to)]);
        }
        Ok(found)
    }
}
