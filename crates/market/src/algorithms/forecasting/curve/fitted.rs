//! What each model type learned.

use serde::{Deserialize, Serialize};

use super::columns::{MOMENTUM_ROWS, changes, factors, lagged, reversion, smooth, smoothed};
use super::{CurveSettings, HELD_OUT, ModelType};
use crate::algorithms::forecasting::ridge::Ridge;
use crate::algorithms::forecasting::trees::{TreeSettings, Trees};
use crate::algorithms::forecasting::{ForecastFault, Panel};

/// Rows to learn from, at least.
const ROWS_MIN: usize = 30;
const LEAF_ROWS_MIN: usize = 50;
/// Of the columns, for each split: a third in a forest (Breiman), fewer in boosting, which looks more often.
const FOREST_COLUMNS: f64 = 1.0 / 3.0;
const BOOSTING_COLUMNS: f64 = 0.1;
/// Alpha of the models whose columns are few and known to pull weakly; chosen on the years before 2018.
const REVERSION_ALPHA: f64 = 10.0;
const WEIGHT_SWEEPS: usize = 200;
const FACTORS: usize = 3;

/// What a model learned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Fitted {
    Ridge(Ridge),
    Trees(Trees),
    Reversion(Ridge),
    Factors(Ridge),
    /// Whether with a week; the rest is fitted when it is asked.
    Smoothed(bool),
    Ensemble(Vec<(f64, Fitted)>),
}

/// What is known of a curve besides its values.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub tenors_years: Option<Vec<f64>>,
    pub settings: CurveSettings,
}

impl Shape {
    pub(super) fn of(panel: &Panel, settings: &CurveSettings) -> Self {
        Self { tenors_years: panel.tenors_years(), settings: *settings }
    }
}

impl Fitted {
    /// Learns from the rows before `until`: the last target that is seen is of the row before it.
    pub(super) fn train(
        panel: &Panel,
        until: usize,
        settings: &CurveSettings,
    ) -> Result<Self, ForecastFault> {
        settings.validate()?;
        let first = settings.rows_needed() - 1;
        let needed = first + settings.forecast_horizon + ROWS_MIN;
        if until > panel.dates.len() || until < needed {
            return Err(ForecastFault::TooShort { needed, found: until.min(panel.dates.len()) });
        }
        let shape = Shape::of(panel, settings);
        let rows = first..until - settings.forecast_horizon;
        let targets: Vec<Vec<f64>> =
            rows.clone().map(|row| changes(panel, row, settings.forecast_horizon)).collect();
        match settings.model_type {
            ModelType::Ensemble => Self::ensemble(panel, until, &shape),
            ModelType::NelsonSiegel => {
                let model = smooth(shape.tenors_years.as_deref())?;
                let columns: Vec<_> = rows.map(|row| reversion(panel, row, &model)).collect();
                Ok(Self::Reversion(Ridge::fit(&columns, &targets, settings.alpha * REVERSION_ALPHA)?))
            }
            ModelType::NelsonSiegelVar => {
                let model = smooth(shape.tenors_years.as_deref())?;
                let columns: Vec<_> = rows.map(|row| factors(panel, row, &model)).collect();
                let width = panel.targets.len();
                let of = |row: &Vec<f64>| row.chunks(width).flat_map(|step| model.factors(step)).collect();
                let targets: Vec<Vec<f64>> = targets.iter().map(of).collect();
                Ok(Self::Factors(Ridge::fit(&columns, &targets, settings.alpha * REVERSION_ALPHA)?))
            }
            ModelType::Ets => Ok(Self::Smoothed(false)),
            ModelType::Mstl => Ok(Self::Smoothed(true)),
            kind => {
                let columns: Vec<_> = rows.map(|row| lagged(panel, row, settings.lookback_days)).collect();
                Self::of_lags(kind, &columns, &targets, settings)
            }
        }
    }

    fn of_lags(
        kind: ModelType,
        columns: &[Vec<f64>],
        targets: &[Vec<f64>],
        settings: &CurveSettings,
    ) -> Result<Self, ForecastFault> {
        let trees = |columns_part| TreeSettings {
            trees: settings.n_estimators,
            depth_max: settings.max_depth,
            leaf_rows_min: LEAF_ROWS_MIN.min(columns.len() / 10).max(1),
            columns_part,
            seed: settings.seed,
        };
        Ok(match kind {
            ModelType::RandomForest => Self::Trees(Trees::forest(columns, targets, trees(FOREST_COLUMNS))),
            ModelType::GradientBoosting => {
                Self::Trees(Trees::boosted(columns, targets, settings.learning_rate, trees(BOOSTING_COLUMNS)))
            }
            _ => Self::Ridge(Ridge::fit(columns, targets, settings.alpha)?),
        })
    }

