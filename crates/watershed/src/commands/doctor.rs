//! `watershed doctor`: whether the data folder, the views, the models and the machine are as they should be.
//!
//! Everything is looked at before it fails, so that all that is wrong is told at once. Settings were checked when they
//! were read. To add a check: a line that is said, and a line in what is wrong.

mod machine;
mod registered;

use std::sync::Arc;

use kernel::{Error, Result, Scope, codes};
use recommend::views::Views;
use store::ReadLimit;
use stream::Fold;

use super::scope;
use crate::app::{self, App};
use crate::cli::Doctor;
use crate::config::{Config, Role, Roles};
use crate::terminal;

/// How long a first connection may take.
#[cfg(any(feature = "clickhouse", feature = "kafka"))]
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

pub(super) async fn run(doctor: Doctor, config: Config) -> Result<()> {
    terminal::say(format!("data folder     {}", config.storage.data_dir.display()));
    terminal::say("settings        read and lawful");
    // Only who answers requests needs what loads registered models.
    let needs_engines = config.server.roles.has(Role::Api);
    let engines = if needs_engines { app::engines_of_models(&config).await.map(Some) } else { Ok(None) };
    let (engines, without) = match engines {
        Ok(engines) => (engines, None),
        Err(error) => (None, Some(error.to_string())),
    };
    let tries = engines.is_some();
    let app = App::open_with(&config, &Roles::default(), engines.unwrap_or_default()).await?;
    let mut wrong = machine::check(&config, app.ambient.clock.now());
    wrong.extend(without);
    #[cfg(feature = "kafka")]
    wrong.extend(broker_fault(&app).await);
    #[cfg(feature = "clickhouse")]
    wrong.extend(column_store_fault(&app).await);
    let checked = check(&app, &doctor, &config, tries, &mut wrong).await;
    app.recommend.stop().await;
    checked?;
    if wrong.is_empty() {
        terminal::say("all is well");
        return Ok(());
    }
    Err(Error::new(codes::CORRUPTED, format!("not all is well: {}", wrong.join("; "))))
}

async fn check(
    app: &App,
    doctor: &Doctor,
    config: &Config,
    tries_models: bool,
    wrong: &mut Vec<String>,
) -> Result<()> {
    let scope = scope(config, "doctor")?;
    for extent in app.engines.log.extents(&edge::ingest::EVENTS).await? {
        terminal::say(format!(
            "event log       partition {}: {} to {}",
            extent.partition, extent.first, extent.next
        ));
    }
    {
        let view = app.recommend.views().of(&scope);
        let view = view.read();
        terminal::say(format!(
            "view            {} entities, {} users, {} interactions (tenant {})",
            view.entities.existing(),
            view.users.len(),
            view.activity.interactions(),
            scope.tenant(),
        ));
    }
    match app.recommend.model_version(&scope) {
        Some(version) => terminal::say(format!("model           version {version} is served")),
        None => terminal::say("model           none yet; it comes with `watershed train` or while serving"),
    }
    for tenant in app.recommend.views().tenants() {
        wrong.extend(model_fault(app, &Scope::system(tenant, "doctor")).await?);
    }
    if tries_models {
        wrong.extend(registered::faults(app, config).await?);
    } else {
        terminal::say("registered      not tried, because nothing here loads registered models");
    }
    #[cfg(feature = "search")]
    tell_of_search(&app.search, &config.search);
    let (letters, _) = app.guarded.dead_letters.list(&scope, None, 1_000).await?;
    terminal::say(format!(
        "dead letters    {}",
        if letters.len() == 1_000 { "1000 or more".to_owned() } else { letters.len().to_string() }
    ));
    if doctor.rebuild { rebuild(app).await } else { Ok(()) }
}

