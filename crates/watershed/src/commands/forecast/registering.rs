//! Putting a forecaster that was trained into the registry: a run with its settings, scores and data, and a version of a
//! registered model made of its files. It refuses nothing that the registry takes, and promotes nothing.

mod served;
mod store;

use std::path::Path;

use kernel::{Error, Result, Scope, codes};
use registry::ModelRegistry;

use crate::cli::Registering;
use crate::commands::models as registered;
use crate::commands::remote::{Remote, or_ask};
use crate::config::Config;
use crate::terminal;

/// The folder of the model's files among those of its run.
const FOLDER: &str = "model";

/// What is registered, and what is told of it.
pub(super) struct Registration<'a> {
    /// What made it.
    pub(super) command: &'static str,
    /// Its settings.
    pub(super) params: Vec<(&'static str, String)>,
    /// Its scores.
    pub(super) metrics: Vec<(&'static str, f64)>,
    /// The table that it learned from.
    pub(super) data: &'a Path,
    /// BLAKE3 of that, in hexadecimal.
    pub(super) snapshot: &'a str,
    /// The files of the model, by name.
    pub(super) files: Vec<(&'static str, String)>,
}

/// Where the registry is.
enum Place {
    /// In the data, which nobody else has open.
    Store,
    /// With a server.
    Server(Remote),
}

/// The registry, and the name of the model that gets a version.
pub(super) struct Registry<'a> {
    config: &'a Config,
    place: Place,
    name: &'a str,
}

/// What became of it.
struct Made {
    version: u64,
    run_id: String,
}

impl<'a> Registry<'a> {
    /// Finds the model, or makes it, before hours are spent on training; none where nothing is registered. The data are not kept
    /// open meanwhile.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for what is no name, or a server without one; those of the engines and of the server.
    pub(super) async fn find(asked: &'a Registering, config: &'a Config) -> Result<Option<Self>> {
        let refused =
            |field, message: &str| Err(Error::new(codes::VALIDATION_ERROR, message).with_field(field));
        let Some(name) = asked.register.as_deref() else {
            return match asked.at.server {
                Some(_) => refused("--server", "is asked to register the model: name that with --register"),
                None => Ok(None),
            };
        };
        if matches!(name.trim(), "" | "." | "..") {
            return refused("--register", "is no name of a registered model");
        }
        let place = if let Some(server) = Remote::of(config)? {
            served::find_or_make(&server, name).await?;
            Place::Server(server)
        } else {
            let (registry, scope) = open(config).await?;
            store::find_or_make(&registry, &scope, name).await?;
            Place::Store
        };
        Ok(Some(Self { config, place, name }))
    }

    /// Makes a version of the model and says which.
    pub(super) async fn register(self, mut made: Registration<'_>) -> Result<()> {
        let name = self.name;
        // The registry keeps no others.
        made.metrics.retain(|(_, value)| value.is_finite());
        let is_asked = matches!(self.place, Place::Server(_));
        let Made { version, run_id } = match self.place {
            Place::Store => {
                let (registry, scope) = open(self.config).await?;
                store::register(&registry, &scope, name, made).await?
            }
            Place::Server(server) => served::register(&server, name, made).await?,
        };
        let at = if is_asked { " --server URL" } else { "" };
        terminal::note(format!(
            "registered version {version} of {name} (run {run_id}); to serve it: watershed promote --model {name} --version \
             {version}{at}"
        ));
        Ok(())
    }
}

async fn open(config: &Config) -> Result<(ModelRegistry, Scope)> {
    let opened = registered::open(config).await;
    opened.map_err(|error| or_ask(error, "POST /api/2.0/mlflow/model-versions/create"))
}

/// The tags of its run.
fn tags(made: &Registration<'_>) -> [(&'static str, &'static str); 2] {
    [("mlflow.source.name", made.command), ("watershed.code_version", env!("CARGO_PKG_VERSION"))]
}

/// The table that it learned from.
struct Data {
    name: String,
    digest: String,
    source: String,
}

impl Data {
    const SOURCE_TYPE: &str = "local";
    const CONTEXT: (&str, &str) = ("mlflow.data.context", "training");

    fn of(made: &Registration<'_>) -> Self {
        let name = made.data.file_name().map_or_else(|| "data".into(), |name| name.to_string_lossy());
        Self {
            name: name.into_owned(),
            digest: made.snapshot.chars().take(16).collect(),
            source: made.data.display().to_string(),
        }
    }
}
