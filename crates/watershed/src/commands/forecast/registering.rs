//! Putting a forecaster that was trained into the registry: a run with its settings, scores and data, and a version of a
//! registered model made of its files. It refuses what is no name of a model before anything is trained, and promotes nothing.

mod served;
mod store;

use std::path::Path;

use kernel::{Error, Result, Scope, codes};
use models::registered::check_model_name;
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
    version: String,
    run_id: String,
}

impl<'a> Registry<'a> {
    /// Sees that the registry answers and takes models before hours are spent on training; none where nothing is registered. The data are not
    /// kept open meanwhile.
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
        check_model_name(name, "--register")?;
        if matches!(name, "." | "..") {
            return refused("--register", "is no name of a registered model");
        }
        let place = if let Some(server) = Remote::of(config)? {
            served::see(&server).await?;
            Place::Server(server)
        } else {
            drop(open(config).await?);
            if config.storage.chosen().needs_folder() {
                let folder = config.storage.data_dir.display();
                terminal::note(format!("the registry is in {folder}; --server URL asks that of a server"));
            }
            Place::Store
        };
        Ok(Some(Self { config, place, name }))
    }

    /// Makes a version of the model, and the model where there is none, and says which.
    pub(super) async fn register(self, mut made: Registration<'_>) -> Result<()> {
        let name = self.name;
        // The registry keeps no others.
        made.metrics.retain(|(_, value)| value.is_finite());
        let (Made { version, run_id }, at) = match self.place {
            Place::Store => {
                let (registry, scope) = open(self.config).await?;
                (store::register(&registry, &scope, name, made).await?, in_data(self.config))
            }
            Place::Server(server) => {
                let at = format!(" --server {}", quoted(server.address()));
                (served::register(&server, name, made).await?, at)
            }
        };
        let model = quoted(name);
        terminal::note(format!(
            "registered version {version} of {name} (run {run_id}); to serve it: watershed promote --model {model} \
             --version {version}{at}"
        ));
        Ok(())
    }
}

/// The flags that find the same data again.
fn in_data(config: &Config) -> String {
    let tenant = format!(" --tenant {}", quoted(&config.auth.tenant));
    if !config.storage.chosen().needs_folder() {
        return tenant;
    }
    format!(" --data-dir {}{tenant}", quoted(&config.storage.data_dir.to_string_lossy()))
}

/// A word of a command, for a shell.
fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
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
