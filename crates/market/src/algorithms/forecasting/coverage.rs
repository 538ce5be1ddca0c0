//! How often the truth was within the intervals, beside how often they promised it; and how good quantiles were.

use serde::Serialize;

use super::curve::{CurveQuantiles, HalfWidths};
use super::{COVERAGES, Panel, QuantileCase, QuantileReport};

/// Intervals of one nominal coverage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct IntervalReport {
    /// What was promised, 0 to 1.
    pub nominal: f64,
    /// The part of the cases that were within.
    pub covered: f64,
    /// The same by step, step 1 first.
    pub covered_by_step: Vec<f64>,
    /// Mean of the half widths, in the unit of the values.
    pub half_width: f64,
}

/// Compares intervals (by origin) around forecasts (by origin, step and target) with what came and was quoted. None for
/// origins without intervals.
pub(super) fn score(
    panel: &Panel,
    first: usize,
    forecasts: &[Vec<Vec<f64>>],
    half_widths: &[HalfWidths],
) -> Vec<IntervalReport> {
    let steps = half_widths.iter().map(Vec::len).max().unwrap_or(0);
    let of = |(index, nominal): (usize, f64)| {
        let (mut counts, mut within, mut width) = (vec![0_usize; steps], vec![0_usize; steps], 0.0);
        for (origin, (forecast, widths)) in forecasts.iter().zip(half_widths).enumerate() {
            for (step, (values, widths)) in forecast.iter().zip(widths).enumerate() {
                let Some(truth) = panel.values.get(first + origin + step + 1) else { break };
                for target in (0..truth.len()).filter(|of| panel.quoted[first + origin + step + 1][*of]) {
                    counts[step] += 1;
                    width += widths[target][index];
                    within[step] +=
                        usize::from((truth[target] - values[target]).abs() <= widths[target][index]);
                }
            }
        }
        let part = |within: usize, count: usize| within as f64 / count.max(1) as f64;
        let count: usize = counts.iter().sum();
        (count > 0).then(|| IntervalReport {
            nominal,
            covered: part(within.iter().sum(), count),
            covered_by_step: within
                .iter()
                .zip(&counts)
                .map(|(within, count)| part(*within, *count))
                .collect(),
            half_width: width / count as f64,
        })
    };
    COVERAGES.into_iter().enumerate().filter_map(of).collect()
}

/// Compares quantiles and those of persistence (by origin) with what came and was quoted. None where there are none.
pub(super) fn quantiles(
    panel: &Panel,
    first: usize,
    told: &[(CurveQuantiles, CurveQuantiles)],
) -> Option<QuantileReport> {
    let cases =
        told.iter().enumerate().flat_map(|(origin, (told, naive))| {
            told.iter().zip(naive).enumerate().flat_map(move |(step, (told, naive))| {
                let row = first + origin + step + 1;
                let truth = panel.values.get(row).zip(panel.quoted.get(row));
                truth.into_iter().flat_map(move |(truth, quoted)| {
                    let all = truth.iter().zip(quoted).zip(told.iter().zip(naive));
                    all.filter(|((_, quoted), _)| **quoted).map(|((truth, _), (quantiles, naive))| {
                        QuantileCase { truth: *truth, quantiles: *quantiles, naive: *naive }
                    })
                })
            })
        });
    QuantileReport::of(cases)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithms::forecasting::CurveType;

    #[test]
    fn what_is_within_is_counted_and_what_was_not_quoted_is_not() {
        let text = "date,price\n2020-01-01,1\n2020-01-02,2\n2020-01-03,\n2020-01-04,5\n";
        let panel = Panel::parse(text, CurveType::Commodity).unwrap();
        let forecasts = [vec![vec![1.0]], vec![vec![2.0]], vec![vec![2.0]], vec![vec![5.0]]];
        let widths = vec![vec![vec![[1.0, 4.0]]]; 4];
        let found = score(&panel, 0, &forecasts, &widths);
        let of = |index: usize| (found[index].nominal, found[index].covered, found[index].half_width);
        assert_eq!((of(0), of(1)), ((0.8, 0.5, 1.0), (0.95, 1.0, 4.0)));
        assert_eq!(found[0].covered_by_step, [0.5]);
        assert!(score(&panel, 0, &forecasts, &[]).is_empty());
        assert!(score(&panel, 0, &forecasts, &vec![Vec::new(); 4]).is_empty());
        let told = vec![(vec![vec![[2.0; 7]]], vec![vec![[1.0; 7]]]); 4];
        let found = quantiles(&panel, 0, &told).unwrap();
        assert_eq!((found.count, found.levels[0].covered, found.levels[0].naive_covered), (2, 0.5, 0.0));
        assert_eq!(quantiles(&panel, 0, &vec![(Vec::new(), Vec::new()); 4]), None);
    }
}
