//! Plugs search in: the log, the vectors and the folder of its indexes, and the models of the settings.

use std::path::Path;
use std::sync::Arc;

use kernel::{Error, Result, TenantId, codes};
use prometheus_client::registry::Registry;
use registry::ModelRegistry;
use search::encoder::ModelFiles;
use search::{Search, SearchParts};

use crate::app::Ambient;
use crate::config::Config;
use crate::encoders::Sources;
use crate::engines::Engines;
use crate::guard::Guarded;
use crate::vector_metrics::MeteredVectors;

/// Where indexes are, in the data folder.
const FOLDER: &str = "search";

/// Opens search over the engines; nothing is read before it is started.
///
/// # Errors
/// `VALIDATION_ERROR` for settings that make no sense; those of the models' files.
pub(crate) async fn open(
    config: &Config,
    (engines, guarded): (&Engines, &Guarded),
    models: &ModelRegistry,
    ambient: &Ambient,
    registry: &mut Registry,
) -> Result<Arc<Search>> {
    let chosen = config.storage.chosen();
    if config.search.model_path.is_some() && chosen.vectors != chosen.log {
        let message =
            "must be the engine of storage.log where search has an encoder: vectors are of that log";
        return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("storage.vectors"));
    }
    let (settings, sources) = (&config.search, Sources::new(config, Some(models))?);
    let named = ("search.model_path", settings.model_path.as_deref());
    let encoder = model(&sources, named, |files| search::encoder_of(settings, files)).await?;
    let named = ("search.previous_model_path", settings.previous_model_path.as_deref());
    let previous_encoder =
        model(&sources, named, |files| search::previous_encoder_of(settings, files)).await?;
    let named = ("search.rerank_model_path", settings.rerank_model_path.as_deref());
    let reranker = model(&sources, named, |files| search::reranker_of(settings, files)).await?;
    let in_data = || chosen.needs_folder().then(|| config.storage.data_dir.join(FOLDER));
    let parts = SearchParts {
        log: Arc::clone(&guarded.log),
        vectors: Arc::new(MeteredVectors::new(
            Arc::clone(&engines.vectors),
            Arc::clone(&ambient.clock),
            registry,
        )),
        records: Arc::clone(&engines.records),
        cache: Arc::clone(&guarded.cache),
        encoder,
        previous_encoder,
        reranker,
        clock: Arc::clone(&ambient.clock),
        entropy: Arc::clone(&ambient.entropy),
        folder: config.search.index_dir.clone().or_else(in_data),
        operator: TenantId::new(config.auth.tenant.clone())?,
        is_alone: !engines.are_shared,
    };
    Search::new(parts, config.search.clone(), registry).map(Arc::new)
}

/// What is opened of the model that a setting names; whatever is wrong with it names the setting.
async fn model<T>(
    sources: &Sources<'_>,
    (setting, path): (&'static str, Option<&Path>),
    open: impl FnOnce(&ModelFiles) -> Result<T>,
) -> Result<Option<T>> {
    let files = sources.files(setting, path).await?;
    files.map(|files| open(&files)).transpose().map_err(|error| error.with_field(setting))
}
