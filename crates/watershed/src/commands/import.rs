//! `watershed import`: foreign files become events, each with an id made from where its row stands, so that
//! importing twice is the same as importing once. Where it stands is kept after each batch, so that an import
//! that was cut off goes on there.

use std::path::Path;

use edge::ingest::Receipt;
use kernel::{Error, Event, Result, Scope, codes};
use recommend::attributes::AttributeValue;
use recommend::events::{EntityPatch, InteractionData, InteractionKind, UserData, kinds};
use recommend::import::{Checkpoint, Format, Importer, Mapping, Options, Plan, Request, Row};
use recommend::views::interaction_types::BUILT_IN;
use serde::{Deserialize, Serialize};
use store::{Document, Expect, Outcome, Repository, Table};

use super::scope;
use crate::app::App;
use crate::cli::Import;
use crate::config::Config;
use crate::terminal;

/// Rows appended at once.
const BATCH: usize = 2_000;
/// Refused lines that are printed.
const BAD_LINES_TOLD: usize = 20;

pub(super) async fn run(import: Import, config: Config) -> Result<()> {
    let app = App::open(&config).await?;
    let scope = scope(&config, "import")?;
    let mut result = Ok(());
    for path in &import.paths {
        result = one(&app, &scope, path, &import).await;
        if result.is_err() {
            break;
        }
    }
    app.recommend.stop().await;
    result
}

/// The plan for a path, as the flags say.
pub(super) fn plan(path: &Path, format: Option<&str>, map: Option<&str>) -> Result<Plan> {
    let format = format.map(str::parse::<Format>).transpose()?;
    let mapping = map.map(str::parse::<Mapping>).transpose()?;
    Plan::detect(path, &Request { format, mapping, ..Request::default() })
}

async fn one(app: &App, scope: &Scope, path: &Path, import: &Import) -> Result<()> {
    let plan = plan(path, import.format.as_deref(), import.map.as_deref())?;
    let name =
        path.file_name().map_or_else(|| "import".to_owned(), |name| name.to_string_lossy().into_owned());
    let kept: Repository<ImportState> = Repository::new(app.engines.records.clone());
    let options = Options { strict: import.strict, bad_lines_kept: BAD_LINES_TOLD };
    let earlier = kept.get(scope, &name).await?.map(|state| state.document);
    let (mut importer, source) = open(&name, plan, options, earlier, import.restart)?;
    let state = |checkpoint| ImportState { name: name.clone(), source: source.clone(), checkpoint };
    let bar = terminal::bytes_bar(importer.progress().total_bytes).with_message(name.clone());
    let mut intake = Intake::new(app, scope, &source);
    let before = importer.report().rows();
    while let Some(row) = importer.next().transpose()? {
        if intake.push(&row.position.to_string(), row.row).await? {
            let checkpoint = importer.checkpoint()?;
            kept.put(scope, &state(checkpoint), Expect::Any).await?;
            bar.set_position(importer.progress().position_bytes);
        }
    }
    intake.flush().await?;
    bar.finish_and_clear();
    if importer.report().rows() + importer.report().bad_lines > 0 {
        let checkpoint = importer.checkpoint()?;
        kept.put(scope, &state(checkpoint), Expect::Any).await?;
    }
    tell(&name, &importer, before, &intake);
    Ok(())
}

/// The importer where it is to begin, and the source of its events: the same as earlier for the same file, even where
/// it has grown; another for another file of the same name.
fn open(
    name: &str,
    plan: Plan,
    options: Options,
    earlier: Option<ImportState>,
    restart: bool,
) -> Result<(Importer, String)> {
    let mut known = None;
    if let Some(ImportState { source, checkpoint, .. }) = earlier {
        let (file, line) = (checkpoint.file.clone(), checkpoint.line);
        match Importer::resume(plan.clone(), options.clone(), checkpoint) {
            Ok(importer) if !restart => {
                terminal::note(format!("Going on after {file}:{line}"));
                return Ok((importer, source));
            }
            Ok(_) => known = Some(source),
            Err(_) if restart => {}
            Err(error) => {
                let message = format!("{}; pass --restart to begin again", error.message());
                return Err(Error::new(error.code(), message).with_field("checkpoint"));
            }
        }
    }
    let importer = Importer::start(plan, options)?;
    let head = importer.checkpoint().map_or(0, |checkpoint| checkpoint.head_crc32);
    Ok((importer, known.unwrap_or_else(|| format!("{name}-{head:08x}"))))
}

fn tell(name: &str, importer: &Importer, before: u64, intake: &Intake<'_>) {
    let report = importer.report();
    for bad in &report.first_bad_lines {
        terminal::note(bad.to_string());
    }
    let unsaid = report.bad_lines.saturating_sub(report.first_bad_lines.len() as u64);
    if unsaid > 0 {
        terminal::note(format!("... and {unsaid} more lines that could not be read"));
    }
    for refused in &intake.refused {
        terminal::note(refused);
    }
    terminal::say(format!(
        "{name} ({}): {} rows read: {} stored, {} known already, {} refused, {} lines could not be read",
        importer.plan().format().name(),
        report.rows() - before,
        intake.stored,
        intake.known,
        intake.refused_count,
        report.bad_lines,
    ));
}

