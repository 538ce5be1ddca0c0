//! Plugs search in: the log, the vectors and the folder of its indexes, and the sentence encoder of the settings.

use std::sync::Arc;

use kernel::{Error, Result, codes};
use prometheus_client::registry::Registry;
use search::{Search, SearchParts};

use crate::app::Ambient;
use crate::config::Config;
use crate::engines::Engines;
use crate::guard::Guarded;

/// Where indexes are, in the data folder.
const FOLDER: &str = "search";

/// Opens search over the engines; nothing is read before it is started.
///
/// # Errors
/// `VALIDATION_ERROR` for settings that make no sense; those of the encoder's files.
pub(crate) fn open(
    config: &Config,
    engines: &Engines,
    guarded: &Guarded,
    ambient: &Ambient,
    registry: &mut Registry,
) -> Result<Arc<Search>> {
    let chosen = config.storage.chosen();
    if config.search.model_path.is_some() && chosen.vectors != chosen.log {
        let message = "must be the engine of storage.log where search has an encoder: how far the vectors are is kept there";
        return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("storage.vectors"));
    }
    let in_data = || chosen.needs_folder().then(|| config.storage.data_dir.join(FOLDER));
    let parts = SearchParts {
        log: Arc::clone(&guarded.log),
        vectors: Arc::clone(&engines.vectors),
        encoder: search::open_encoder(&config.search)?,
        clock: Arc::clone(&ambient.clock),
        entropy: Arc::clone(&ambient.entropy),
        folder: config.search.index_dir.clone().or_else(in_data),
    };
    Search::new(parts, config.search.clone(), registry).map(Arc::new)
}
