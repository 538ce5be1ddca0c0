//! Curves against bonds priced coupon by coupon, and forwards against what the nodes imply.

use jiff::civil::{DateTime, date};
use proptest::prelude::*;

use super::seasonal::{SeasonalShape, ShapeFault, ShapeKind};
use super::*;

const BASIS_POINT: f64 = 1e-4;

fn quotes(pairs: &[(f64, f64)]) -> Vec<ParQuote> {
    pairs
        .iter()
        .map(|(term_years, percent)| ParQuote { term_years: *term_years, rate: percent / 100.0 })
        .collect()
}

/// The Treasury's par yields of 2022-03-11, and the steep and humped ones of 1990 and 2006.
fn treasuries() -> [Vec<ParQuote>; 3] {
    let terms = [1.0 / 12.0, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 20.0, 30.0];
    let with = |rates: [f64; 11]| {
        let issued: Vec<_> = terms.into_iter().zip(rates).filter(|(_, rate)| *rate != 0.0).collect();
        quotes(&issued)
    };
    [
        with([0.17, 0.4, 0.78, 1.22, 1.75, 1.91, 1.96, 2.01, 2.0, 2.45, 2.36]),
        with([0.0, 7.83, 7.89, 7.81, 7.87, 7.9, 7.87, 7.98, 7.94, 0.0, 8.0]),
        with([5.24, 5.13, 5.15, 5.04, 4.79, 4.73, 4.69, 4.7, 4.76, 4.97, 4.88]),
    ]
}

/// Coupon by coupon, with nothing of the bootstrap.
fn price_at_par(curve: &Curve, quote: &ParQuote) -> f64 {
    let halves = (quote.term_years * 2.0).round() as usize;
    if quote.term_years < 0.5 {
        return (1.0 + quote.rate * quote.term_years) * curve.discount(quote.term_years);
    }
    let coupons: f64 = (1..=halves).map(|half| quote.rate / 2.0 * curve.discount(half as f64 / 2.0)).sum();
    coupons + curve.discount(quote.term_years)
}

#[test]
fn every_quote_is_priced_at_par() {
    for day in treasuries() {
        for method in Method::ALL {
            let curve = Curve::bootstrap(&day, 2, method).unwrap();
            for quote in &day {
                let par = curve.par_rate(quote.term_years).unwrap();
                assert!((par - quote.rate).abs() < 1e-6 * BASIS_POINT, "{method:?} {quote:?} {par}");
                assert!((price_at_par(&curve, quote) - 1.0).abs() < 1e-9, "{method:?} {quote:?}");
            }
        }
    }
}

#[test]
fn forwards_are_the_slope_of_the_curve() {
    for day in treasuries() {
        for method in Method::ALL {
            let curve = Curve::bootstrap(&day, 2, method).unwrap();
            for step in 1..700 {
                let time = 0.0503 * f64::from(step);
                let slope = curve.forward_between(time - 1e-5, time + 1e-5);
                let forward = curve.point(time).forward_rate;
                assert!((slope - forward).abs() < 1e-5, "{method:?} {time}: {slope} {forward}");
            }
        }
    }
}

#[test]
fn smooth_curves_have_no_jumps_in_forwards() {
    for day in treasuries() {
        for method in [Method::MonotoneConvex, Method::Pchip] {
            let curve = Curve::bootstrap(&day, 2, method).unwrap();
            for quote in &day[..day.len() - 1] {
                let before = curve.point(quote.term_years - 1e-9).forward_rate;
                let after = curve.point(quote.term_years + 1e-9).forward_rate;
                assert!((before - after).abs() < 1e-6, "{method:?} {quote:?}: {before} {after}");
            }
        }
    }
}

#[test]
fn a_flat_curve_is_flat() {
    let flat = quotes(&[(0.5, 4.0), (1.0, 4.0), (2.0, 4.0), (10.0, 4.0)]);
    let expected = 2.0 * 1.02_f64.ln();
    for method in Method::ALL {
        let curve = Curve::bootstrap(&flat, 2, method).unwrap();
        for time in [0.0, 0.5, 1.3, 7.0, 10.0, 40.0] {
            assert!((curve.point(time).zero_rate - expected).abs() < 1e-9, "{method:?} {time}");
        }
        assert!(curve.faults().is_empty());
        assert_eq!(curve.snapshot(1.0, 12).len(), 12);
        assert!((curve.discount(0.0) - 1.0).abs() < 1e-15);
    }
}

#[test]
fn what_cannot_be_a_curve_is_refused() {
    let check = |pairs: &[(f64, f64)], fault: &CurveFault| {
        let found = Curve::bootstrap(&quotes(pairs), 2, Method::default()).unwrap_err();
        assert_eq!(found.to_string(), fault.to_string(), "{pairs:?}");
    };
    check(&[], &CurveFault::Count);
    check(&[(1.0, 5.0), (1.0, 5.0)], &CurveFault::Term(1.0));
    check(&[(0.0, 5.0)], &CurveFault::Term(0.0));
    check(&[(f64::NAN, 5.0)], &CurveFault::Term(f64::NAN));
    check(&[(1.0, f64::NAN)], &CurveFault::Rate(f64::NAN));
    check(&[(1.0, 500.0)], &CurveFault::Rate(5.0));
    check(&[(1.0, 1.0), (30.0, 90.0)], &CurveFault::NoCurve);
    assert!(matches!(
        Curve::bootstrap(&quotes(&[(1.0, 5.0)]), 0, Method::Linear),
        Err(CurveFault::Frequency)
    ));
    let one = Curve::bootstrap(&quotes(&[(1.0, 5.0)]), 2, Method::MonotoneConvex).unwrap();
    assert!(one.par_rate(0.0).is_err() && (one.par_rate(1.0).unwrap() - 0.05).abs() < 1e-12);
}

