//! LASSO by coordinate descent on inner products (Friedman, Hastie and Tibshirani 2010, "covariance updates").
//!
//! Many targets share one Gram matrix, and a solution is the start of the next: yesterday's coefficients are nearly
//! today's. It refuses nothing: a column without variance keeps a coefficient of zero.

use faer::Mat;

/// Over all columns or those in use; columns that are nearly sums of others never settle, and need not.
const SWEEPS_MAX: usize = 500;
/// The path ends so many steps after the lowest criterion so far.
const PATIENCE: usize = 5;
/// Relative to the standard deviation of the target, over the scaled columns.
const TOLERANCE: f64 = 1e-4;

/// One target regressed on columns whose inner products are known.
#[derive(Debug)]
pub(super) struct Lasso<'a> {
    /// `XᵀX / rows` of centred columns.
    pub gram: &'a Mat<f64>,
    /// `Xᵀy / rows` of the centred target.
    pub correlation: &'a [f64],
    /// `yᵀy / rows`.
    pub variance: f64,
}

/// Coefficients and what is left of the correlations under them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Solution {
    pub coefficients: Vec<f64>,
    gradient: Vec<f64>,
}

impl Lasso<'_> {
    /// All coefficients zero.
    pub(super) fn zero(&self) -> Solution {
        Solution { coefficients: vec![0.0; self.correlation.len()], gradient: self.correlation.to_vec() }
    }

    /// These coefficients as a start, where the inner products have changed since.
    pub(super) fn start(&self, coefficients: &[f64]) -> Solution {
        let mut solution = self.zero();
        for (column, value) in coefficients.iter().enumerate() {
            if *value != 0.0 {
                self.shift(&mut solution, column, *value);
            }
        }
        solution
    }

    /// The penalty from which on all coefficients are zero.
    pub(super) fn penalty_max(&self) -> f64 {
        self.correlation.iter().fold(0.0, |most, value| value.abs().max(most))
    }

    /// Minimises `|y - Xb|² / (2 rows) + penalty · |b|₁`, from a start that becomes the solution.
    pub(super) fn descend(&self, solution: &mut Solution, penalty: f64) {
        let tolerance = TOLERANCE * self.variance.sqrt();
        let mut is_active = false;
        for _ in 0..SWEEPS_MAX {
            let is_settled = self.sweep(solution, penalty, is_active) <= tolerance;
            if is_settled && !is_active {
                return;
            }
            // All columns again once those in use have settled, then those in use.
            is_active = !is_settled;
        }
    }

    /// The mean squared residual.
    pub(super) fn residual(&self, solution: &Solution) -> f64 {
        let products = self.correlation.iter().zip(&solution.gradient).map(|(c, g)| c + g);
        let explained: f64 = solution.coefficients.iter().zip(products).map(|(b, sum)| b * sum).sum();
        (self.variance - explained).max(0.0)
    }

    /// One pass over the columns; only over those in use where `active`. Returns the largest step.
    fn sweep(&self, solution: &mut Solution, penalty: f64, active: bool) -> f64 {
        let mut largest = 0.0_f64;
        for column in 0..self.correlation.len() {
            let old = solution.coefficients[column];
            let square = self.gram[(column, column)];
            if square <= f64::EPSILON || (active && old == 0.0) {
                continue;
            }
            let pull = solution.gradient[column] + square * old;
            let new = (pull.abs() - penalty).max(0.0).copysign(pull) / square;
            let step = new - old;
            if step != 0.0 {
                self.shift(solution, column, step);
                // Exactly zero, not what is left of a difference.
                solution.coefficients[column] = new;
                largest = largest.max(step.abs() * square.sqrt());
            }
        }
        largest
    }

    fn shift(&self, solution: &mut Solution, column: usize, step: f64) {
        solution.coefficients[column] += step;
        let products = self.gram.col_as_slice(column);
        for (gradient, product) in solution.gradient.iter_mut().zip(products) {
            *gradient -= step * product;
        }
    }
}

/// The penalty of the lowest Akaike criterion on a path of `steps` from the largest useful one down to `ratio` of it,
/// and its solution. `noise` is the variance of the error that the criterion believes in.
pub(super) fn by_akaike(
    problem: &Lasso<'_>,
    rows: usize,
    noise: f64,
    steps: usize,
    ratio: f64,
) -> (f64, Solution) {
    let most = problem.penalty_max();
    let mut solution = problem.zero();
    let mut best = (most, solution.clone());
    if most <= 0.0 || noise <= 0.0 {
        return best;
    }
    let mut lowest = (f64::INFINITY, 0);
    for step in 0..steps {
        let penalty = most * ratio.powf(step as f64 / (steps.max(2) - 1) as f64);
        problem.descend(&mut solution, penalty);
        let used = solution.coefficients.iter().filter(|value| **value != 0.0).count();
        if used >= rows || step > lowest.1 + PATIENCE {
            break;
        }
        let criterion = rows as f64 * problem.residual(&solution) / noise + 2.0 * used as f64;
        if criterion < lowest.0 {
            lowest = (criterion, step);
            best = (penalty, solution.clone());
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithms::forecasting::matrix;
    use proptest::prelude::*;

    /// What no solution may break: |gradient| is the penalty where a column is used and at most that elsewhere.
    fn fault(problem: &Lasso<'_>, solution: &Solution, penalty: f64) -> f64 {
        let used = solution.coefficients.iter().zip(&solution.gradient);
        used.map(
            |(b, g)| if *b == 0.0 { (g.abs() - penalty).max(0.0) } else { (g - penalty.copysign(*b)).abs() },
        )
        .fold(0.0, f64::max)
            / problem.variance.sqrt().max(1e-12)
    }

    proptest! {
        #[test]
        fn a_solution_meets_the_conditions_of_a_minimum(
            values in proptest::collection::vec(-2.0..2.0_f64, 40 * 6),
            penalty in 0.01..0.5_f64,
        ) {
            let columns = Mat::from_fn(40, 5, |row, column| values[row * 6 + column]);
            let target = Mat::from_fn(40, 1, |row, _| values[row * 6 + 5]);
            let gram = matrix::transposed_product(columns.as_ref(), columns.as_ref()) * faer::Scale(1.0 / 40.0);
            let product = matrix::transposed_product(columns.as_ref(), target.as_ref());
            let correlation: Vec<f64> = (0..5).map(|column| product[(column, 0)] / 40.0).collect();
            let variance = target.col(0).iter().map(|value| value * value).sum::<f64>() / 40.0;
            let problem = Lasso { gram: &gram, correlation: &correlation, variance };
            let mut solution = problem.zero();
            problem.descend(&mut solution, penalty);
            prop_assert!(fault(&problem, &solution, penalty) < 1e-2);
            let mut warm = problem.start(&[1.0, -1.0, 0.5, 0.0, 2.0]);
            problem.descend(&mut warm, penalty);
            for (cold, warm) in solution.coefficients.iter().zip(&warm.coefficients) {
                prop_assert!((cold - warm).abs() < 1e-2);
            }
        }
    }

    #[test]
    fn a_target_without_variance_needs_no_column() {
        let gram = Mat::from_fn(2, 2, |row, column| f64::from(u8::from(row == column)));
        let problem = Lasso { gram: &gram, correlation: &[0.0, 0.0], variance: 0.0 };
        assert_eq!(by_akaike(&problem, 10, 1.0, 20, 1e-3).1.coefficients, [0.0, 0.0]);
    }
}
