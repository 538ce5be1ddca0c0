//! `watershed restore`: a backup into an empty data folder or schema.

use std::time::Duration;

use backup::{Plan, Restored, Vault, Wanted};
use kernel::{Error, Result, Timestamp, codes};

use super::backup::size;
use super::progress::Progress;
use crate::app::{Ambient, App};
use crate::backups::{self, Opening};
use crate::cli::Restore;
use crate::config::Config;
use crate::engines::Engines;
use crate::terminal;

pub(super) async fn run(command: Restore, config: Config) -> Result<()> {
    let ambient = Ambient::of_system();
    let (began, now) = (ambient.clock.elapsed(), ambient.clock.now());
    let vault = backups::vault(&config, command.from.as_deref(), &ambient, Opening::ToRead)?;
    let wanted = Wanted { backup: command.backup, to_time: time(command.to_time.as_deref())? };
    let plan = Plan::make(&vault, wanted).await?;
    tell_plan(&vault, &plan);
    let progress = Progress::default();
    let tell = |step| progress.tell(step);
    let verified = backup::verify_plan(&vault, &plan, &tell).await;
    progress.end();
    let verified = verified?;
    let verified_in = ambient.clock.elapsed().saturating_sub(began);
    terminal::say(format!("verified         {} parts, {}", verified.parts, size(verified.bytes)));
    if command.dry_run {
        plan.check(&vault).await?;
        return dry_run(&config, &ambient, &plan).await;
    }
    let engines = Engines::open(&config.storage, &ambient).await?;
    let restored = backup::restore(&backups::target(&engines), &backups::rules(), &vault, &plan, &tell).await;
    progress.end();
    let restored = restored?;
    let restored_in = ambient.clock.elapsed().saturating_sub(began);
    drop(engines);
    let (forgotten, rows) = match complete(&config).await {
        Ok(done) => done,
        Err(error) => {
            let engines = Engines::open(&config.storage, &ambient).await?;
            backup::unfinish(&backups::target(&engines), &plan).await?;
            terminal::note(
                "everything was written, and could not be opened; mend that and run the same restore again",
            );
            return Err(error);
        }
    };
    if rows > 0 {
        terminal::say(format!("rebuilt          {rows} prices and bars"));
    }
    if forgotten > 0 {
        terminal::say(format!("forgotten        {forgotten} persons, as the newest backup says"));
    }
    let whole = ambient.clock.elapsed().saturating_sub(began);
    tell_outcome(&restored, &plan, now, [verified_in, restored_in, whole]);
    Ok(())
}

/// Opens the store as a server would, so that views are folded and models are loaded; forgets who was forgotten after the
/// backup; makes rows, which are no part of a backup, of the topics. How many persons and rows.
async fn complete(config: &Config) -> Result<(usize, u64)> {
    let app = App::open(config).await?;
    let forgotten = app.recommend.forget_again().await;
    let rows = match &app.market {
        Some(market) => market.rebuild_rows().await,
        None => Ok(0),
    };
    app.recommend.stop().await;
    if let Some(market) = app.market {
        market.stop().await;
    }
    Ok((forgotten?, rows?))
}

fn time(text: Option<&str>) -> Result<Option<Timestamp>> {
    let read = |text: &str| {
        text.parse().map_err(|cause| {
            let message = format!("`{text}` is not a time such as 2026-02-01T09:30:00Z: {cause}");
            Error::new(codes::VALIDATION_ERROR, message).with_field("--to-time")
        })
    };
    text.map(read).transpose()
}

fn tell_plan(vault: &Vault, plan: &Plan) {
    let (log, state) = (plan.log(), plan.state());
    terminal::say(format!(
        "backup           {} of {}, made by release {}: {} events at most, {} records, {} objects",
        log.sequence,
        vault.name(),
        log.release,
        log.events(),
        state.record_count(),
        state.objects.len()
    ));
    if state.sequence != log.sequence {
        terminal::say(format!("records          as in backup {} of {:.0}", state.sequence, state.taken_at));
    }
    if plan.is_older_than_every_backup() {
        terminal::note("no backup is as old as that time: records and models are later, events are cut");
    }
}

/// Whether it could be done, and nothing else. Engines that would have to be made are not.
async fn dry_run(config: &Config, ambient: &Ambient, plan: &Plan) -> Result<()> {
    let storage = &config.storage;
    if storage.chosen().needs_folder() && !storage.data_dir.exists() {
        terminal::say(format!("into             {}, which is made", storage.data_dir.display()));
    } else {
        let engines = Engines::open(storage, ambient).await?;
        backups::target(&engines).check(&backups::rules(), plan).await?;
        terminal::say("into             the store of these settings, which is empty");
    }
    terminal::say(format!("recovery point   {:.0}", plan.recovery_point()));
    terminal::say("nothing was written: this was a trial");
    Ok(())
}

fn tell_outcome(restored: &Restored, plan: &Plan, now: Timestamp, times: [Duration; 3]) {
    let point = plan.recovery_point();
    let newest = restored.newest_event.map_or_else(|| "none".to_owned(), |at| format!("{at:.0}"));
    terminal::say(format!(
        "restored         {} events (the newest of {newest}), {} records, {} objects",
        restored.events, restored.records, restored.objects
    ));
    let behind = now.duration_since(point).as_secs_f64();
    terminal::say(format!("recovery point   {point:.0}, {behind:.1} s before this restore began"));
    let [verified, written, whole] = times.map(|time| time.as_secs_f64());
    terminal::say(format!(
        "recovery time    {whole:.1} s: {verified:.1} s to verify, {:.1} s to write, {:.1} s until views and models answer",
        written - verified,
        whole - written
    ));
    terminal::note("API keys are as in the newest backup: one that was revoked since works no more");
    terminal::note(
        "a key that the settings or the file `api-key` hold is in no backup; set API_KEY as it was",
    );
}