#[test]
fn negative_forwards_are_told_with_who_made_them() {
    let implied = quotes(&[(1.0, 5.0), (2.0, 2.0)]);
    for method in Method::ALL {
        let faults = Curve::bootstrap(&implied, 2, method).unwrap().faults();
        assert!(
            faults.iter().any(|fault| matches!(fault, Arbitrage::ImpliedNegativeForward { .. })),
            "{method:?} {faults:?}"
        );
    }
    // A section whose neighbour is negative keeps its own forwards above zero.
    let beside = quotes(&[(1.0, 5.0), (2.0, 2.0), (3.0, 2.5), (5.0, 2.6)]);
    for method in [Method::FlatForward, Method::MonotoneConvex, Method::Pchip] {
        let faults = Curve::bootstrap(&beside, 2, method).unwrap().faults();
        assert!(matches!(faults[..], [Arbitrage::ImpliedNegativeForward { .. }]), "{method:?} {faults:?}");
    }
    // Two bills of one price imply a forward of zero between them.
    let same = quotes(&[(1.0 / 12.0, 0.03), (0.25, 0.01), (0.5, 0.07), (1.0, 0.15)]);
    for method in [Method::FlatForward, Method::MonotoneConvex, Method::Pchip] {
        assert!(Curve::bootstrap(&same, 2, method).unwrap().faults().is_empty(), "{method:?}");
    }
    // A long fall in the zero rate: a straight line of zero rates overshoots, the implied forwards are positive.
    let steep = quotes(&[(1.0, 6.0), (10.0, 1.5)]);
    let faults = |method| Curve::bootstrap(&steep, 1, method).unwrap().faults();
    assert!(matches!(faults(Method::Linear)[..], [Arbitrage::InterpolatedNegativeForward { .. }]));
    for method in [Method::FlatForward, Method::MonotoneConvex, Method::Pchip] {
        assert!(faults(method).is_empty(), "{method:?}");
    }
}

proptest! {
    #[test]
    fn forwards_stay_positive_where_the_nodes_imply_it(
        steps in prop::collection::vec((0.05..5.0_f64, 0.0..0.2_f64), 1..12),
    ) {
        let (mut time, mut log) = (0.0, 0.0);
        let (mut times, mut zeros) = (Vec::new(), Vec::new());
        for (width, forward) in steps {
            time += width;
            log += width * forward;
            times.push(time);
            zeros.push(log / time);
        }
        for method in [Method::FlatForward, Method::MonotoneConvex, Method::Pchip] {
            let curve = Interpolant::new(method, &times, &zeros);
            for sample in 0..=400 {
                let at = time * 1.1 * f64::from(sample) / 400.0;
                prop_assert!(curve.at(at).forward >= -1e-12, "{:?} at {}: {}", method, at, curve.at(at).forward);
            }
            for (node, zero) in times.iter().zip(&zeros) {
                prop_assert!((curve.at(*node).log - node * zero).abs() < 1e-12);
            }
        }
    }
}

#[test]
fn a_spread_year_keeps_its_mean() {
    let hours: Vec<DateTime> = (0..8_784)
        .map(|hour| date(2024, 1, 1).at(0, 0, 0, 0) + jiff::SignedDuration::from_hours(hour))
        .collect();
    let history = hours.iter().enumerate().map(|(place, time)| {
        let price = 40.0 + 10.0 * f64::from(time.month()) - 3.0 * f64::from(time.hour()) + (place % 7) as f64;
        (*time, price)
    });
    for kind in [ShapeKind::Shift, ShapeKind::Scale] {
        let shape = SeasonalShape::fit(kind, history.clone()).unwrap();
        assert_eq!(shape.empty_cells, 0);
        for price in [50.0, 0.0, -20.0] {
            let spread = shape.spread(price, &hours);
            let mean = spread.iter().sum::<f64>() / spread.len() as f64;
            assert!((mean - price).abs() < 1e-9, "{kind:?} {price} {mean}");
            let lengths =
                [744.0, 696.0, 744.0, 720.0, 744.0, 720.0, 744.0, 744.0, 720.0, 744.0, 720.0, 744.0];
            let months = shape.months(price, &lengths);
            let mean = months.iter().zip(&lengths).map(|(month, hours)| month * hours).sum::<f64>() / 8_784.0;
            assert!((mean - price).abs() < 1e-9, "{kind:?} {price} {mean}");
        }
        let spread = shape.spread(50.0, &hours);
        assert!(spread[0] > spread[23] && spread[8_000] > spread[0], "night is dear and winter dearer here");
        assert!(shape.spread(50.0, &[]).is_empty());
    }
}

#[test]
fn thin_history_is_told() {
    let one = [(date(2024, 1, 1).at(5, 0, 0, 0), 30.0)];
    let shape = SeasonalShape::fit(ShapeKind::Shift, one).unwrap();
    assert_eq!(shape.empty_cells, 2_015);
    assert_eq!(shape.spread(7.0, &[date(2024, 6, 1).at(9, 0, 0, 0)]), [7.0]);
    assert_eq!(SeasonalShape::fit(ShapeKind::Shift, []), Err(ShapeFault::Empty));
    assert_eq!(SeasonalShape::fit(ShapeKind::Shift, [(one[0].0, f64::NAN)]), Err(ShapeFault::NotFinite));
    assert_eq!(SeasonalShape::fit(ShapeKind::Scale, [(one[0].0, -1.0)]), Err(ShapeFault::NotPositive));
}
