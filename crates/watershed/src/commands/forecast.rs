//! `watershed train` and `watershed evaluate` of forecasters: of curves, always printed beside persistence, and of power prices,
//! beside the naive forecast of the field. They read files and write files; nothing that is served is touched, and the registry
//! only where it is asked for. To add a forecaster: a file with `train` and `evaluate`.

pub(super) mod curve;
pub(super) mod power;
mod reference;
mod registering;

use std::path::Path;

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

/// Refuses one file for two things, of which one would be lost.
fn check_files(files: &[(&'static str, Option<&Path>)]) -> Result<()> {
    for (number, (flag, path)) in files.iter().enumerate() {
        let same = files[..number].iter().find(|(_, other)| path.is_some() && other == path);
        if let Some((other, _)) = same {
            let message = format!("is the file of {other} too; name another");
            return Err(Error::new(codes::VALIDATION_ERROR, message).with_field(*flag));
        }
    }
    Ok(())
}

fn text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|cause| {
        Error::new(codes::VALIDATION_ERROR, format!("{} cannot be read: {cause}", path.display()))
    })
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
