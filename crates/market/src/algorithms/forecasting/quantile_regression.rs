//! Quantile regression (Koenker and Bassett 1978) on few columns, by the interior point method that Portnoy and Koenker 1997
//! call Frisch-Newton, with Mehrotra's corrector.
//!
//! The problem is a linear program; the gap to its dual says how far a solution is from the best, and it ends where the gap is
//! a hundred-millionth of the spread of the targets for each row. Columns are made orthogonal first; one that is a sum of others
//! counts for nothing. It refuses nothing: rows without a spread have a constant for an answer.

use serde::{Deserialize, Serialize};

use super::matrix::median;

/// Of a row, in mean absolute deviations of the targets.
const GAP: f64 = 1e-8;
const STEPS_MAX: usize = 60;
/// How far of the way to the border a step goes.
const BORDER: f64 = 0.999_95;
/// What is left of a column beside others, below which it is a sum of them. Windows of one history that only differ on its last days
/// are: a coefficient that is learned on so little may have any size.
const INDEPENDENT: f64 = 1e-2;
/// Of a residual, so that both sides of a row stay inside.
const LEAST: f64 = 1e-3;

/// Rows that targets are regressed on, for all levels.
#[derive(Debug)]
pub(super) struct Rows {
    /// The constant and what is left of each column beside those before it, each of mean square one.
    basis: Vec<Vec<f64>>,
    /// Of each in the basis but the constant: which column it is of.
    columns: Vec<usize>,
    /// Of each in the basis, how much of each of the basis its column has.
    parts: Vec<Vec<f64>>,
    /// How many columns were given.
    width: usize,
}

/// A line: a constant, and a coefficient for each column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    pub(super) constant: f64,
    pub(super) coefficients: Vec<f64>,
}

impl Rows {
    /// Of columns that all have a value for each row.
    pub(super) fn of(columns: &[Vec<f64>]) -> Self {
        let rows = columns.first().map_or(0, Vec::len);
        let mut found = Self {
            basis: vec![vec![1.0; rows]],
            columns: Vec::new(),
            parts: vec![vec![1.0]],
            width: columns.len(),
        };
        for (number, column) in columns.iter().enumerate() {
            found.add(number, column);
        }
        found
    }

    fn add(&mut self, number: usize, column: &[f64]) {
        let rows = column.len() as f64;
        let mean = column.iter().sum::<f64>() / rows;
        let mut left: Vec<f64> = column.iter().map(|value| value - mean).collect();
        let spread = (dot(&left, &left) / rows).sqrt();
        let mut parts = vec![0.0; self.basis.len()];
        parts[0] = mean;
        // Twice, so that what rounding left of the others goes too.
        for _ in 0..2 {
            for (part, other) in parts.iter_mut().zip(&self.basis) {
                let shared = dot(&left, other) / rows;
                *part += shared;
                left.iter_mut().zip(other).for_each(|(value, other)| *value -= shared * other);
            }
        }
        let size = (dot(&left, &left) / rows).sqrt();
        let varies = spread > f64::EPSILON * mean.abs();
        if !varies || size <= INDEPENDENT * spread {
            return;
        }
        left.iter_mut().for_each(|value| *value /= size);
        parts.push(size);
        self.basis.push(left);
        self.columns.push(number);
        self.parts.push(parts);
    }

    /// The line below which a part `level` of the targets lies.
    pub(super) fn fit(&self, targets: &[f64], level: f64) -> Line {
        let middle = median(&mut targets.to_vec());
        let away = targets.iter().map(|value| (value - middle).abs()).sum::<f64>();
        let scale = away / targets.len().max(1) as f64;
        if !(scale > 0.0 && scale.is_finite()) {
            return Line { constant: middle, coefficients: vec![0.0; self.width] };
        }
        let scaled: Vec<f64> = targets.iter().map(|value| (value - middle) / scale).collect();
        let mut left: Vec<f64> = Program::new(&self.basis, &scaled, level).solve();
        left.iter_mut().for_each(|value| *value *= scale);
        // From the last to the first: each column's share of those before it is known then.
        let mut line = Line { constant: middle, coefficients: vec![0.0; self.width] };
        for place in (1..self.basis.len()).rev() {
            let coefficient = left[place] / self.parts[place][place];
            line.coefficients[self.columns[place - 1]] = coefficient;
            for (left, part) in left.iter_mut().zip(&self.parts[place][..place]) {
                *left -= coefficient * part;
            }
        }
        line.constant += left[0];
        line
    }
}

