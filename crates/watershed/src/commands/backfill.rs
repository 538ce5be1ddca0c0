//! `watershed backfill`: prices and bars of a time range, made again from the raw ticks. Over a data folder that no server has
//! open, a shared log, or brokers; what it is at stands in the folder `backfill` of the data folder until it is done.

use std::path::Path;
use std::sync::Arc;

use indicatif::ProgressBar;
use kernel::{Error, Result, TenantId, codes};
use market::backfill::{Change, Live, Progress, Report, Wanted, What, backfill};
use parking_lot::Mutex;
use store::Leases;

use super::say_json;
use crate::app::Ambient;
use crate::cli::Backfill;
use crate::config::Config;
use crate::engines::Engines;
use crate::terminal;

const FOLDER: &str = "backfill";

pub(super) async fn run(asked: Backfill, config: Config) -> Result<()> {
    let ambient = Ambient::of_system();
    let engines = Engines::open(&config.storage, &ambient).await?;
    let rules = Arc::new(config.market.rules()?);
    let folder = config.storage.data_dir.join(FOLDER);
    if asked.restart {
        remove(&folder)?;
    }
    let holder = format!("{:016x}", ambient.entropy.next_u64());
    let live = Live {
        topics: engines.topics.clone(),
        records: Arc::clone(&engines.records),
        columns: Arc::clone(&engines.columns),
        leases: Leases::new(Arc::clone(&engines.records), Arc::clone(&ambient.clock), holder),
        clock: Arc::clone(&ambient.clock),
    };
    let settings = serde_json::to_string(&config.market).map_err(Error::internal)?;
    let wanted = Wanted {
        tenant: TenantId::new(&config.auth.tenant)?,
        from: asked.from,
        to: asked.to,
        instrument: asked.instrument,
        is_dry_run: asked.dry_run,
        settings: format!("{} {settings}", env!("CARGO_PKG_VERSION")),
    };
    let scratch = Engines::scratch(&folder, &ambient).await?;
    let report = backfill(&live, &scratch, &rules, &wanted, &bar()).await?;
    drop(scratch);
    remove(&folder)?;
    if asked.json { say_json(&report) } else { say(&report, asked.dry_run) }
}

/// Takes the folder away, where it is there.
fn remove(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
            let message = format!("{} cannot be removed: {cause}", folder.display());
            Err(Error::new(codes::UNAVAILABLE, message))
        }
        _ => Ok(()),
    }
}

/// A bar for each thing that it is at.
fn bar() -> Progress {
    let shown: Mutex<Option<(&'static str, ProgressBar)>> = Mutex::new(None);
    Arc::new(move |what, done, total| {
        let mut shown = shown.lock();
        if shown.as_ref().is_none_or(|(before, _)| *before != what) {
            if let Some((_, bar)) = shown.take() {
                bar.finish_and_clear();
            }
            *shown = Some((what, terminal::steps_bar(total).with_message(what)));
        }
        if let Some((_, bar)) = &*shown {
            bar.set_length(total);
            bar.set_position(done);
        }
    })
}

fn say(report: &Report, is_dry_run: bool) -> Result<()> {
    for (stage, counts) in &report.stages {
        terminal::say(format!(
            "{stage}: {} taken, {} passed, {} known, {} dead letters, {} left out",
            counts.taken, counts.passed, counts.duplicates, counts.dead_lettered, counts.filtered
        ));
    }
    let would = if is_dry_run { "would be " } else { "" };
    for (table, found) in &report.tables {
        terminal::say(format!(
            "{table}: {} equal, {} {would}added, {} {would}changed, {} {would}withdrawn, {} left to live",
            found.equal, found.added, found.changed, found.withdrawn, found.left_to_live
        ));
    }
    let shown = report.changes.iter().take(if is_dry_run { usize::MAX } else { 0 });
    shown.for_each(|change| terminal::say(line(change)));
    let different: u64 = report.tables.values().map(|found| found.different()).sum();
    if is_dry_run && different > report.changes.len() as u64 {
        terminal::note("those are the first of each table");
    }
    Ok(())
}

fn line(change: &Change) -> String {
    let what = match change.what {
        What::Added => "added",
        What::Changed => "changed",
        What::Withdrawn => "withdrawn",
    };
    let value = |(name, before, after): &(&str, serde_json::Value, serde_json::Value)| match change.what {
        What::Added => format!("{name} {after}"),
        What::Changed => format!("{name} {before} -> {after}"),
        What::Withdrawn => format!("{name} {before}"),
    };
    let values: Vec<String> = change.values.iter().map(value).collect();
    let Change { table, instrument, time, revision, .. } = change;
    format!("{table} {instrument} {time}: {what}, revision {revision}: {}", values.join(", "))
}
