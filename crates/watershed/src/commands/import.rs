//! `watershed import`: foreign files become events, each with an id made from what its row says, so that importing
//! twice is the same as importing once, whatever lines came or went between. Where it stands is kept after each batch:
//! an import that was cut off goes on there, and a file that was changed since is read again. Files are known by where they
//! are, and by their content where they were moved.

mod names;

use std::path::Path;

use edge::ingest::Receipt;
use kernel::{Error, Event, Result, Scope, codes};
use recommend::attributes::AttributeValue;
use recommend::events::{EntityPatch, InteractionData, InteractionKind, UserData, as_sent, kinds};
use recommend::import::{
    Checkpoint, Format, IMPORT_CHECKPOINT, IMPORT_LINE, Importer, Mapping, Options, Plan, Report, Request,
    Resumed, Row,
};
use recommend::views::interaction_types::BUILT_IN;
use store::{Expect, Outcome, Repository};

use super::scope;
use crate::app::App;
use crate::cli::Import;
use crate::config::Config;
use crate::terminal;
use names::{ImportState, Place, last_name, remembered};

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
    let plan = plan(path, import.format.as_deref(), import.map.as_deref())?.without_held_out();
    for file in plan.ignored() {
        terminal::note(format!("{} is left out: {}", file.name, file.reason));
    }
    let shown = last_name(path);
    let kept: Repository<ImportState> = Repository::new(app.engines.records.clone());
    let options = Options { strict: import.strict, bad_lines_kept: BAD_LINES_TOLD, row_ids: true };
    let place = Place::of(path);
    let (name, earlier) = remembered(&kept, scope, &place, &plan, import.name.as_deref()).await?;
    let mut importer = open(plan, options, earlier.filter(|_| !import.restart))?;
    tell_resumed(&mut importer);
    let bar = terminal::bytes_bar(importer.progress().total_bytes).with_message(shown.clone());
    let mut intake = Intake { strict: import.strict, ..Intake::new(app, scope, &name) };
    let state = |importer: &Importer| ImportState::of(&name, &place.path, &importer.checkpoint());
    while let Some(row) = importer.next().transpose()? {
        let id = row.id.ok_or_else(|| Error::internal("a row has no id"))?;
        let is_durable = intake.push_from(&row.position.to_string(), &id, row.row).await?;
        // Where nothing was taken in so far no place is kept, so that what failed wholly is read again.
        if is_durable && intake.has_some() {
            kept.put(scope, &state(&importer)?, Expect::Any).await?;
            bar.set_position(importer.progress().position_bytes);
            bar.suspend(|| tell_resumed(&mut importer));
        }
    }
    intake.flush().await?;
    bar.finish_and_clear();
    tell_resumed(&mut importer);
    tell(&shown, &importer, &intake);
    require_some(&shown, &importer.report(), &intake)?;
    kept.put(scope, &state(&importer)?, Expect::Any).await?;
    Ok(())
}

/// The importer where it is to begin.
fn open(plan: Plan, options: Options, earlier: Option<Checkpoint>) -> Result<Importer> {
    let Some(checkpoint) = earlier else { return Importer::start(plan, options) };
    terminal::note("Comparing the files with what was read of them before");
    match Importer::resume(plan.clone(), options.clone(), checkpoint) {
        Err(error) if error.code() == IMPORT_CHECKPOINT => {
            terminal::note(format!("The earlier import cannot be gone on with: {}", error.message()));
            terminal::note("Beginning again; rows that are stored already are not stored twice");
            Importer::start(plan, options)
        }
        result => result,
    }
}

fn tell_resumed(importer: &mut Importer) {
    for resumed in importer.take_resumed() {
        terminal::note(match resumed {
            Resumed::GoesOn { file, line } => format!("Going on after {file}:{line}"),
            Resumed::Changed { file } => format!(
                "{file} has changed since it was imported: reading all of it again, and storing the rows that are not \
                 stored yet"
            ),
        });
    }
}