impl Line {
    pub(super) fn at(&self, row: impl Iterator<Item = f64>) -> f64 {
        self.constant
            + row.zip(&self.coefficients).map(|(value, coefficient)| value * coefficient).sum::<f64>()
    }
}

/// The dual program: minimise `-targets · x` where `basis · x` stays what it is at the start and each `x` is from 0 to 1. Its
/// multipliers are the line.
struct Program<'a> {
    basis: &'a [Vec<f64>],
    targets: &'a [f64],
    /// `basis · x`.
    sums: Vec<f64>,
    /// Less the coefficients.
    multipliers: Vec<f64>,
    /// By row: how far it is from 0 and from 1, and the multipliers of these two bounds.
    rows: Vec<[f64; 4]>,
}

impl<'a> Program<'a> {
    fn new(basis: &'a [Vec<f64>], targets: &'a [f64], level: f64) -> Self {
        let count = targets.len() as f64;
        let sums = basis.iter().map(|column| (1.0 - level) * column.iter().sum::<f64>()).collect();
        // Least squares, for the basis is orthogonal.
        let multipliers: Vec<f64> = basis.iter().map(|column| -dot(column, targets) / count).collect();
        let row = |(row, target): (usize, &f64)| {
            let told: f64 = basis.iter().zip(&multipliers).map(|(column, value)| column[row] * value).sum();
            let residual = -target - told;
            let inside = if residual.abs() < LEAST { LEAST } else { 0.0 };
            [1.0 - level, level, residual.max(0.0) + inside, (-residual).max(0.0) + inside]
        };
        let rows = targets.iter().enumerate().map(row).collect();
        Self { basis, targets, sums, multipliers, rows }
    }

    /// The coefficients of the basis.
    fn solve(mut self) -> Vec<f64> {
        let enough = GAP * self.targets.len() as f64;
        for _ in 0..STEPS_MAX {
            if self.gap() <= enough || !self.step() {
                break;
            }
        }
        self.multipliers.iter().map(|value| -value).collect()
    }

    /// How much better the best may be.
    fn gap(&self) -> f64 {
        let rows: f64 =
            self.rows.iter().zip(self.targets).map(|(row, target)| row[3] - target * row[0]).sum();
        rows - dot(&self.multipliers, &self.sums)
    }

    /// One step of Newton and its correction. False where there is none to be made.
    fn step(&mut self) -> bool {
        let weights: Vec<f64> =
            self.rows.iter().map(|[low, high, below, above]| 1.0 / (below / low + above / high)).collect();
        let pulls: Vec<f64> = self.rows.iter().map(|row| row[2] - row[3]).collect();
        let Some(factor) = self.normal(&weights) else { return false };
        let straight = self.direction(&factor, &weights, &pulls, |_, _| [0.0; 2]);
        let (primal, dual) = self.lengths(&straight.rows);
        let products = |row: &[f64; 4]| row[0] * row[2] + row[1] * row[3];
        let now: f64 = self.rows.iter().map(products).sum();
        let then: f64 = self
            .rows
            .iter()
            .zip(&straight.rows)
            .map(|(row, way)| products(&moved(row, way, primal, dual)))
            .sum();
        let centre = now * (then / now).powi(3) / (2.0 * self.rows.len() as f64);
        let bent = self.direction(&factor, &weights, &pulls, |row, [low, high, ..]| {
            let way = straight.rows[row];
            [(centre - way[0] * way[2]) / low, (centre - way[1] * way[3]) / high]
        });
        let (primal, dual) = self.lengths(&bent.rows);
        if !(primal > 0.0 && dual > 0.0 && bent.multipliers.iter().all(|value| value.is_finite())) {
            return false;
        }
        for (row, way) in self.rows.iter_mut().zip(&bent.rows) {
            *row = moved(row, way, primal, dual);
        }
        self.multipliers.iter_mut().zip(&bent.multipliers).for_each(|(value, way)| *value += dual * way);
        true
    }

