//! The files of sentence encoders and cross-encoders, from where the settings say: a folder, the registry, a hub.
//!
//! It refuses files that are not what their checksums say, and to open search without a model that the settings name. To add a
//! place: a file here, and see [`search::sources`].

mod hub;
mod registered;

use std::path::{Path, PathBuf};

use kernel::{Error, Result, Scope, TenantId};
use registry::ModelRegistry;
use search::encoder::ModelFiles;
use search::sources::ModelSource;

use crate::config::Config;

/// Where files of a hub are, in the data folder.
const FOLDER: &str = "encoders";

/// Fetches models for search.
#[derive(Debug)]
pub(crate) struct Sources<'a> {
    models: Option<&'a ModelRegistry>,
    operator: Scope,
    hub_url: &'a str,
    hub_folder: PathBuf,
}

impl<'a> Sources<'a> {
    /// From the registry of the operator, where it is open, and from the hub of the settings.
    ///
    /// # Errors
    /// `INVALID_TENANT` for the operator's name.
    pub(crate) fn new(config: &'a Config, models: Option<&'a ModelRegistry>) -> Result<Self> {
        let operator = Scope::system(TenantId::new(config.auth.tenant.clone())?, "search");
        let in_data = || config.storage.data_dir.join(FOLDER);
        let hub_folder = config.search.hub_dir.clone().unwrap_or_else(in_data);
        Ok(Self { models, operator, hub_url: &config.search.hub_url, hub_folder })
    }

    /// The files of the model that a setting names; none where it names none.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for what names nothing; `NOT_FOUND`; `CORRUPTED`; `UNAVAILABLE` for a hub that does not answer. Each
    /// names the setting.
    pub(crate) async fn files(&self, setting: &str, name: Option<&Path>) -> Result<Option<ModelFiles>> {
        let Some(name) = name else { return Ok(None) };
        let files = match ModelSource::read(name).map_err(|error| error.with_field(setting))? {
            ModelSource::Folder(folder) => ModelFiles::read(&folder),
            ModelSource::Registered { name, version } => {
                let models = self.models.ok_or_else(|| Error::internal("the registry is not open"))?;
                registered::files(models, &self.operator, &name, &version).await
            }
            ModelSource::Hub { repository, revision } => {
                hub::files(self.hub_url, &self.hub_folder, &repository, &revision).await
            }
        };
        files.map(Some).map_err(|error: Error| error.with_field(setting))
    }
}
