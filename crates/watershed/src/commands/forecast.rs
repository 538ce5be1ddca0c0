//! `watershed train` and `watershed evaluate` of forecasters: of curves, always printed beside persistence, and of power prices,
//! beside the naive forecast of the field. They read files and write files; nothing that is served is touched, and the registry
//! only where it is asked for. To add a forecaster: a file with `train` and `evaluate`.

pub(super) mod curve;
pub(super) mod power;
mod reference;
mod registering;

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use kernel::{Error, Result, codes};
use market::algorithms::forecasting::ForecastFault;
use serde::Serialize;

use crate::terminal;

const REPORT: &str = "evaluation_report";

/// Writes a report as JSON, and as the drawing that is made of it, where these are asked for.
fn tell(
    report: &impl Serialize,
    draw: impl FnOnce() -> std::result::Result<String, ForecastFault>,
    json: Option<&Path>,
    plot: Option<&Path>,
) -> Result<()> {
    if let Some(path) = json {
        write(path, &serde_json::to_string_pretty(report).map_err(Error::internal)?)?;
    }
    if let Some(path) = plot {
        write(path, &draw().map_err(refused)?)?;
    }
    Ok(())
}

/// The same in a folder, which is made.
fn tell_in(
    folder: &Path,
    report: &impl Serialize,
    draw: impl FnOnce() -> std::result::Result<String, ForecastFault>,
    plots: bool,
) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|cause| unwritable(folder, &cause))?;
    let file = |ending: &str| folder.join(format!("{REPORT}.{ending}"));
    tell(report, draw, Some(&file("json")), plots.then(|| file("svg")).as_deref())
}

/// The files of a training: its table, its model, and the reference, report and drawing that are asked for. The reference has
/// a name of its own where none is.
fn check_training(data: &Path, output: &Path, [reference, json, plot]: [Option<&Path>; 3]) -> Result<()> {
    let beside = output.with_file_name(rollout::drift::document::FILE);
    let written = [
        ("--output", Some(output)),
        ("--drift-reference", Some(reference.unwrap_or(&beside))),
        ("--json", json),
        ("--plot", plot),
    ];
    check_files(&[("--data-path", data)], &written)
}

/// The files of an evaluation: its model and its table, and the forecasts and reports that are asked for.
fn check_evaluation(
    [model, table]: [&Path; 2],
    predictions: Option<&Path>,
    folder: Option<&Path>,
) -> Result<()> {
    let report = |ending| folder.map(|folder| folder.join(format!("{REPORT}.{ending}")));
    let reports = ["json", "svg"].map(report);
    // The folder of reports is made.
    let known = [("--model-path", Some(model)), ("--test-data-path", Some(table))].into_iter();
    let known = known.chain(reports.iter().map(|path| ("--output-dir", path.as_deref())));
    let known: Vec<_> = known.filter_map(|(flag, path)| Some((flag, path?))).collect();
    check_files(&known, &[("--predictions", predictions)])
}

/// Refuses one file for two things, of which one would be lost, and a file that cannot be written, before hours are spent.
fn check_files(others: &[(&'static str, &Path)], written: &[(&'static str, Option<&Path>)]) -> Result<()> {
    let refused =
        |flag: &str, message: String| Err(Error::new(codes::VALIDATION_ERROR, message).with_field(flag));
    let mut known: Vec<_> = others.iter().map(|(flag, path)| (*flag, whole(path))).collect();
    for (flag, path) in written {
        let Some(path) = *path else { continue };
        let path_whole = whole(path);
        if let Some((other, _)) = known.iter().find(|(_, known)| *known == path_whole) {
            return refused(flag, format!("is the file of {other} too; name another"));
        }
        if path.is_dir() {
            return refused(flag, format!("{} is a folder; name a file", path.display()));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            return refused(flag, format!("there is no folder {}; make it", folder.display()));
        }
        check_writable(path).map_err(|cause| unwritable(path, &cause).with_field(*flag))?;
        known.push((*flag, path_whole));
    }
    Ok(())
}

/// The place of a file, however it is named.
fn whole(path: &Path) -> PathBuf {
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let beside = || Some(std::fs::canonicalize(folder).ok()?.join(path.file_name()?));
    std::fs::canonicalize(path).ok().or_else(beside).unwrap_or_else(|| path.to_owned())
}

/// Leaves everything as it was.
fn check_writable(path: &Path) -> std::io::Result<()> {
    match OpenOptions::new().append(true).open(path) {
        Err(cause) if cause.kind() == ErrorKind::NotFound => {
            File::create_new(path)?;
            std::fs::remove_file(path)
        }
        opened => opened.map(drop),
    }
}

/// Refuses a date that leaves nothing to compare the model on, where one is given.
fn check_until<D: std::fmt::Display>(date: Option<D>, is_left: bool) -> Result<()> {
    match date {
        Some(date) if !is_left => {
            let message = format!(
                "too few days after {date} have values to compare the model on; name an earlier one, or leave it out to learn from all"
            );
            Err(Error::new(codes::VALIDATION_ERROR, message).with_field("--train-until"))
        }
        _ => Ok(()),
    }
}

fn text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|cause| {
        Error::new(codes::VALIDATION_ERROR, format!("{} cannot be read: {cause}", path.display()))
    })
}

/// A fault of a table, with its file.
fn of_file(path: &Path, fault: &ForecastFault) -> Error {
    Error::new(codes::VALIDATION_ERROR, format!("{}: {fault}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|cause| unwritable(path, &cause))?;
    terminal::note(format!("wrote {}", path.display()));
    Ok(())
}

fn unwritable(path: &Path, cause: &std::io::Error) -> Error {
    Error::new(codes::UNAVAILABLE, format!("{} cannot be written: {cause}", path.display()))
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in map_err")]
fn refused(fault: ForecastFault) -> Error {
    Error::new(codes::VALIDATION_ERROR, fault.to_string())
}