    /// Where to go: `aims` has for each row what each of its two products is to be, over the distance to its bound.
    fn direction(
        &self,
        factor: &[Vec<f64>],
        weights: &[f64],
        pulls: &[f64],
        aims: impl Fn(usize, &[f64; 4]) -> [f64; 2],
    ) -> Direction {
        let aims: Vec<[f64; 2]> = self.rows.iter().enumerate().map(|(at, row)| aims(at, row)).collect();
        let wanted: Vec<f64> = pulls.iter().zip(&aims).map(|(pull, [low, high])| pull - low + high).collect();
        let weighted: Vec<f64> = wanted.iter().zip(weights).map(|(value, weight)| value * weight).collect();
        let right = self.basis.iter().map(|column| dot(column, &weighted)).collect();
        let multipliers = solve(factor, right);
        let row = |at: usize| {
            let [low, high, below, above] = self.rows[at];
            let told: f64 =
                self.basis.iter().zip(&multipliers).map(|(column, value)| column[at] * value).sum();
            let way = weights[at] * (told - wanted[at]);
            let [aim_low, aim_high] = aims[at];
            [way, -way, aim_low - below - below * way / low, aim_high - above + above * way / high]
        };
        let rows = (0..self.rows.len()).map(row).collect();
        Direction { multipliers, rows }
    }

    /// The factor of Cholesky of `basis · weights · basisᵀ`, lower rows; none where it has none.
    fn normal(&self, weights: &[f64]) -> Option<Vec<Vec<f64>>> {
        let width = self.basis.len();
        let mut factor: Vec<Vec<f64>> = Vec::with_capacity(width);
        for one in 0..width {
            let weighted: Vec<f64> =
                self.basis[one].iter().zip(weights).map(|(v, weight)| v * weight).collect();
            let mut row = Vec::with_capacity(one + 1);
            for two in 0..=one {
                let known: &[f64] = if two < one { &factor[two] } else { &row };
                let rest = dot(&weighted, &self.basis[two]) - dot(&row[..two], &known[..two]);
                let value = if two < one { rest / factor[two][two] } else { rest.sqrt() };
                if !value.is_finite() || (two == one && value <= 0.0) {
                    return None;
                }
                row.push(value);
            }
            factor.push(row);
        }
        Some(factor)
    }

    /// How far one may go, for what is bounded and for the multipliers, at most all of the way.
    fn lengths(&self, ways: &[[f64; 4]]) -> (f64, f64) {
        let mut most = [f64::INFINITY; 2];
        for (row, way) in self.rows.iter().zip(ways) {
            for (at, (value, step)) in row.iter().zip(way).enumerate() {
                if *step < 0.0 {
                    most[at / 2] = most[at / 2].min(-value / step);
                }
            }
        }
        let [primal, dual] = most.map(|most| (BORDER * most).min(1.0));
        (primal, dual)
    }
}

struct Direction {
    multipliers: Vec<f64>,
    rows: Vec<[f64; 4]>,
}

fn moved(row: &[f64; 4], way: &[f64; 4], primal: f64, dual: f64) -> [f64; 4] {
    let length = [primal, primal, dual, dual];
    std::array::from_fn(|at| row[at] + length[at] * way[at])
}

