//! The files of a commit on a hub, by the protocol of the usual one: a list of files with their checksums, then each file.
//!
//! They are fetched once and kept in a folder; each start looks at their checksums again, and needs no network while they are
//! right. It refuses files that are longer than the list says or have other checksums, a hub that answers over plain HTTP where
//! the settings say HTTPS, and what is only for those who log in. It is a client of its own because the hub's library brings
//! some seventy crates more, a second TLS stack among them.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use kernel::{Error, Result, codes};
use reqwest::{Client, Response, StatusCode};
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use search::encoder::{FILE_BYTES_MAX, FILES, FileBytes, MORE_FILES, ModelFiles};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tracing::{info, warn};

use crate::jwks::settle_provider;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two pieces of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// How long all files of a model may take: so long, and as long as they take at this rate.
const LASTS_LEAST: Duration = Duration::from_secs(60);
const BYTES_PER_SECOND_MIN: u64 = 100_000;
/// The list of a repository's files.
const LIST_BYTES_MAX: usize = 4 << 20;
/// What was fetched, beside the files.
const LIST: &str = "files.json";

/// A file as the hub lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Listed {
    path: String,
    #[serde(default)]
    size: u64,
    /// What git calls its content: SHA-1 of a head and the bytes; of a pointer where the file is large.
    oid: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lfs: Option<Large>,
}

/// What is said of a large file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Large {
    /// SHA-256 of its bytes.
    oid: String,
}

impl Listed {
    /// The beginning of its checksum.
    fn sum(&self) -> Context {
        if self.lfs.is_some() {
            return Context::new(&SHA256);
        }
        let mut sum = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
        sum.update(format!("blob {}\0", self.size).as_bytes());
        sum
    }

    fn is(&self, sum: Context) -> bool {
        let expected = self.lfs.as_ref().map_or(&self.oid, |large| &large.oid);
        kernel::hex(sum.finish().as_ref()) == *expected
    }
}

/// Reads a commit: from the folder where it was fetched before, else from the hub.
///
/// # Errors
/// `UNAVAILABLE` where the hub does not answer; `NOT_FOUND` where it has no such commit or file; `CORRUPTED` where a file is not
/// what it says; those of the disk.
pub(super) async fn files(url: &str, folder: &Path, repository: &str, revision: &str) -> Result<ModelFiles> {
    let kept = folder.join(repository.replace('/', "--")).join(revision);
    if let Some(found) = read(&kept).await? {
        return ModelFiles::of(found);
    }
    let hub = Hub { client: client(url)?, url: url.trim_end_matches('/'), repository, revision };
    hub.fetch(&kept).await.map_err(|error| {
        let message = format!(
            "{}; the model can also be put into a folder, and the setting be the folder",
            error.message()
        );
        Error::new(error.code(), message).with_source(error)
    })?;
    let found = read(&kept).await?.ok_or_else(|| Error::internal("what was fetched is not there"))?;
    ModelFiles::of(found)
}

fn client(url: &str) -> Result<Client> {
    settle_provider();
    Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .https_only(url.starts_with("https://"))
        .user_agent(concat!("watershed/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(Error::internal)
}

/// The files of a folder; nothing where they are to be fetched.
async fn read(kept: &Path) -> Result<Option<FileBytes>> {
    let Some(list) = read_file(&kept.join(LIST)).await? else { return Ok(None) };
    let listed: Vec<Listed> = serde_json::from_slice(&list).unwrap_or_default();
    let mut found = FileBytes::new();
    for file in &listed {
        let Some(name) = known(&file.path) else { continue };
        let bytes = read_file(&kept.join(name)).await?.unwrap_or_default();
        let mut sum = file.sum();
        sum.update(&bytes);
        if !file.is(sum) {
            warn!(folder = %kept.display(), name, "a file of a model is damaged; the model is fetched again");
            return Ok(None);
        }
        found.insert(name.to_owned(), bytes);
    }
    let is_whole = FILES.iter().all(|name| found.contains_key(*name));
    Ok(is_whole.then_some(found))
}

/// Only names that are known are ever written or read.
fn known(path: &str) -> Option<&'static str> {
    FILES.into_iter().chain(MORE_FILES).find(|name| *name == path)
}

/// Nothing where there is no such file.
async fn read_file(path: &Path) -> Result<Option<Vec<u8>>> {
    match tokio::fs::read(path).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(unwritable(path, cause)),
    }
}

fn unwritable(path: &Path, cause: std::io::Error) -> Error {
    let message = format!("{} cannot be used; see to its permissions, or set search.hub_dir", path.display());
    Error::new(codes::UNAVAILABLE, message).with_source(cause)
}

/// A commit on a hub.
#[derive(Debug)]
struct Hub<'a> {
    client: Client,
    url: &'a str,
    repository: &'a str,
    revision: &'a str,
}

