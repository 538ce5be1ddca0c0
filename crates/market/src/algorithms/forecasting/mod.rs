//! Forecasts of curves and of day-ahead power prices, and how good they are.
//!
//! - [`Panel`]: a table of daily curves. [`curve`]: its next days by ridge, trees, Nelson-Siegel factors, or all of them,
//!   or by [`smoothing`] of each tenor.
//! - [`power`]: the 24 hours of tomorrow by LEAR and kernel regression, with quantiles of its own errors.
//! - [`Report`]: scores by step and target, with persistence and the seasonal naive forecast beside them, and the
//!   [`diebold_mariano`] test of whether the difference is more than luck.
//!
//! A forecast of a row is made of that row and those before it; tests change the future and compare bits. It refuses values
//! that are not numbers, histories that are too short, and a model file that is damaged.
//!
//! To add a curve model: a variant of [`curve::ModelType`], its columns, its fit. To add a power model: a file in `power`
//! with a `walk`. What does not beat persistence on data before the test does not become a default.

mod chart;
mod conformal;
mod coverage;
pub mod curve;
mod diebold_mariano;
mod envelope;
mod fault;
mod kernel;
mod lasso;
mod matrix;
mod nelson_siegel;
mod panel;
pub mod power;
mod quantile_report;
mod report;
mod ridge;
mod scores;
pub mod smoothing;
mod trees;

pub use conformal::{COVERAGES, LEVELS, Quantiles};
pub use coverage::IntervalReport;
pub use diebold_mariano::{DieboldMariano, diebold_mariano};
pub use envelope::snapshot_of;
pub use fault::ForecastFault;
pub use kernel::KernelSettings;
pub use panel::{CurveType, Panel};
pub use quantile_report::{LevelReport, QuantileCase, QuantileReport};
pub use report::{Report, StepReport, TargetReport};
pub use scores::Scores;
