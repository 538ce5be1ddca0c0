//! Opens the engines that the URLs of the `storage` section name. This is the only file that knows them.

use std::sync::Arc;

use kernel::{Clock, Result};
use store::{Blobs, DeadLetters, EventLog, Records};
use store_embedded::{EmbeddedStore, Options};

use crate::config::StorageSettings;

/// The open ports. An engine is closed when its last port is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Engines {
    pub records: Arc<dyn Records>,
    pub log: Arc<dyn EventLog>,
    pub blobs: Arc<dyn Blobs>,
    pub dead_letters: DeadLetters,
}

impl Engines {
    /// Opens every port.
    ///
    /// # Errors
    /// Those of the engine, naming the folder.
    pub(crate) fn open(settings: &StorageSettings, clock: Arc<dyn Clock>) -> Result<Self> {
        let embedded = EmbeddedStore::open(&settings.data_dir, Options::default(), clock)?;
        let records = embedded.records();
        Ok(Self {
            dead_letters: DeadLetters::new(Arc::clone(&records)),
            records,
            log: embedded.event_log(),
            blobs: embedded.blobs(),
        })
    }
}