fn tell(name: &str, importer: &Importer, intake: &Intake<'_>) {
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
    let unsaid = intake.refused_count.saturating_sub(intake.refused.len() as u64);
    if unsaid > 0 {
        terminal::note(format!(
            "... and {unsaid} more rows that were refused; they are among the dead letters"
        ));
    }
    terminal::say(format!(
        "{name} ({}): {} rows read: {} stored, {} known already, {} refused, {} lines could not be read",
        importer.plan().format().name(),
        importer.rows_read(),
        intake.stored,
        intake.known,
        intake.refused_count,
        report.bad_lines,
    ));
}

/// Refuses an import that took nothing in because every line failed. Rows of earlier runs count as taken in.
fn require_some(name: &str, report: &Report, intake: &Intake<'_>) -> Result<()> {
    let failed = report.bad_lines + intake.refused_count;
    if failed == 0 || intake.has_some() || report.rows() > intake.refused_count {
        return Ok(());
    }
    let message = format!("nothing was imported from {name}: none of its lines could be used, see above why");
    Err(Error::new(IMPORT_LINE, message))
}

/// Turns rows into events and appends them in batches.
pub(super) struct Intake<'a> {
    app: &'a App,
    scope: &'a Scope,
    source: String,
    events: Vec<Event>,
    /// Where the events come from, for people.
    places: Vec<String>,
    stored: u64,
    known: u64,
    refused_count: u64,
    refused: Vec<String>,
    /// Whether the first row that would be refused ends it.
    strict: bool,
}

impl<'a> Intake<'a> {
    /// Events of `source`, for example the name of the file.
    pub(super) fn new(app: &'a App, scope: &'a Scope, source: &str) -> Self {
        Self {
            app,
            scope,
            source: format!("/import/{source}"),
            events: Vec::with_capacity(BATCH),
            places: Vec::with_capacity(BATCH),
            stored: 0,
            known: 0,
            refused_count: 0,
            refused: Vec::new(),
            strict: false,
        }
    }

    /// Takes a row; true when a batch became durable.
    pub(super) async fn push(&mut self, id: &str, row: Row) -> Result<bool> {
        self.push_from(id, id, row).await
    }

    /// Takes a row that stands at `place`, which is named where the row is refused.
    async fn push_from(&mut self, place: &str, id: &str, row: Row) -> Result<bool> {
        let mut event = self.event(id, row)?;
        if self.strict {
            let refused = |error| Error::new(IMPORT_LINE, format!("{place}: {}", as_sent(error)));
            self.app.ingest.check(self.scope, &mut event).map_err(refused)?;
        }
        self.events.push(event);
        self.places.push(place.to_owned());
        if self.events.len() < BATCH {
            return Ok(false);
        }
        self.flush().await?;
        Ok(true)
    }

    /// Whether any row is in the store.
    fn has_some(&self) -> bool {
        self.stored + self.known > 0
    }

    /// Appends what is left.
    pub(super) async fn flush(&mut self) -> Result<()> {
        let events = std::mem::take(&mut self.events);
        let places = std::mem::take(&mut self.places);
        let receipts = self.app.ingest.accept_events(self.scope, events).await?;
        for (place, receipt) in places.into_iter().zip(receipts) {
            match receipt {
                Receipt::Stored(place) if place.outcome == Outcome::New => self.stored += 1,
                Receipt::Stored(_) => self.known += 1,
                Receipt::Refused(error) => {
                    self.refused_count += 1;
                    if self.refused.len() < BAD_LINES_TOLD {
                        self.refused.push(format!("{place}: {}", as_sent(error)));
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
            data: Some(data.map_err(Error::internal)?.into()),
            ..Event::new(
                self.scope.tenant(),
                id,
                self.source.clone(),
                kind,
                time.unwrap_or_else(|| self.app.ambient.clock.now()),
            )
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
