//! The ports that hold personal data, sealed: what the domains see in place of the engines' own.
//!
//! Backups and the cutting of the log go to the engines themselves: they carry what is sealed as it is.

use std::sync::Arc;

use edge::ingest::EVENTS;
use kernel::{Error, Result, codes};
use privacy::{Erasures, Keyring, MasterKeys, SealedBlobs, SealedCache, SealedLog, SealedRecords};
use recommend::events::OfRecommend;
use store::{Blobs, Cache, DeadLetters, EventLog};

use crate::app::{self, Ambient};
use crate::config::Config;
use crate::engines::Engines;

/// Where the master keys are kept that no setting gives: one a line, the newest first.
const KEY_FILE: &str = "encryption-key";

/// The guarded ports.
#[derive(Debug, Clone)]
pub(crate) struct Guarded {
    pub log: Arc<dyn EventLog>,
    pub blobs: Arc<dyn Blobs>,
    pub cache: Arc<dyn Cache>,
    pub dead_letters: DeadLetters,
    pub erasures: Erasures,
}

/// Puts the guard before the engines.
///
/// # Errors
/// `VALIDATION_ERROR` for keys that are none or do not fit; those of the engines.
pub(crate) async fn open(config: &Config, engines: &Engines, ambient: &Ambient) -> Result<Guarded> {
    let keyring =
        Arc::new(keyring(config, engines, ambient, &master_keys(config, engines, ambient).await?).await?);
    let log = SealedLog::new(Arc::clone(&engines.log), Arc::clone(&keyring), Arc::new(OfRecommend));
    let log: Arc<dyn EventLog> = Arc::new(log);
    let letters = SealedRecords::new(Arc::clone(&engines.records), Arc::clone(&keyring));
    let (told, clock) = (Arc::clone(&log), Arc::clone(&ambient.clock));
    Ok(Guarded {
        log,
        blobs: Arc::new(SealedBlobs::new(Arc::clone(&engines.blobs), Arc::clone(&keyring))),
        cache: Arc::new(SealedCache::new(Arc::clone(&engines.cache), Arc::clone(&keyring))),
        dead_letters: DeadLetters::new(Arc::new(letters)),
        erasures: Erasures::new(keyring, told, EVENTS, clock),
    })
}

/// The keys of persons and of the store, under these master keys.
///
/// # Errors
/// As [`open`].
pub(crate) async fn keyring(
    config: &Config,
    engines: &Engines,
    ambient: &Ambient,
    masters: &[String],
) -> Result<Keyring> {
    let (records, entropy) = (Arc::clone(&engines.records), Arc::clone(&ambient.entropy));
    Keyring::open(records, MasterKeys::new(masters)?, config.compliance.encrypt_personal, entropy).await
}

/// A file of this machine is of use only where the records are on it too: replicas must have the same keys.
fn has_file(config: &Config) -> bool {
    config.compliance.encryption_keys.is_empty() && !config.storage.chosen().shares_records()
}

/// The keys of the settings, else those of the file; one is made where something is to be sealed.
///
/// # Errors
/// `UNAVAILABLE` where the file cannot be written.
pub(crate) async fn master_keys(
    config: &Config,
    engines: &Engines,
    ambient: &Ambient,
) -> Result<Vec<String>> {
    let path = config.storage.data_dir.join(KEY_FILE);
    // A new key would open nothing where something is sealed already.
    let may_make = config.compliance.encrypt_personal && !privacy::is_used(&engines.records).await?;
    if !has_file(config) || !(may_make || path.exists()) {
        return Ok(config.compliance.encryption_keys.clone());
    }
    let kept = app::kept_key(&path, ambient.entropy.as_ref())?;
    Ok(kept.lines().map(str::to_owned).collect())
}

/// Puts a new key in front of those in the file; none where the settings give the keys.
///
/// # Errors
/// `UNAVAILABLE` where the file cannot be written.
pub(crate) async fn add_key(
    config: &Config,
    engines: &Engines,
    ambient: &Ambient,
) -> Result<Option<Vec<String>>> {
    let keys = master_keys(config, engines, ambient).await?;
    if !has_file(config) || keys.is_empty() {
        return Ok(None);
    }
    let entropy = &ambient.entropy;
    let mut all = vec![format!("{:016x}{:016x}", entropy.next_u64(), entropy.next_u64())];
    all.extend(keys);
    write_keys(config, &all)?;
    Ok(Some(all))
}

/// Leaves only the newest key in the file.
///
/// # Errors
/// `UNAVAILABLE` where the file cannot be written.
pub(crate) fn keep_newest(config: &Config, keys: &[String]) -> Result<()> {
    write_keys(config, &keys[..keys.len().min(1)])
}

/// The file is there whole, with the old keys or the new.
fn write_keys(config: &Config, keys: &[String]) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let (path, aside) =
        (config.storage.data_dir.join(KEY_FILE), config.storage.data_dir.join(format!("{KEY_FILE}.new")));
    let write = || {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        file.write_all(format!("{}\n", keys.join("\n")).as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&aside, &path)?;
        std::fs::File::open(&config.storage.data_dir)?.sync_all()
    };
    write().map_err(|cause| {
        let message = format!("the key file {} cannot be written", path.display());
        Error::new(codes::UNAVAILABLE, message).with_source(cause)
    })
}