/// By what is searched; models that cannot be read have failed before.
#[cfg(feature = "search")]
fn tell_of_search(search: &search::Search, settings: &search::SearchSettings) {
    let told = match (search.encoder(), &settings.model_path) {
        (Some(encoder), Some(path)) => {
            let (path, model) = (path.display(), encoder.identity());
            let before = settings.previous_model_path.as_ref().map_or_else(String::new, |before| {
                format!("; by {} until every text has its vector", before.display())
            });
            format!(
                "by words and by meaning: {path}, {} dimensions, version {}{before}",
                model.dimensions, model.version
            )
        }
        _ => "by words alone; search.model_path names a model for meaning".to_owned(),
    };
    terminal::say(format!("search          {told}"));
    if let (Some(reranker), Some(path)) = (search.reranker(), &settings.rerank_model_path) {
        terminal::say(format!("re-ranking      {}, version {}", path.display(), reranker.identity().version));
    }
}

/// What is wrong where the brokers do not answer.
#[cfg(feature = "kafka")]
async fn broker_fault(app: &App) -> Option<String> {
    let kafka = app.engines.kafka.as_ref()?;
    let fault = kafka.ping(PATIENCE).await.err();
    terminal::say(format!("brokers         {}", if fault.is_none() { "answer" } else { "do not answer" }));
    fault.map(|error| format!("storage.kafka: {}", error.message()))
}

/// What is wrong where the column store does not answer.
#[cfg(feature = "clickhouse")]
async fn column_store_fault(app: &App) -> Option<String> {
    let clickhouse = app.engines.clickhouse.as_ref()?;
    let fault = clickhouse.ping(PATIENCE).await.err();
    terminal::say(format!("column store    {}", if fault.is_none() { "answers" } else { "does not answer" }));
    fault.map(|error| format!("storage.clickhouse: {}", error.message()))
}

/// What is wrong where the promoted model is not the one that is served.
async fn model_fault(app: &App, scope: &Scope) -> Result<Option<String>> {
    let Some(promoted) = app.recommend.promoted_version(scope).await? else { return Ok(None) };
    let instead = match app.recommend.model_version(scope) {
        Some(version) if version == promoted => return Ok(None),
        Some(version) => format!("version {version} is served in its place"),
        None => "there is no other to serve".to_owned(),
    };
    Ok(Some(format!(
        "model version {promoted} of tenant {} is promoted but missing or damaged, and {instead}: restore a backup, or \
         train again with `watershed train`",
        scope.tenant()
    )))
}

/// Folds the log again from its first event and compares the bytes with the view that is served. There is nothing to
/// compare with where retention cut the log: the view rests on its checkpoints then.
async fn rebuild(app: &App) -> Result<()> {
    let rebuilt = Arc::new(Views::judging(app.recommend.views().rating_least()));
    let mut events = 0_usize;
    let extents = app.engines.log.extents(&edge::ingest::EVENTS).await?;
    let cut: u64 = extents.iter().map(|extent| extent.first).sum();
    if cut > 0 {
        terminal::say(format!(
            "rebuild         cannot be compared: the first {cut} events were cut from the log by its retention, and only \
             checkpoints hold them; keep backups of blobs/_system/checkpoints"
        ));
        return Ok(());
    }
    for extent in extents {
        let mut offset = extent.first;
        while offset < extent.next {
            let batch = app
                .guarded
                .log
                .read(&edge::ingest::EVENTS, extent.partition, offset, ReadLimit::default())
                .await?;
            let Some(last) = batch.last() else { break };
            offset = last.offset + 1;
            events += batch.len();
            rebuilt.apply(extent.partition, &batch);
        }
    }
    let bytes = rebuilt.encode();
    if bytes != app.recommend.views().encode() {
        let message =
            "the view differs from a rebuild of the log; remove the folder blobs/_system/checkpoints";
        return Err(Error::new(codes::CORRUPTED, message));
    }
    terminal::say(format!("rebuild         {events} events give the same view, byte for byte"));
    // Equal for equal views, wherever they are.
    terminal::say(format!("view hash       {}", blake3::hash(&bytes).to_hex()));
    Ok(())
}
