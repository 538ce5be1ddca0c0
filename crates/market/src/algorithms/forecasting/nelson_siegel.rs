//! Level, slope and curvature of a curve (Nelson and Siegel 1987), with the decay of Diebold and Li 2006.
//!
//! It refuses curves of fewer than four tenors, which three factors would fit without a rest.

use faer::Mat;

use super::{ForecastFault, matrix};

/// Of a year: the curvature is largest at about two and a half years (0.0609 a month in Diebold and Li).
const DECAY: f64 = 0.7;

/// The three factors of curves with given tenors.
#[derive(Debug)]
pub(super) struct NelsonSiegel {
    /// Tenors × factors.
    loadings: Mat<f64>,
    /// Factors × tenors: least squares.
    projection: Mat<f64>,
}

impl NelsonSiegel {
    /// For curves of these tenors in years.
    ///
    /// # Errors
    /// [`ForecastFault::Singular`] for fewer than four different tenors.
    pub(super) fn new(tenors_years: &[f64]) -> Result<Self, ForecastFault> {
        let is_new = |index: &usize| !tenors_years[..*index].contains(&tenors_years[*index]);
        if (0..tenors_years.len()).filter(is_new).count() < 4 {
            return Err(ForecastFault::Singular);
        }
        let loadings = Mat::from_fn(tenors_years.len(), 3, |tenor, factor| {
            let place = DECAY * tenors_years[tenor];
            let slope = -(-place).exp_m1() / place;
            [1.0, slope, slope - (-place).exp()][factor]
        });
        let gram = matrix::transposed_product(loadings.as_ref(), loadings.as_ref());
        let projection = matrix::solve(&gram, &loadings.transpose().to_owned())?;
        Ok(Self { loadings, projection })
    }

    /// Level, slope and curvature.
    pub(super) fn factors(&self, curve: &[f64]) -> [f64; 3] {
        let sum = |factor| {
            curve.iter().enumerate().map(|(tenor, value)| self.projection[(factor, tenor)] * value).sum()
        };
        std::array::from_fn(sum)
    }

    /// The curve of factors.
    pub(super) fn curve(&self, factors: [f64; 3]) -> Vec<f64> {
        let value = |tenor| (0..3).map(|factor| self.loadings[(tenor, factor)] * factors[factor]).sum();
        (0..self.loadings.nrows()).map(value).collect()
    }

    /// What the factors leave over of a curve.
    pub(super) fn rest(&self, curve: &[f64]) -> Vec<f64> {
        let smooth = self.curve(self.factors(curve));
        curve.iter().zip(smooth).map(|(value, smooth)| value - smooth).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_of_factors_leaves_nothing_over() {
        let model = NelsonSiegel::new(&[0.25, 1.0, 2.0, 5.0, 10.0, 30.0]).unwrap();
        let curve = model.curve([4.0, -2.0, 1.0]);
        assert!(model.rest(&curve).iter().all(|rest| rest.abs() < 1e-9));
        assert!((model.factors(&curve)[1] + 2.0).abs() < 1e-9);
        assert!(NelsonSiegel::new(&[1.0, 2.0, 3.0]).is_err());
        assert!(NelsonSiegel::new(&[1.0; 5]).is_err());
    }
}