impl Hub<'_> {
    /// Fetches what a model needs into a folder, which is there when it is whole.
    async fn fetch(&self, kept: &Path) -> Result<()> {
        let listed = self.list().await?;
        let parent = kept.parent().unwrap_or(kept);
        // Another process may fetch the same, also one with the same id in another container.
        let partial = parent.join(format!("{}.{}", self.revision, random()?));
        let bytes: u64 = listed.iter().map(|file| file.size).sum();
        let most = LASTS_LEAST + Duration::from_secs(bytes / BYTES_PER_SECOND_MIN);
        info!(repository = self.repository, revision = self.revision, bytes, "a model is fetched");
        let late = |_| Err(self.fault("sends too slowly"));
        let fetching = tokio::time::timeout(most, self.fetch_into(&partial, &listed));
        let fetched = fetching.await.unwrap_or_else(late);
        if fetched.is_err() {
            remove(&partial).await?;
            return fetched;
        }
        if tokio::fs::rename(&partial, kept).await.is_err() {
            // Something is there: the same, by another process; or it is damaged, and these take its place.
            if read(kept).await?.is_some() {
                return remove(&partial).await;
            }
            remove(kept).await?;
            tokio::fs::rename(&partial, kept).await.map_err(|cause| unwritable(kept, cause))?;
        }
        info!(repository = self.repository, revision = self.revision, folder = %kept.display(), "a model was fetched");
        Ok(())
    }

    async fn fetch_into(&self, partial: &Path, listed: &[Listed]) -> Result<()> {
        for file in listed {
            let path = partial.join(&file.path);
            let folder = path.parent().unwrap_or(partial);
            tokio::fs::create_dir_all(folder).await.map_err(|cause| unwritable(folder, cause))?;
            self.fetch_file(file, &path).await?;
        }
        let list = serde_json::to_vec(listed).map_err(Error::internal)?;
        let path = partial.join(LIST);
        tokio::fs::write(&path, list).await.map_err(|cause| unwritable(&path, cause))
    }

    /// The files that are read of a model, as the hub lists them.
    async fn list(&self) -> Result<Vec<Listed>> {
        let address =
            format!("{}/api/models/{}/tree/{}?recursive=true", self.url, self.repository, self.revision);
        let mut answer = self.ask(&address).await?;
        let mut text = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(|cause| self.away(cause))? {
            if text.len() + part.len() > LIST_BYTES_MAX {
                return Err(self.fault("lists more files than a model has"));
            }
            text.extend_from_slice(&part);
        }
        let fault = |cause| self.fault("does not list files as a hub does").with_source(cause);
        let mut listed: Vec<Listed> = serde_json::from_slice(&text).map_err(fault)?;
        listed.retain(|file| known(&file.path).is_some());
        for name in FILES {
            if !listed.iter().any(|file| file.path == name) {
                let message = format!("{} has no file {name} at {}", self.repository, self.revision);
                return Err(Error::new(codes::NOT_FOUND, message));
            }
        }
        if let Some(file) = listed.iter().find(|file| file.size > FILE_BYTES_MAX) {
            let message = format!("{} has {} bytes, {FILE_BYTES_MAX} at most are read", file.path, file.size);
            return Err(Error::new(codes::TOO_LARGE, message));
        }
        Ok(listed)
    }

    async fn fetch_file(&self, file: &Listed, path: &Path) -> Result<()> {
        let address = format!("{}/{}/resolve/{}/{}", self.url, self.repository, self.revision, file.path);
        let mut answer = self.ask(&address).await?;
        let (mut sum, mut size) = (file.sum(), 0_u64);
        let mut written = tokio::fs::File::create(path).await.map_err(|cause| unwritable(path, cause))?;
        while let Some(part) = answer.chunk().await.map_err(|cause| self.away(cause))? {
            size += part.len() as u64;
            if size > file.size {
                break;
            }
            sum.update(&part);
            written.write_all(&part).await.map_err(|cause| unwritable(path, cause))?;
        }
        written.sync_all().await.map_err(|cause| unwritable(path, cause))?;
        if size == file.size && file.is(sum) {
            return Ok(());
        }
        let message = format!("{} of {} is not what its checksum says", file.path, self.repository);
        Err(Error::new(codes::CORRUPTED, message))
    }

    async fn ask(&self, address: &str) -> Result<Response> {
        let answer = self.client.get(address).send().await.map_err(|cause| self.away(cause))?;
        match answer.status() {
            status if status.is_success() => Ok(answer),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
                let message = format!(
                    "{} has no {} at {} that may be read without a login",
                    self.url, self.repository, self.revision
                );
                Err(Error::new(codes::NOT_FOUND, message))
            }
            status => Err(self.fault(&format!("answers {}", status.as_u16()))),
        }
    }

    fn away(&self, cause: reqwest::Error) -> Error {
        self.fault("does not answer").with_source(cause)
    }

    fn fault(&self, what: &str) -> Error {
        Error::new(codes::UNAVAILABLE, format!("{} {what}", self.url))
    }
}

/// A name that nobody else takes.
fn random() -> Result<String> {
    let bytes = ring::rand::generate::<[u8; 16]>(&ring::rand::SystemRandom::new());
    let bytes = bytes.map_err(|_| Error::internal("the system gives no random bytes"))?.expose();
    Ok(kernel::hex(&bytes))
}

async fn remove(folder: &Path) -> Result<()> {
    match tokio::fs::remove_dir_all(folder).await {
        Err(cause) if cause.kind() != ErrorKind::NotFound => Err(unwritable(folder, cause)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
