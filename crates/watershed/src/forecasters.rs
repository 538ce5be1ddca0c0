//! Forecasters, as `watershed train` writes them, for the runtime: of curves and of power prices. Each request is one history; none
//! are put together.
//!
//! An answer is made by the code that `watershed evaluate` runs: it is the same to the bit. Intervals and quantiles are outputs
//! beside what is forecast, such as `rate_2y.half_width_80` and `rate_2y.quantile_05`. To add a forecaster: a file with an
//! [`runtime::model::Engine`], and its file among [`FILES`], so that no other engine claims it.

pub(crate) mod curve;
pub(crate) mod power;

use kernel::{Error, codes};
use rollout::drift::document;
use runtime::model::{Package, TensorSpec};
use runtime::tensor::DataType;

/// The usual names of the model files, each of another engine.
const FILES: [&str; 2] = [curve::FILE, power::FILE];
/// What stands beside a model: written by MLflow's client, and what it learned from.
const BESIDE: [&str; 4] =
    ["input_example.json", "serving_input_example.json", "metadata.json", document::FILE];

/// The output of the half width of the interval around another.
pub(crate) fn half_width(target: &str, coverage: f64) -> String {
    format!("{target}.half_width_{:.0}", coverage * 100.0)
}

/// The output of a quantile of what another forecasts.
pub(crate) fn quantile(target: &str, level: f64) -> String {
    format!("{target}.quantile_{:02.0}", level * 100.0)
}

fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// Whether a version has this model file, and none of another maker or engine.
fn claims(paths: &[&str], file: &str) -> bool {
    let is_other = |path: &&str| path.ends_with(".onnx") || FILES.contains(&name(path)) && name(path) != file;
    paths.iter().any(|path| name(path) == file) && !paths.iter().any(is_other)
}

/// Leaves the files that may be the model.
fn without_beside(package: &mut Package) {
    package.files.retain(|path, _| !BESIDE.contains(&name(path)));
}

fn spec(name: &str, kind: DataType, length: Option<usize>) -> TensorSpec {
    TensorSpec { name: name.to_owned(), kind, shape: vec![length] }
}

fn refused(field: &str, message: &str) -> Error {
    Error::new(codes::VALIDATION_ERROR, message).with_field(format!("inputs.{field}"))
}
