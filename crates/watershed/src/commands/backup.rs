//! `watershed backup`: makes, lists and checks backups.

use std::fmt::Write;

use backup::{Created, Manifest, Vault};
use kernel::{Error, ErrorKind, Result, Timestamp, codes};

use super::progress::Progress;
use crate::app::Ambient;
use crate::backups::{self, Opening};
use crate::cli::Backup;
use crate::config::Config;
use crate::engines::Engines;
use crate::terminal;

pub(super) async fn run(command: Backup, config: Config) -> Result<()> {
    let ambient = Ambient::of_system();
    match command {
        Backup::Create { to, keep, full } => {
            let vault = backups::vault(&config, to.as_deref(), &ambient, Opening::ToWrite)?;
            let keep = keep.unwrap_or(config.backup.keep);
            create(&config, &ambient, &vault, keep, full).await
        }
        Backup::List { from } => {
            let vault = backups::vault(&config, from.as_deref(), &ambient, Opening::ToRead)?;
            list(&vault).await
        }
        Backup::Verify { from } => {
            let vault = backups::vault(&config, from.as_deref(), &ambient, Opening::ToRead)?;
            verify(&vault).await
        }
    }
}

async fn create(config: &Config, ambient: &Ambient, vault: &Vault, keep: usize, full: bool) -> Result<()> {
    let began = ambient.clock.elapsed();
    Engines::require_folder(&config.storage)?;
    let engines = Engines::open(&config.storage, ambient).await.map_err(while_serving)?;
    let source = backups::source(&engines, ambient);
    let progress = Progress::default();
    let options = backups::options(keep, full);
    let tell = |step| progress.tell(step);
    let made = backup::create(&source, &backups::rules(), vault, &options, &tell).await;
    progress.end();
    let seconds = ambient.clock.elapsed().saturating_sub(began).as_secs_f64();
    match made? {
        Created::New(manifest, uploaded) => {
            terminal::say(format!(
                "backup {} in {}: {} events, {} records, {} objects; {} sent in {} parts, {seconds:.1} s",
                manifest.sequence,
                vault.name(),
                manifest.events(),
                manifest.record_count(),
                manifest.objects.len(),
                size(uploaded.bytes),
                uploaded.parts,
            ));
            if uploaded.pruned > 0 {
                terminal::say(format!("{} older ones were removed", uploaded.pruned));
            }
        }
        Created::Unchanged(manifest) => {
            let (sequence, at) = (manifest.sequence, manifest.taken_at);
            terminal::say(format!("nothing changed since backup {sequence} of {at:.0}"));
        }
    }
    Ok(())
}

/// A data folder is of one process.
fn while_serving(error: Error) -> Error {
    if error.kind() != ErrorKind::Conflict {
        return error;
    }
    let message = format!(
        "{}; a server makes backups of its own folder: set `backup.to` and `backup.every_secs`",
        error.message()
    );
    Error::new(error.code(), message).with_source(error)
}

async fn list(vault: &Vault) -> Result<()> {
    let mut text = format!(
        "{:>6}  {:<20}  {:>12}  {:<20}  {:>9}  {:>7}  {:>10}\n",
        "backup", "taken at", "events", "newest event", "records", "objects", "size"
    );
    let mut damaged = Vec::new();
    for sequence in vault.sequences().await? {
        match vault.manifest(sequence).await {
            Ok((manifest, _)) => {
                let newest = newest_event(&manifest).map_or_else(|| "-".to_owned(), |at| format!("{at:.0}"));
                let _ = writeln!(
                    text,
                    "{sequence:>6}  {:<20}  {:>12}  {newest:<20}  {:>9}  {:>7}  {:>10}",
                    format!("{:.0}", manifest.taken_at),
                    manifest.events(),
                    manifest.record_count(),
                    manifest.objects.len(),
                    size(manifest.bytes()),
                );
            }
            Err(error) if error.kind() == ErrorKind::Corrupted => {
                let _ = writeln!(text, "{sequence:>6}  damaged");
                damaged.push(error.message().to_owned());
            }
            Err(error) => return Err(error),
        }
    }
    if text.lines().count() == 1 {
        terminal::note(format!("no backups in {}; `watershed backup create` makes one", vault.name()));
        return Ok(());
    }
    terminal::say(text.trim_end());
    if damaged.is_empty() { Ok(()) } else { Err(Error::new(codes::CORRUPTED, damaged.join("; "))) }
}

fn newest_event(manifest: &Manifest) -> Option<Timestamp> {
    let partitions = manifest.topics.iter().flat_map(|topic| &topic.partitions);
    partitions.filter_map(|partition| partition.last.as_ref()).map(|mark| mark.time).max()
}

async fn verify(vault: &Vault) -> Result<()> {
    let progress = Progress::default();
    let tell = |step| progress.tell(step);
    let verified = backup::verify(vault, &tell).await;
    progress.end();
    let verified = verified?;
    if verified.backups == 0 {
        return Err(Error::new(codes::NOT_FOUND, format!("there is no backup in {}", vault.name())));
    }
    terminal::say(format!(
        "whole: {} backups, {} parts, {}",
        verified.backups,
        verified.parts,
        size(verified.bytes)
    ));
    Ok(())
}

/// A size for people.
pub(super) fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}
