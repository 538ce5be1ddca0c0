//! What is evaluated on: read from files or from the data folder, split, and said in the notes of the split.
//!
//! To add a protocol: its name in `cli.rs`, a line in [`split_with`].

use std::path::Path;

use kernel::{Error, Result, codes};
use recommend::algorithms::Interactions;
use recommend::evaluation::Split;
use recommend::evaluation::protocol::{Protocol, given, lists, strong_generalisation, temporal};
use recommend::import::{Importer, Options};
use recommend::training::{Dataset, EVALUATION_FAILED, Events, TrainingSet, Weights};

use super::super::{import, scope};
use crate::app::App;
use crate::cli::Evaluate;
use crate::config::Config;
use crate::terminal;

/// What is evaluated on.
pub(super) struct Data {
    pub(super) set: TrainingSet,
    /// The test part that comes with the data.
    test: Option<Interactions>,
    notes: Vec<String>,
}

impl Data {
    /// What was imported into the data folder.
    pub(super) async fn taken_in(config: &Config) -> Result<Self> {
        let app = App::open(config).await?;
        let scope = scope(config, "evaluate")?;
        let set = TrainingSet::of(&app.recommend.views().of(&scope));
        app.recommend.stop().await;
        let set = set?;
        if set.interactions.is_empty() {
            let message = "nothing was taken in; import data first, or name a data set with --data";
            return Err(Error::new(EVALUATION_FAILED, message));
        }
        Ok(Self { set, test: None, notes: Vec::new() })
    }

    /// A data set from files, and the test part where one is given or marked.
    pub(super) fn read(path: &Path, evaluate: &Evaluate) -> Result<Self> {
        let is_binary = evaluate.min_rating.is_some() && !evaluate.keep_weights;
        let weights = if is_binary { Weights::One } else { Weights::Values };
        let mut dataset = Dataset::new(evaluate.min_rating, weights);
        let mut events = read_events(path, evaluate, &mut dataset)?;
        if let Some(path) = &evaluate.test {
            let Events { mut training, test } = read_events(path, evaluate, &mut dataset)?;
            training.extend(test);
            events.test = training;
        }
        let mut notes = Vec::new();
        if let Some(least) = evaluate.min_rating {
            let counts = if is_binary { "each counts 1" } else { "each counts as much as it is" };
            notes.push(format!("ratings of at least {least}; {counts}"));
        }
        if evaluate.protocol != "given" && !events.test.is_empty() {
            let count = events.test.len();
            notes.push(format!("{count} interactions that the data mark as held out are left out"));
        }
        if events.training.is_empty() {
            return Err(import::no_interactions(path));
        }
        let interactions = dataset.interactions(&events.training)?;
        let test = (!events.test.is_empty()).then(|| dataset.interactions(&events.test)).transpose()?;
        Ok(Self { set: dataset.into_set(interactions)?, test, notes })
    }

    /// The split, and whether targets come after the history.
    pub(super) fn split(&self, evaluate: &Evaluate) -> Result<(Split, bool)> {
        let train = &self.set.interactions;
        let is_given = evaluate.protocol == "given";
        let is_ordered = match (evaluate.protocol.as_str(), &self.test) {
            ("given", Some(test)) => evaluate.ordered_lists || given::is_later(train, test),
            (name, _) => name != "liang",
        };
        let mut split = self.split_with(evaluate, is_ordered)?;
        let notes = &mut split.description.notes;
        notes.extend(self.notes.iter().cloned());
        notes.push(
            match (is_ordered, train.has_times()) {
                (false, _) if is_given => {
                    "the order of the lists is not used; --ordered-lists says that it is that of time"
                }
                (false, _) => {
                    "targets are drawn at random, so that the order of histories says nothing of them"
                }
                (true, true) => "histories are in the order of their times",
                (true, false) if is_given => {
                    "the order of the lists is used as that of time, as --ordered-lists says"
                }
                (true, false) => "there are no times: the order of the rows is taken for that of time",
            }
            .to_owned(),
        );
        Ok((split, is_ordered))
    }

    fn split_with(&self, evaluate: &Evaluate, is_ordered: bool) -> Result<Split> {
        let data = &self.set.interactions;
        let seed = evaluate.seed;
        let split = match evaluate.protocol.as_str() {
            "given" => {
                let test = self.test.as_ref().ok_or_else(|| {
                    let message = "the data mark nothing as held out; name the test part with --test";
                    Error::new(codes::VALIDATION_ERROR, message).with_field("--test")
                })?;
                let settings =
                    given::Settings { seed, validate_on_last: is_ordered, ..given::Settings::default() };
                given::split(data, test, &settings)
            }
            "liang" => {
                let settings =
                    strong_generalisation::Settings { seed, ..strong_generalisation::Settings::default() };
                Protocol::StrongGeneralisation(settings).split(data)
            }
            "temporal" => Protocol::Temporal(temporal::Settings::default()).split(data),
            _ => Protocol::LastItemOut.split(data),
        };
        split.map_err(|error| Error::new(EVALUATION_FAILED, error.to_string()))
    }
}

fn read_events(path: &Path, evaluate: &Evaluate, dataset: &mut Dataset) -> Result<Events> {
    let plan = import::plan(path, evaluate.format.as_deref(), evaluate.map.as_deref())?;
    let mut importer = Importer::start(plan, Options::default())?;
    let mut events = Events::default();
    while let Some(row) = importer.next().transpose()? {
        dataset.push(row.row, &mut events);
    }
    let report = importer.report();
    for bad in &report.first_bad_lines {
        terminal::note(bad.to_string());
    }
    if report.bad_lines > 0 {
        terminal::note(format!("{} lines could not be read and are left out", report.bad_lines));
    }
    let is_empty = events.training.is_empty() && events.test.is_empty();
    if is_empty { Err(import::no_interactions(path)) } else { Ok(events) }
}

/// Writes the list files of a split.
pub(super) fn export(split: &Split, folder: &Path) -> Result<()> {
    let refused = |path: &Path, cause: std::io::Error| {
        Error::new(codes::UNAVAILABLE, format!("{} cannot be written: {cause}", path.display()))
    };
    std::fs::create_dir_all(folder).map_err(|cause| refused(folder, cause))?;
    for (name, text) in lists::lists(split) {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(|cause| refused(&path, cause))?;
    }
    terminal::note(format!("wrote the split to {}", folder.display()));
    Ok(())
}