/// Of a factor of Cholesky.
fn solve(factor: &[Vec<f64>], mut right: Vec<f64>) -> Vec<f64> {
    for one in 0..right.len() {
        right[one] = (right[one] - dot(&factor[one][..one], &right[..one])) / factor[one][one];
    }
    for one in (0..right.len()).rev() {
        let after: f64 = (one + 1..right.len()).map(|two| factor[two][one] * right[two]).sum();
        right[one] = (right[one] - after) / factor[one][one];
    }
    right
}

fn dot(left: &[f64], right: &[f64]) -> f64 {
    left.iter().zip(right).map(|(left, right)| left * right).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn loss(line: &Line, columns: &[Vec<f64>], targets: &[f64], level: f64) -> f64 {
        let of = |(row, target): (usize, &f64)| {
            let away = target - line.at(columns.iter().map(|column| column[row]));
            (level * away).max((level - 1.0) * away)
        };
        targets.iter().enumerate().map(of).sum()
    }

    /// The best line goes through as many targets as it has coefficients: all pairs are tried.
    fn best(column: &[f64], targets: &[f64], level: f64) -> f64 {
        let mut least = f64::INFINITY;
        for one in 0..targets.len() {
            for two in 0..one {
                let slope = (targets[one] - targets[two]) / (column[one] - column[two]);
                let line = Line { constant: targets[one] - slope * column[one], coefficients: vec![slope] };
                let found = loss(&line, &[column.to_vec()], targets, level);
                least = if found.is_finite() { least.min(found) } else { least };
            }
        }
        least
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn no_line_through_two_targets_is_better(
            values in proptest::collection::vec((-5.0..5.0_f64, -50.0..50.0_f64), 4..25),
            level in 0.05..0.95_f64,
        ) {
            let (column, targets): (Vec<f64>, Vec<f64>) = values.into_iter().unzip();
            let columns = [column];
            let line = Rows::of(&columns).fit(&targets, level);
            let (found, least) = (loss(&line, &columns, &targets, level), best(&columns[0], &targets, level));
            prop_assert!(found <= least + 1e-5 * targets.len() as f64, "{} {}", found, least);
        }

        #[test]
        fn columns_that_are_sums_of_others_change_nothing(
            values in proptest::collection::vec((-5.0..5.0_f64, -5.0..5.0_f64, -5.0..5.0_f64), 12..40),
        ) {
            let one: Vec<f64> = values.iter().map(|row| row.0).collect();
            let two: Vec<f64> = values.iter().map(|row| row.1).collect();
            let targets: Vec<f64> = values.iter().map(|row| row.2).collect();
            let sum: Vec<f64> = one.iter().zip(&two).map(|(one, two)| 2.0 * one - two + 7.0).collect();
            let (few, many) = (vec![one.clone(), two.clone()], vec![one, two, sum, vec![3.0; values.len()]]);
            for level in [0.1, 0.5, 0.9] {
                let left = loss(&Rows::of(&few).fit(&targets, level), &few, &targets, level);
                let right = loss(&Rows::of(&many).fit(&targets, level), &many, &targets, level);
                prop_assert!((left - right).abs() <= 1e-5 * targets.len() as f64);
            }
        }
    }

    #[test]
    fn without_columns_it_is_the_quantile_and_ties_are_no_fault() {
        let targets: Vec<f64> = (0..101).map(f64::from).collect();
        let constant = Rows::of(&[vec![4.0; 101]]);
        assert!((constant.fit(&targets, 0.25).at([4.0].into_iter()) - 25.0).abs() < 1.0);
        let ties: Vec<f64> = (0..60).map(|row| f64::from(row % 3)).collect();
        let columns = [ties.clone(), (0..60).map(|row| f64::from(row % 2)).collect()];
        let line = Rows::of(&columns).fit(&ties, 0.5);
        assert!(loss(&line, &columns, &ties, 0.5) < 1e-4, "{line:?}");
        let flat = Rows::of(&columns).fit(&[5.0; 60], 0.9);
        assert_eq!((flat.constant, flat.coefficients), (5.0, vec![0.0, 0.0]));
    }
}
