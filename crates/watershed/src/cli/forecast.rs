//! `train` and `evaluate` of forecasters of curves, with the flags of the ML platform's scripts, and of day-ahead power prices.
//! One more: its flags here, its work in `commands::forecast`.

use std::path::PathBuf;

use clap::Args;
use jiff::civil::Date;
use market::algorithms::forecasting::CurveType;
use market::algorithms::forecasting::curve::ModelType;
use market::algorithms::forecasting::power::PowerSettings;

use super::{AtServer, TrainOf};

/// Where a model that was trained is registered.
#[derive(Debug, Args)]
pub(crate) struct Registering {
    /// Also make a version of this registered model of it, with its settings, scores and data; see `watershed promote`
    #[arg(long, value_name = "NAME")]
    pub register: Option<String>,
    #[command(flatten)]
    pub at: AtServer,
}

impl TrainOf {
    /// Where it is registered.
    pub(super) fn registering(&self) -> &Registering {
        match self {
            Self::CurveForecaster(asked) => &asked.registering,
            Self::PowerForecaster(asked) => &asked.registering,
        }
    }
}

impl Registering {
    /// The server that is asked; none where nothing is registered.
    pub(super) fn at(&self) -> Option<&AtServer> {
        (self.register.is_some() || self.at.server.is_some()).then_some(&self.at)
    }
}

/// `train curve-forecaster`
#[derive(Debug, Args)]
pub(crate) struct TrainCurve {
    /// A CSV file with a date column and a column for each tenor
    #[arg(long, value_name = "FILE")]
    pub data_path: PathBuf,
    /// What the curve is of: yield, commodity, fx
    #[arg(long, default_value = "yield", value_name = "NAME")]
    pub curve_type: CurveType,
    /// What learns: ridge, random_forest, gradient_boosting, ensemble, nelson_siegel, nelson_siegel_var,
    /// ets, mstl. On daily yields random_forest is worse than persistence; nelson_siegel with --alpha 10 is what beat it
    /// (docs/forecasting.md)
    #[arg(long, default_value = "random_forest", value_name = "NAME")]
    pub model_type: ModelType,
    /// Days whose changes are looked at
    #[arg(long, default_value_t = 30, value_name = "DAYS")]
    pub lookback_days: usize,
    /// Days ahead
    #[arg(long, default_value_t = 5, value_name = "DAYS")]
    pub forecast_horizon: usize,
    /// Trees of random_forest and gradient_boosting
    #[arg(long, default_value_t = 100, value_name = "COUNT")]
    pub n_estimators: usize,
    /// Depth of a tree
    #[arg(long, default_value_t = 10, value_name = "SPLITS")]
    pub max_depth: usize,
    /// What gradient_boosting takes of each tree
    #[arg(long, default_value_t = 0.1, value_name = "PART")]
    pub learning_rate: f64,
    /// Penalty of ridge and of the Nelson-Siegel models, for each row
    #[arg(long, default_value_t = 1.0, value_name = "PENALTY")]
    pub alpha: f64,
    /// Learn from the days up to this one, and compare on those after it; without it the model learns from all days, and
    /// is compared by one that learned without the last fifth
    #[arg(long, value_name = "DATE")]
    pub train_until: Option<Date>,
    /// In the comparison, fit anew after so many days, on the days before; once where missing
    #[arg(long, value_name = "DAYS")]
    pub refit_days: Option<usize>,
    /// Seed of the trees
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
    /// Write the model to this file
    #[arg(long, default_value = "curve_forecaster.json", value_name = "FILE")]
    pub output: PathBuf,
    /// Write what the model learned from to this file, for the watch on its drift; beside the model where missing
    #[arg(long, value_name = "FILE")]
    pub drift_reference: Option<PathBuf>,
    #[command(flatten)]
    pub registering: Registering,
    /// Write the comparison as JSON to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draw the comparison as SVG to this file
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
}