    /// Members fitted without the last fifth get weights on it, then are fitted on all.
    fn ensemble(panel: &Panel, until: usize, shape: &Shape) -> Result<Self, ForecastFault> {
        let mut kinds = vec![ModelType::Ridge, ModelType::RandomForest, ModelType::GradientBoosting];
        if smooth(shape.tenors_years.as_deref()).is_ok() {
            kinds.extend([ModelType::NelsonSiegel, ModelType::NelsonSiegelVar]);
        }
        let settings = |kind: &ModelType| CurveSettings { model_type: *kind, ..shape.settings };
        let split = until - (until as f64 * HELD_OUT) as usize;
        let members = kinds
            .iter()
            .map(|kind| Self::train(panel, split, &settings(kind)))
            .collect::<Result<Vec<_>, _>>()?;
        let steps = shape.settings.forecast_horizon;
        let (mut gram, mut pull) = (vec![vec![0.0; kinds.len()]; kinds.len()], vec![0.0; kinds.len()]);
        for row in split..until.saturating_sub(steps) {
            let truth = changes(panel, row, steps);
            let told: Vec<Vec<f64>> =
                members.iter().map(|member| member.changes(panel, row, shape)).collect::<Result<_, _>>()?;
            for (one, changes) in told.iter().enumerate() {
                pull[one] += dot(changes, &truth);
                (0..told.len()).for_each(|two| gram[one][two] += dot(changes, &told[two]));
            }
        }
        let weights = weights(&gram, &pull);
        let refitted = kinds.iter().map(|kind| Self::train(panel, until, &settings(kind)));
        Ok(Self::Ensemble(weights.into_iter().zip(refitted.collect::<Result<Vec<_>, _>>()?).collect()))
    }

    /// Changes after a row, step by step.
    pub(super) fn changes(
        &self,
        panel: &Panel,
        row: usize,
        shape: &Shape,
    ) -> Result<Vec<f64>, ForecastFault> {
        let lags = || lagged(panel, row, shape.settings.lookback_days);
        Ok(match self {
            Self::Ridge(ridge) => ridge.predict(&lags()),
            Self::Trees(trees) => trees.predict(&lags()),
            Self::Reversion(ridge) => {
                ridge.predict(&reversion(panel, row, &smooth(shape.tenors_years.as_deref())?))
            }
            Self::Factors(ridge) => {
                let model = smooth(shape.tenors_years.as_deref())?;
                let moves = ridge.predict(&factors(panel, row, &model));
                moves.as_chunks::<FACTORS>().0.iter().flat_map(|moves| model.curve(*moves)).collect()
            }
            Self::Smoothed(in_weeks) => smoothed(panel, row, *in_weeks, shape.settings.forecast_horizon)?,
            Self::Ensemble(members) => {
                let mut sum = vec![0.0; panel.targets.len() * shape.settings.forecast_horizon];
                for (weight, member) in members {
                    let changes = member.changes(panel, row, shape)?;
                    sum.iter_mut().zip(changes).for_each(|(sum, change)| *sum += weight * change);
                }
                sum
            }
        })
    }

    /// Whether everything that it points to is there.
    pub(super) fn is_sound(&self, targets: usize, extras: usize, settings: &CurveSettings) -> bool {
        let steps = settings.forecast_horizon;
        let lags = targets * (settings.lookback_days + 4) + 3 + extras + 4;
        match self {
            Self::Ridge(ridge) => ridge.is_sound(lags, targets * steps),
            Self::Trees(trees) => trees.is_sound(lags, targets * steps),
            Self::Reversion(ridge) => ridge.is_sound((1 + MOMENTUM_ROWS.len()) * targets, targets * steps),
            Self::Factors(ridge) => ridge.is_sound(2 * FACTORS, FACTORS * steps),
            Self::Smoothed(_) => true,
            Self::Ensemble(members) => members.iter().all(|(weight, member)| {
                weight.is_finite()
                    && !matches!(member, Self::Ensemble(_))
                    && member.is_sound(targets, extras, settings)
            }),
        }
    }
}

/// Least squares with weights from 0 whose sum is at most 1, by coordinate descent: what is left is persistence.
fn weights(gram: &[Vec<f64>], pull: &[f64]) -> Vec<f64> {
    let mut weights = vec![0.0_f64; pull.len()];
    for _ in 0..WEIGHT_SWEEPS {
        for one in 0..weights.len() {
            if gram[one][one] > 0.0 {
                let others = dot(&gram[one], &weights) - gram[one][one] * weights[one];
                weights[one] = ((pull[one] - others) / gram[one][one]).max(0.0);
            }
        }
    }
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum.max(1.0)).collect()
}

fn dot(left: &[f64], right: &[f64]) -> f64 {
    left.iter().zip(right).map(|(left, right)| left * right).sum()
}
