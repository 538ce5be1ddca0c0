//! Backups of this deployment: what belongs to them, and the places that `[backup]` and the flags name.
//!
//! To add a table that is of a process and not of the data: its name in [`rules`]. To add a kind of place: a line in
//! [`vault`].

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backup::{BackupMetrics, Options, Rules, Shipper, Source, Target, Vault};
use edge::ApiKey;
use kernel::{Error, Result, codes};
use object_store::local::LocalFileSystem;
use prometheus_client::registry::Registry;
use store::{Blobs, Document, Leases, ObjectBlobs};

use crate::app::Ambient;
use crate::config::Config;
use crate::engines::Engines;

const S3: &str = "s3://";

/// The items of search, which a server with that feature may have written.
const SEARCH_ITEMS: store::Topic = store::Topic::fixed("search.items");
const SEARCH_JOBS: [&str; 2] = ["search_reindexes", "search_direction"];

/// What belongs to a backup.
pub(crate) fn rules() -> Rules {
    Rules {
        topics: std::iter::once(edge::ingest::EVENTS)
            .chain(market::events::topics::ALL.map(store::Topic::fixed))
            .chain([SEARCH_ITEMS])
            .collect(),
        // Leases and roles are of processes; objects that a database keeps in records come as objects; how far vectors are
        // says nothing without them.
        tables_left_out: [&["leases", crate::crew::TABLE, "blob_heads", "blob_chunks"][..], &SEARCH_JOBS]
            .concat(),
        // The keys of a person who was forgotten must not come back with a backup from before, nor what quotes them, nor
        // an API key that was revoked since.
        tables_kept_once: [&privacy::TABLES[..], &["dead_letters", ApiKey::TABLE.name]].concat(),
        folders_left_out: vec![stream::Checkpoints::FOLDER],
        written_once: vec!["models"],
        checkpoints: stream::Checkpoints::FOLDER,
        progress: |body| Ok(stream::Checkpoint::from_bytes(body)?.offsets),
    }
}

pub(crate) fn source(engines: &Engines, ambient: &Ambient) -> Source {
    let holder = format!("{:016x}", ambient.entropy.next_u64());
    Source {
        records: Arc::clone(&engines.records),
        log: Arc::clone(&engines.log),
        blobs: Arc::clone(&engines.blobs),
        leases: Leases::new(Arc::clone(&engines.records), Arc::clone(&ambient.clock), holder),
        clock: Arc::clone(&ambient.clock),
    }
}

pub(crate) fn target(engines: &Engines) -> Target {
    Target {
        records: Arc::clone(&engines.records),
        log: Arc::clone(&engines.log),
        blobs: Arc::clone(&engines.blobs),
    }
}

pub(crate) fn options(keep: usize, full: bool) -> Options {
    Options { keep, full, release: env!("CARGO_PKG_VERSION") }
}

/// What ships backups while the server runs; none where `backup.every_secs` is 0.
///
/// # Errors
/// `VALIDATION_ERROR` naming the setting.
pub(crate) fn shipper(
    config: &Config,
    engines: &Engines,
    ambient: &Ambient,
    registry: &mut Registry,
) -> Result<Option<Shipper>> {
    if config.backup.every_secs == 0 {
        return Ok(None);
    }
    Ok(Some(Shipper {
        source: source(engines, ambient),
        rules: rules(),
        vault: vault(config, None, ambient, Opening::ToWrite)?,
        options: options(config.backup.keep, false),
        pause: Duration::from_secs(config.backup.every_secs),
        metrics: BackupMetrics::register(registry),
    }))
}

/// Whether a place may be new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opening {
    /// It must be there.
    ToRead,
    /// It is made where it is not.
    ToWrite,
}

/// The place that a flag names, else the one of the settings: a folder or `s3://bucket/prefix`.
///
/// # Errors
/// `VALIDATION_ERROR` where none is named or it cannot be one; `NOT_FOUND` for a folder that is not there.
pub(crate) fn vault(
    config: &Config,
    place: Option<&str>,
    ambient: &Ambient,
    opening: Opening,
) -> Result<Vault> {
    let place = place.or(config.backup.to.as_deref()).ok_or_else(|| {
        invalid("names no place; give a folder or s3://bucket/prefix, here or with --to (--from to read)")
    })?;
    let blobs = match place.strip_prefix(S3) {
        Some(address) => bucket(config, address, ambient)?,
        None => folder(config, Path::new(place), opening)?,
    };
    Vault::new(blobs, place.to_owned())
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(codes::VALIDATION_ERROR, message).with_field("backup.to")
}

fn folder(config: &Config, path: &Path, opening: Opening) -> Result<Arc<dyn Blobs>> {
    let fault = |cause: std::io::Error| {
        let code =
            if cause.kind() == std::io::ErrorKind::NotFound { codes::NOT_FOUND } else { codes::UNAVAILABLE };
        Error::new(code, format!("the folder {} cannot be used", path.display())).with_source(cause)
    };
    let absolute = std::path::absolute(path).map_err(fault)?;
    if std::path::absolute(&config.storage.data_dir).is_ok_and(|data| absolute.starts_with(data)) {
        return Err(invalid("is in the data folder, and would be lost with it; name another place"));
    }
    if opening == Opening::ToWrite {
        std::fs::create_dir_all(path).map_err(fault)?;
    }
    let path = path.canonicalize().map_err(fault)?;
    let files = LocalFileSystem::new_with_prefix(path).map_err(Error::internal)?.with_fsync(true);
    Ok(Arc::new(ObjectBlobs::new(Arc::new(files))))
}

#[cfg(feature = "s3")]
fn bucket(config: &Config, address: &str, ambient: &Ambient) -> Result<Arc<dyn Blobs>> {
    let (bucket, prefix) = address.split_once('/').unwrap_or((address, ""));
    let known = config.backup.s3.as_ref().or(config.storage.s3.as_ref());
    let mut settings = known.cloned().unwrap_or_default();
    bucket.clone_into(&mut settings.bucket);
    prefix.trim_end_matches('/').clone_into(&mut settings.prefix);
    let variables = crate::config::aws_variables();
    Ok(store_s3::S3Store::open(&settings, variables, Arc::clone(&ambient.entropy))?.blobs())
}

#[cfg(not(feature = "s3"))]
fn bucket(_: &Config, _: &str, _: &Ambient) -> Result<Arc<dyn Blobs>> {
    Err(invalid("is a bucket, and this build has no s3 engine; build with `cargo build --features s3`"))
}

#[cfg(all(test, feature = "search"))]
mod tests {
    use super::*;

    #[test]
    fn the_items_of_search_are_in_every_backup() {
        assert_eq!(SEARCH_ITEMS, search::log::ITEMS);
        assert!(rules().topics.contains(&search::log::ITEMS));
        assert_eq!(SEARCH_JOBS, search::reindex::TABLES);
    }
}