/// How far the import of one name is.
#[derive(Debug, Serialize, Deserialize)]
struct ImportState {
    name: String,
    /// Of its events.
    source: String,
    checkpoint: Checkpoint,
}

impl Document for ImportState {
    const TABLE: Table = Table { name: "imports", indexes: &[] };

    fn key(&self) -> String {
        self.name.clone()
    }
}

/// Turns rows into events and appends them in batches.
pub(super) struct Intake<'a> {
    app: &'a App,
    scope: &'a Scope,
    source: String,
    events: Vec<Event>,
    stored: u64,
    known: u64,
    refused_count: u64,
    refused: Vec<String>,
}

impl<'a> Intake<'a> {
    /// Events of `source`, for example the name of the file.
    pub(super) fn new(app: &'a App, scope: &'a Scope, source: &str) -> Self {
        Self {
            app,
            scope,
            source: format!("/import/{source}"),
            events: Vec::with_capacity(BATCH),
            stored: 0,
            known: 0,
            refused_count: 0,
            refused: Vec::new(),
        }
    }

    /// Takes a row; true when a batch became durable.
    pub(super) async fn push(&mut self, id: &str, row: Row) -> Result<bool> {
        self.events.push(self.event(id, row)?);
        if self.events.len() < BATCH {
            return Ok(false);
        }
        self.flush().await?;
        Ok(true)
    }

    /// Appends what is left.
    pub(super) async fn flush(&mut self) -> Result<()> {
        let events = std::mem::take(&mut self.events);
        let ids: Vec<String> = events.iter().map(|event| event.id.clone()).collect();
        let receipts = self.app.ingest.accept_events(self.scope, events).await?;
        for (id, receipt) in ids.into_iter().zip(receipts) {
            match receipt {
                Receipt::Stored(place) if place.outcome == Outcome::New => self.stored += 1,
                Receipt::Stored(_) => self.known += 1,
                Receipt::Refused(error) => {
                    self.refused_count += 1;
                    if self.refused.len() < BAD_LINES_TOLD {
                        self.refused.push(format!("{id}: {error}"));
                    }
                }
            }
        }
        Ok(())
    }

    fn event(&self, id: &str, row: Row) -> Result<Event> {
        let (kind, time, data) = match row {
            Row::Entity { entity_id, entity_type, attributes, hidden, available_from } => {
                let patch = EntityPatch {
                    entity_id,
                    entity_type: entity_type.to_string(),
                    attributes: attributes.into_iter().map(|(name, value)| (name, Some(value))).collect(),
                    hidden: hidden.then_some(true),
                    available_from: available_from.map(Some),
                    available_until: None,
                };
                (kinds::ENTITY_PATCHED, None, serde_json::value::to_raw_value(&patch))
            }
            Row::User { user_id, attributes } => {
                (kinds::USER_PUT, None, serde_json::value::to_raw_value(&UserData { user_id, attributes }))
            }
            Row::Interaction {
                user_id,
                entity_id,
                entity_type,
                interaction_type,
                value,
                timestamp,
                metadata,
            } => {
                let interaction = InteractionData {
                    user_id,
                    entity_id,
                    entity_type: entity_type.to_string(),
                    interaction_type: kind_of(interaction_type.as_str(), value),
                    weight: value.filter(|_| interaction_type.as_str() != "rating"),
                    answer_id: None,
                    metadata: metadata.into_iter().map(|(name, value)| (name, text_of(&value))).collect(),
                };
                (kinds::INTERACTION_RECORDED, timestamp, serde_json::value::to_raw_value(&interaction))
            }
        };
        Ok(Event {
            id: id.to_owned(),
            source: self.source.clone(),
            kind: kind.to_owned(),
            tenant: self.scope.tenant().clone(),
            time: time.unwrap_or_else(|| self.app.ambient.clock.now()),
            subject: None,
            partition_key: None,
            data_content_type: None,
            data_schema: None,
            data: Some(data.map_err(Error::internal)?),
            data_base64: None,
            extensions: std::collections::BTreeMap::new(),
        })
    }
}

fn text_of(value: &AttributeValue) -> String {
    match value {
        AttributeValue::Text(text) => text.clone(),
        AttributeValue::Boolean(value) => value.to_string(),
        AttributeValue::Number(value) => value.to_string(),
        AttributeValue::Tags(tags) => tags.join(", "),
    }
}

fn kind_of(name: &str, value: Option<f64>) -> InteractionKind {
    match value {
        Some(value) if name == "rating" => InteractionKind::Rating(value),
        _ if BUILT_IN.iter().any(|(known, _)| *known == name) => InteractionKind::Named(name.to_owned()),
        _ => InteractionKind::Custom(name.to_owned()),
    }
}

/// The error for a data set without interactions.
pub(super) fn no_interactions(path: &Path) -> Error {
    let message = format!("{} has no interactions", path.display());
    Error::new(codes::VALIDATION_ERROR, message).with_field("data")
}
