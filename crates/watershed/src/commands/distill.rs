//! `watershed distill`: a static table out of a layered sentence encoder, in a folder.
//!
//! Files get their names when they are whole, `config.json` last: without it a folder is no model. It refuses a folder that
//! holds something. Data are opened for a model of the registry alone: for a folder and a hub none are needed. What a table is
//! made of, and how, says `search`'s `distilling`.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::num::NonZeroUsize;
use std::path::Path;

use kernel::{Error, Result, codes};
use registry::ModelRegistry;
use search::SearchSettings;
use search::encoder::{Distilling, FileBytes, ModelFiles};
use search::sources::ModelSource;

use super::models;
use crate::cli::Distill;
use crate::config::Config;
use crate::encoders::Sources;
use crate::engines::Engines;
use crate::terminal;

const MODEL: &str = "--model-path";
const OUTPUT: &str = "--output";
const UNFINISHED: &str = ".unfinished";

pub(super) async fn run(asked: &Distill, config: &Config) -> Result<()> {
    refuse_taken(&asked.output)?;
    let batch_tokens = batch_tokens(asked, config)?;
    let files = files(&asked.model_path, config).await?;
    let distilling = Distilling::new(&files, asked.dimensions).map_err(of_flag)?;
    make_folder(&asked.output)?;
    let made = distill(&distilling, batch_tokens)?;
    // By name, so that `config.json` is last.
    for (name, bytes) in made.iter().rev() {
        write(&asked.output, name, bytes)?;
    }
    tell(asked, distilling.tokens(), &made);
    Ok(())
}

/// With a bar over the tokens, on every processor.
fn distill(distilling: &Distilling<'_>, batch_tokens: usize) -> Result<FileBytes> {
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let bar = terminal::steps_bar(distilling.tokens() as u64);
    bar.set_message("encoding tokens");
    let made = distilling.run(batch_tokens, threads, &|tokens: usize| bar.inc(tokens as u64));
    bar.finish_and_clear();
    made.map_err(of_flag)
}

fn tell(asked: &Distill, tokens: usize, made: &FileBytes) {
    let bytes: usize = made.values().map(Vec::len).sum();
    // A server may be started elsewhere.
    let folder = std::path::absolute(&asked.output).unwrap_or_else(|_| asked.output.clone());
    let (shown, dimensions) = (folder.display(), asked.dimensions);
    terminal::say(format!(
        "wrote {shown}: a table of {tokens} tokens, {dimensions} dimensions, {bytes} bytes"
    ));
    let name = folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy();
    terminal::say(format!("search with it: search.model_path = \"{shown}\", search.model_name = \"{name}\""));
    terminal::note(
        "or register its files as a version, with MLflow's client (log_artifacts, then register_model), and name that: \
         search.model_path = \"models:/NAME/VERSION\"",
    );
}

/// The files of the encoder.
async fn files(name: &Path, config: &Config) -> Result<ModelFiles> {
    let source = ModelSource::read(name).map_err(|error| error.with_field(MODEL))?;
    let registry = match source {
        ModelSource::Registered { .. } => Some(registry(config).await?),
        ModelSource::Folder(_) | ModelSource::Hub { .. } => None,
    };
    let found = Sources::new(config, registry.as_ref())?.files(MODEL, Some(name)).await?;
    found.ok_or_else(|| Error::internal("a model that was named has no files"))
}

async fn registry(config: &Config) -> Result<ModelRegistry> {
    Engines::require_folder(&config.storage)?;
    let opened = models::open(config).await.map_err(|error| match error.code() {
        codes::CONFLICT => {
            let message = format!(
                "{}; where that is a server, download the version's files with MLflow's client, and name their folder",
                error.message()
            );
            Error::new(error.code(), message)
        }
        _ => error,
    });
    Ok(opened?.0)
}

/// As the settings are checked.
fn batch_tokens(asked: &Distill, config: &Config) -> Result<usize> {
    let batch_tokens = asked.batch_tokens.unwrap_or(config.search.batch_tokens);
    let settings = SearchSettings { batch_tokens, ..config.search.clone() };
    settings.validate().map_err(|error| error.with_field("--batch-tokens"))?;
    Ok(batch_tokens)
}

/// Names the flag that an error is about.
fn of_flag(error: Error) -> Error {
    let flag = if error.field() == Some("dimensions") { "--dimensions" } else { MODEL };
    error.with_field(flag)
}

/// A folder that holds something stays as it is.
fn refuse_taken(output: &Path) -> Result<()> {
    // What a run that broke off left behind is written over.
    let is_unfinished = |entry: &fs::DirEntry| is_hidden(&entry.file_name().to_string_lossy());
    let holds =
        |mut entries: fs::ReadDir| entries.any(|entry| !entry.is_ok_and(|entry| is_unfinished(&entry)));
    let message = match fs::read_dir(output).map(holds) {
        Ok(false) => return Ok(()),
        Ok(true) => "holds something; name a folder that is empty, or not there yet".to_owned(),
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(()),
        Err(cause) => format!("is no folder that can be written: {cause}"),
    };
    Err(Error::new(codes::VALIDATION_ERROR, message).with_field(OUTPUT))
}

/// Makes the folder, and sees that files can be written there, before anything is waited for.
fn make_folder(output: &Path) -> Result<()> {
    fs::create_dir_all(output).map_err(|cause| unwritable(output, cause))?;
    let probe = output.join(hidden("config.json"));
    let tried = File::create(&probe).and_then(|_| fs::remove_file(&probe));
    tried.map_err(|cause| unwritable(output, cause))
}

fn write(output: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let (unfinished, path) = (output.join(hidden(name)), output.join(name));
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished, &path)
    };
    write().map_err(|cause| {
        let _ = fs::remove_file(&unfinished);
        unwritable(&path, cause)
    })
}

/// The name of a file until it is whole.
fn hidden(name: &str) -> String {
    format!(".{name}{UNFINISHED}")
}

fn is_hidden(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(UNFINISHED)
}

fn unwritable(path: &Path, cause: std::io::Error) -> Error {
    let message = format!("{} cannot be written; see to its permissions and the room there", path.display());
    Error::new(codes::UNAVAILABLE, message).with_field(OUTPUT).with_source(cause)
}
