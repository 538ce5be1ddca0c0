//! Intervals around day-ahead prices: conformal, each hour by its own errors of the days before (Kath and Ziel 2021).

use super::market::HOURS;
use crate::algorithms::forecasting::COVERAGES;
use crate::algorithms::forecasting::conformal;

/// Half widths of each hour of each day, at [`COVERAGES`], from the absolute errors of the `memory_days` days before it.
/// `None` for days with fewer days before them, and where those are too few for a coverage.
///
/// The errors of a day are known the day before the next is forecast, so nothing here sees the day that it is for.
#[must_use]
pub fn half_widths(
    forecasts: &[[f64; HOURS]],
    prices: &[[f64; HOURS]],
    memory_days: usize,
) -> Vec<Option<[[f64; COVERAGES.len()]; HOURS]>> {
    let day = |day: usize| {
        let days = day.checked_sub(memory_days)?..day;
        let mut widths = [[0.0; COVERAGES.len()]; HOURS];
        for (hour, width) in widths.iter_mut().enumerate() {
            let error = |day: usize| (forecasts[day][hour] - prices[day][hour]).abs();
            *width = conformal::half_widths(&mut days.clone().map(error).collect::<Vec<_>>())?;
        }
        Some(widths)
    };
    (0..forecasts.len().min(prices.len())).map(day).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_of_the_days_before_only() {
        let prices: Vec<[f64; HOURS]> = (0..60).map(|day| [f64::from((day * 37) % 61); HOURS]).collect();
        let forecasts: Vec<[f64; HOURS]> = prices.iter().map(|_| [0.0; HOURS]).collect();
        let widths = half_widths(&forecasts, &prices, 40);
        assert!(widths[..40].iter().all(Option::is_none));
        assert_eq!(widths[45].unwrap(), half_widths(&forecasts[..46], &prices[..46], 40)[45].unwrap());
        let within = (40..60).filter(|day| prices[*day][7] <= widths[*day].unwrap()[7][0]).count();
        assert!((12..=20).contains(&within), "{within}");
        assert!(half_widths(&forecasts, &prices, 5)[50].is_none(), "five errors promise no 95 percent");
        assert!(half_widths(&[], &[], 5).is_empty());
    }
}
