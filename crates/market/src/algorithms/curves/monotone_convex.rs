//! The monotone convex method: P. Hagan & G. West, "Interpolation methods for curve construction", Applied Mathematical
//! Finance 13 (2006), section 6, with their collar that keeps forwards positive.
//!
//! Within a section the forward is the implied one plus a correction `g` on x from 0 to 1 whose integral is zero, so that
//! discount factors at the nodes are met exactly. `g` is monotone where its neighbours say so.

use super::ROUNDING;

/// Instantaneous forwards at the nodes: weighted means of the implied ones beside them, kept within bounds.
pub(super) fn node_forwards(times: &[f64], logs: &[f64]) -> Vec<f64> {
    let width = |place: usize| times[place] - times[place - 1];
    let implied: Vec<f64> =
        (1..times.len()).map(|place| (logs[place] - logs[place - 1]) / width(place)).collect();
    let count = implied.len();
    if count == 1 {
        return vec![implied[0]; 2];
    }
    let mut forwards = vec![0.0; count + 1];
    for place in 1..count {
        let (left, right) = (width(place), width(place + 1));
        let mean = (left * implied[place] + right * implied[place - 1]) / (left + right);
        forwards[place] = collared(mean, (implied[place - 1], implied[place]));
    }
    forwards[0] = collared(implied[0] - 0.5 * (forwards[1] - implied[0]), (implied[0], implied[0]));
    let last = implied[count - 1];
    forwards[count] = collared(last - 0.5 * (forwards[count - 1] - last), (last, last));
    forwards
}

/// Between zero and twice the lower of the implied forwards beside the node, so that both sections stay positive. Where
/// one of them is negative the node is at zero or above for the sake of the other; where both are there is nothing to
/// keep.
fn collared(forward: f64, (left, right): (f64, f64)) -> f64 {
    let lower = left.min(right);
    // Two bills that cost the same imply a forward of zero, which rounding may put just below.
    if lower >= -ROUNDING {
        forward.clamp(0.0, 2.0 * lower.max(0.0))
    } else if left.max(right) >= 0.0 {
        forward.max(0.0)
    } else {
        forward
    }
}

/// The correction at `x` and its integral from 0 to `x`, from the corrections at both ends.
pub(super) fn section((start, end): (f64, f64), x: f64) -> (f64, f64) {
    if start == 0.0 && end == 0.0 {
        return (0.0, 0.0);
    }
    let is_opposite = start * end <= 0.0;
    if !is_opposite {
        return both_sides(start, end, x);
    }
    let (small, large) = (start.abs() * 0.5, start.abs() * 2.0);
    if end.abs() > large {
        late(start, end, x)
    } else if end.abs() < small {
        early(start, end, x)
    } else {
        quadratic(start, end, x)
    }
}

/// Region i: one parabola is monotone.
fn quadratic(start: f64, end: f64, x: f64) -> (f64, f64) {
    let square = x * x;
    let value = start * (1.0 - 4.0 * x + 3.0 * square) + end * (3.0 * square - 2.0 * x);
    let integral = start * (x - 2.0 * square + square * x) + end * (square * x - square);
    (value, integral)
}

/// Region ii: flat, then a parabola up to the end.
fn late(start: f64, end: f64, x: f64) -> (f64, f64) {
    let turn = (end + 2.0 * start) / (end - start);
    let (value, integral) = rise((x - turn).max(0.0), 1.0 - turn);
    (start + (end - start) * value, start * x + (end - start) * integral)
}

/// Region iii: a parabola from the start, then flat.
fn early(start: f64, end: f64, x: f64) -> (f64, f64) {
    let turn = 3.0 * end / (end - start);
    let (value, integral) = rise((turn - x).max(0.0), turn);
    (end + (start - end) * value, end * x + (start - end) * (turn / 3.0 - integral))
}

/// Region iv: both ends on one side, with a valley between them on the other.
fn both_sides(start: f64, end: f64, x: f64) -> (f64, f64) {
    let turn = end / (end + start);
    let valley = -start * end / (start + end);
    let (down, down_integral) = rise((turn - x).max(0.0), turn);
    let (up, up_integral) = rise((x - turn).max(0.0), 1.0 - turn);
    let value = valley + (start - valley) * down + (end - valley) * up;
    let integral =
        valley * x + (start - valley) * (turn / 3.0 - down_integral) + (end - valley) * up_integral;
    (value, integral)
}

/// A parabola from 0 to 1 over `width`, and its integral; a step where the width is nothing.
fn rise(along: f64, width: f64) -> (f64, f64) {
    if along <= 0.0 || width <= 0.0 {
        return (0.0, 0.0);
    }
    let share = (along / width).min(1.0);
    (share * share, along * share * share / 3.0)
}