/// `evaluate curve-forecaster`
#[derive(Debug, Args)]
pub(crate) struct EvaluateCurve {
    /// The file that `train curve-forecaster` wrote
    #[arg(long, value_name = "FILE")]
    pub model_path: PathBuf,
    /// A CSV file with the columns of the training
    #[arg(long, value_name = "FILE")]
    pub test_data_path: PathBuf,
    /// What the curve is of: yield, commodity, fx
    #[arg(long, default_value = "yield", value_name = "NAME")]
    pub curve_type: CurveType,
    /// Write evaluation_report.json to this folder
    #[arg(long, value_name = "FOLDER")]
    pub output_dir: Option<PathBuf>,
    /// Write every forecast to this file, as CSV, to the last bit: what a server answers for the same days
    #[arg(long, value_name = "FILE")]
    pub predictions: Option<PathBuf>,
    /// Also draw evaluation_report.svg there
    #[arg(long, requires = "output_dir")]
    pub create_plots: bool,
}

/// `train power-forecaster`
#[derive(Debug, Args)]
pub(crate) struct TrainPower {
    /// A CSV file with a time, a price and two forecasts known the day before, an hour a row, whole days
    #[arg(long, value_name = "FILE")]
    pub data_path: PathBuf,
    /// Learn from the days up to this one, and compare on those after it; without it the model learns from all days, and
    /// is compared by one that learned without the last --held-out-days
    #[arg(long, value_name = "DATE")]
    pub train_until: Option<Date>,
    /// Days at the end that the comparison is made on where no date is given
    #[arg(long, default_value_t = 91, value_name = "DAYS", conflicts_with = "train_until")]
    pub held_out_days: usize,
    /// Days that each LEAR is calibrated on; their forecasts are averaged
    #[arg(long, value_name = "DAYS", value_delimiter = ',', default_values_t = PowerSettings::default().lear_windows_days)]
    pub lear_windows_days: Vec<usize>,
    /// Days that the kernel regression is calibrated on
    #[arg(long, default_value_t = PowerSettings::default().kernel_window_days, value_name = "DAYS")]
    pub kernel_window_days: usize,
    /// The part of the kernel regression in the mean, 0 to 1
    #[arg(long, default_value_t = PowerSettings::default().kernel_weight, value_name = "PART")]
    pub kernel_weight: f64,
    /// Days whose errors intervals and quantiles are made of, with a fit for each 28 of them; 0 for none
    #[arg(long, default_value_t = PowerSettings::default().calibration_days, value_name = "DAYS")]
    pub calibration_days: usize,
    /// In the comparison, also tell what fitting anew after so many days gives; a fit takes some seconds
    #[arg(long, value_name = "DAYS")]
    pub refit_days: Option<usize>,
    /// Write the model to this file
    #[arg(long, default_value = "power_forecaster.json", value_name = "FILE")]
    pub output: PathBuf,
    /// Write what the model learned from to this file, for the watch on its drift; beside the model where missing
    #[arg(long, value_name = "FILE")]
    pub drift_reference: Option<PathBuf>,
    #[command(flatten)]
    pub registering: Registering,
    /// Write the comparison as JSON to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draw the comparison as SVG to this file
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
}

/// `evaluate power-forecaster`
#[derive(Debug, Args)]
pub(crate) struct EvaluatePower {
    /// The file that `train power-forecaster` wrote
    #[arg(long, value_name = "FILE")]
    pub model_path: PathBuf,
    /// A CSV file as that of the training; prices of the last day may be empty
    #[arg(long, value_name = "FILE")]
    pub test_data_path: PathBuf,
    /// Also tell what fitting anew after so many days gives; that needs the history before them, and a fit takes some seconds
    #[arg(long, value_name = "DAYS")]
    pub refit_days: Option<usize>,
    /// Write evaluation_report.json to this folder
    #[arg(long, value_name = "FOLDER")]
    pub output_dir: Option<PathBuf>,
    /// Write every forecast to this file, as CSV, to the last bit: what a server answers for the same days
    #[arg(long, value_name = "FILE")]
    pub predictions: Option<PathBuf>,
    /// Also draw evaluation_report.svg there
    #[arg(long, requires = "output_dir")]
    pub create_plots: bool,
}
