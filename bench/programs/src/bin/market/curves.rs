//! Every day of the Treasury's par yields through every interpolation and back.

use std::path::Path;

use bench::process::processor_seconds;
use market::algorithms::curves::{Arbitrage, Curve, Method, ParQuote};
use serde_json::json;

use crate::{Told, data};

const TERMS: [f64; 11] = [1.0 / 12.0, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 20.0, 30.0];
const BASIS_POINTS: f64 = 1e4;

/// The quotes of each day; 0.0 was not issued.
fn days(path: &Path) -> Result<Vec<(String, Vec<ParQuote>)>, crate::Fault> {
    let mut days = Vec::new();
    for row in data::rows(path)? {
        let mut quotes = Vec::new();
        for (term_years, percent) in TERMS.iter().zip(&row[1..]) {
            let percent: f64 = percent.parse()?;
            if percent != 0.0 {
                quotes.push(ParQuote { term_years: *term_years, rate: percent / 100.0 });
            }
        }
        if !quotes.is_empty() {
            days.push((row[0].clone(), quotes));
        }
    }
    Ok(days)
}

pub(crate) fn run(folder: &Path, quick: bool) -> Told {
    let mut days = days(&folder.join("treasury/ust.csv"))?;
    if quick {
        days = days.into_iter().step_by(50).collect();
    }
    let mut told = serde_json::Map::new();
    for method in Method::ALL {
        let (mut failed, mut implied_days, mut interpolated) = (Vec::new(), 0, Vec::new());
        let (mut round_trip_bp, mut curves) = (0.0_f64, 0);
        let began = processor_seconds(None)?;
        for (date, quotes) in &days {
            let Ok(curve) = Curve::bootstrap(quotes, 2, method) else {
                failed.push(date);
                continue;
            };
            curves += 1;
            for quote in quotes {
                let apart = (curve.par_rate(quote.term_years)? - quote.rate).abs() * BASIS_POINTS;
                // Written so that NaN counts as the worst.
                round_trip_bp = if apart <= round_trip_bp { round_trip_bp } else { apart };
            }
            let faults = curve.faults();
            let is_implied =
                faults.iter().any(|fault| matches!(fault, Arbitrage::ImpliedNegativeForward { .. }));
            implied_days += i32::from(is_implied);
            if faults.iter().any(|fault| matches!(fault, Arbitrage::InterpolatedNegativeForward { .. })) {
                interpolated.push(date);
            }
        }
        let name = serde_json::to_value(method)?;
        told.insert(
            name.as_str().unwrap_or_default().to_owned(),
            json!({
                "curves": curves,
                "failed": failed.len(),
                "failed_first": failed.first(),
                "round_trip_basis_points": round_trip_bp,
                "days_with_implied_negative_forwards": implied_days,
                "days_with_interpolated_negative_forwards": interpolated.len(),
                "interpolated_first": interpolated.first(),
                "cpu_seconds": processor_seconds(None)? - began,
            }),
        );
    }
    Ok(json!({ "days": days.len(), "methods": told }))
}
