//! Piecewise cubic Hermite interpolation that keeps the data's monotonicity: F. Fritsch & R. Carlson, "Monotone
//! piecewise cubic interpolation", SIAM J. Numer. Anal. 17 (1980), with the slopes of F. Fritsch & J. Butland, "A method
//! for constructing local monotone piecewise cubic interpolants", SIAM J. Sci. Stat. Comput. 5 (1984).

/// The slopes at the nodes. Times rise; there are at least two.
pub(super) fn slopes(times: &[f64], values: &[f64]) -> Vec<f64> {
    let widths: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let secants: Vec<f64> =
        values.windows(2).zip(&widths).map(|(pair, width)| (pair[1] - pair[0]) / width).collect();
    let count = times.len();
    if count == 2 {
        return vec![secants[0]; 2];
    }
    let mut slopes = vec![0.0; count];
    for place in 1..count - 1 {
        slopes[place] = inner((secants[place - 1], secants[place]), (widths[place - 1], widths[place]));
    }
    slopes[0] = end((secants[0], secants[1]), (widths[0], widths[1]));
    let last = secants.len() - 1;
    slopes[count - 1] = end((secants[last], secants[last - 1]), (widths[last], widths[last - 1]));
    slopes
}

/// A weighted harmonic mean, or nothing where the data turn.
fn inner((left, right): (f64, f64), (left_width, right_width): (f64, f64)) -> f64 {
    if left * right <= 0.0 {
        return 0.0;
    }
    let (one, two) = (2.0 * right_width + left_width, right_width + 2.0 * left_width);
    (one + two) / (one / left + two / right)
}

/// The slope of a parabola through three points, kept where a cubic stays monotone.
fn end((near, far): (f64, f64), (near_width, far_width): (f64, f64)) -> f64 {
    let slope = ((2.0 * near_width + far_width) * near - near_width * far) / (near_width + far_width);
    if slope * near <= 0.0 {
        0.0
    } else if near * far <= 0.0 && slope.abs() > 3.0 * near.abs() {
        3.0 * near
    } else {
        slope
    }
}

/// Value and slope at the share `x` of a section.
pub(super) fn section((low, high): (f64, f64), (start, end): (f64, f64), width: f64, x: f64) -> (f64, f64) {
    let secant = (high - low) / width;
    let (two, three) = (3.0 * secant - 2.0 * start - end, start + end - 2.0 * secant);
    (low + width * x * (start + x * (two + x * three)), start + x * (2.0 * two + x * 3.0 * three))
}
