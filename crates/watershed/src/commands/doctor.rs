//! `watershed doctor`: whether the data folder, the views and the model are as they should be.

use std::sync::Arc;

use kernel::{Error, Result, codes};
use recommend::views::Views;
use store::ReadLimit;
use stream::Fold;

use super::scope;
use crate::app::App;
use crate::cli::Doctor;
use crate::config::Config;
use crate::terminal;

pub(super) async fn run(doctor: Doctor, config: Config) -> Result<()> {
    terminal::say(format!("data folder     {}", config.storage.data_dir.display()));
    let app = App::open(&config).await?;
    let checked = check(&app, &doctor, &config).await;
    app.recommend.stop().await;
    checked?;
    terminal::say("all is well");
    Ok(())
}

async fn check(app: &App, doctor: &Doctor, config: &Config) -> Result<()> {
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
    let (letters, _) = app.guarded.dead_letters.list(&scope, None, 1_000).await?;
    terminal::say(format!(
        "dead letters    {}",
        if letters.len() == 1_000 { "1000 or more".to_owned() } else { letters.len().to_string() }
    ));
    if doctor.rebuild { rebuild(app).await } else { Ok(()) }
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
