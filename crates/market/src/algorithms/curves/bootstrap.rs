//! From par rates to a curve that prices every one of them at par.
//!
//! Coupons fall between quoted times, and where they do the curve between decides, which depends on the nodes again. So
//! all nodes are solved together: Newton's method on the zero rates, the derivatives by differences. Any interpolation
//! goes; a curve is only given where every quote comes back within a millionth of a basis point.

use super::interpolation::{Interpolant, Method};
use super::{CurveFault, ParQuote};

const ITERATIONS_MAX: usize = 40;
const STEP: f64 = 1e-7;
/// 1e-6 basis points.
const ACCEPTED: f64 = 1e-10;
const AIMED: f64 = 1e-15;
const ZERO_RATE_MAX: f64 = 2.0;

/// The par rate of a bond that pays `frequency` coupons a year, the first of them short where the term is no multiple.
pub(super) fn par_rate(curve: &Interpolant, term: f64, frequency: u32) -> f64 {
    let period = 1.0 / f64::from(frequency);
    let count = (term / period - 1e-9).ceil().max(1.0) as usize;
    let first = term - (count - 1) as f64 * period;
    let discount = |time: f64| (-curve.at(time).log).exp();
    let mut annuity = first * discount(first);
    for coupon in 1..count {
        annuity += period * discount(first + coupon as f64 * period);
    }
    (1.0 - discount(term)) / annuity
}

/// Continuously compounded zero rates at the quoted terms.
pub(super) fn zeros(quotes: &[ParQuote], frequency: u32, method: Method) -> Result<Vec<f64>, CurveFault> {
    let times: Vec<f64> = quotes.iter().map(|quote| quote.term_years).collect();
    let errors = |zeros: &[f64]| -> Vec<f64> {
        let curve = Interpolant::new(method, &times, zeros);
        quotes.iter().map(|quote| par_rate(&curve, quote.term_years, frequency) - quote.rate).collect()
    };
    let compounded = |rate: f64| f64::from(frequency) * (rate / f64::from(frequency)).ln_1p();
    let mut zeros: Vec<f64> = quotes.iter().map(|quote| compounded(quote.rate)).collect();
    let mut now = errors(&zeros);
    for _ in 0..ITERATIONS_MAX {
        if largest(&now) <= AIMED {
            break;
        }
        let Some(step) = newton_step(&zeros, &now, &errors) else { break };
        // Half the step while it makes matters worse: the curves bend where a section changes its form.
        let mut share = 1.0;
        let found = loop {
            let tried: Vec<f64> = zeros.iter().zip(&step).map(|(zero, step)| zero - share * step).collect();
            let after = errors(&tried);
            if largest(&after) < largest(&now) {
                break Some((tried, after));
            }
            share *= 0.5;
            if share < 1e-3 {
                break None;
            }
        };
        let Some(better) = found else { break };
        (zeros, now) = better;
    }
    // A last quote can be met by a curve that makes all later money worthless; nobody meant that one.
    let is_sane = zeros.iter().all(|zero| zero.abs() < ZERO_RATE_MAX);
    if is_sane && largest(&now) <= ACCEPTED { Ok(zeros) } else { Err(CurveFault::NoCurve) }
}

/// The largest magnitude; NaN counts as infinite.
fn largest(errors: &[f64]) -> f64 {
    errors.iter().fold(0.0, |most, error| if error.is_nan() { f64::INFINITY } else { most.max(error.abs()) })
}

fn newton_step(zeros: &[f64], now: &[f64], errors: &impl Fn(&[f64]) -> Vec<f64>) -> Option<Vec<f64>> {
    let count = zeros.len();
    let mut rows = vec![vec![0.0; count + 1]; count];
    let mut moved = zeros.to_vec();
    for column in 0..count {
        moved[column] = zeros[column] + STEP;
        for (row, (after, before)) in rows.iter_mut().zip(errors(&moved).iter().zip(now)) {
            row[column] = (after - before) / STEP;
        }
        moved[column] = zeros[column];
    }
    for (row, error) in rows.iter_mut().zip(now) {
        row[count] = *error;
    }
    solve(rows)
}

/// Gaussian elimination with the largest pivot of each column; none where the rows are not independent.
fn solve(mut rows: Vec<Vec<f64>>) -> Option<Vec<f64>> {
    let count = rows.len();
    for column in 0..count {
        let pivot = (column..count)
            .max_by(|one, two| rows[*one][column].abs().total_cmp(&rows[*two][column].abs()))?;
        rows.swap(column, pivot);
        let (upper, lower) = rows.split_at_mut(column + 1);
        let pivot = &upper[column];
        if !pivot[column].is_normal() {
            return None;
        }
        for row in lower {
            let factor = row[column] / pivot[column];
            for place in column..=count {
                row[place] -= factor * pivot[place];
            }
        }
    }
    let mut solution = vec![0.0; count];
    for place in (0..count).rev() {
        let known: f64 = (place + 1..count).map(|other| rows[place][other] * solution[other]).sum();
        solution[place] = (rows[place][count] - known) / rows[place][place];
    }
    Some(solution)
}
