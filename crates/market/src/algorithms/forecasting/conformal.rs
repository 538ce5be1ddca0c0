//! Intervals and quantiles that cover what they promise where the future is like the past (Vovk, Gammerman and Shafer 2005).

/// The nominal coverages of all intervals.
pub const COVERAGES: [f64; 2] = [0.8, 0.95];
/// The levels of all quantiles: the part of what comes that is to be at or below each. Ascending.
pub const LEVELS: [f64; 7] = [0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95];

/// A value for each of [`LEVELS`].
pub type Quantiles = [f64; LEVELS.len()];

/// The half widths of all [`COVERAGES`]. Sorts the absolute errors. `None` where there are too few for one of them.
pub(super) fn half_widths(errors: &mut [f64]) -> Option<[f64; COVERAGES.len()]> {
    let [low, high] = COVERAGES.map(|coverage| half_width(errors, coverage));
    Some([low?, high?])
}

/// The half width that covers a part of the absolute errors: the `⌈(n + 1) · coverage⌉`-th smallest. Sorts them. `None`
/// where there are too few for this coverage.
fn half_width(errors: &mut [f64], coverage: f64) -> Option<f64> {
    errors.sort_by(f64::total_cmp);
    let rank = ((errors.len() + 1) as f64 * coverage).ceil() as usize;
    errors.get(rank.checked_sub(1)?).copied()
}

/// What is to be added to a forecast for each of [`LEVELS`], of errors with their sign (truth less forecast). Above the
/// middle the `⌈(n + 1) · level⌉`-th smallest, below it the `⌊(n + 1) · level⌋`-th, so that what lies between two levels is
/// covered as often as promised. Sorts them. `None` where there are too few.
pub(super) fn quantiles(errors: &mut [f64]) -> Option<Quantiles> {
    errors.sort_by(f64::total_cmp);
    let mut found = [0.0; LEVELS.len()];
    for (value, level) in found.iter_mut().zip(LEVELS) {
        *value = *errors.get(rank(errors.len(), level)?)?;
    }
    Some(found)
}

/// The same around a forecast that is their middle: 0 there, none above it below the middle and none below it above. What is
/// between two levels on both sides is covered no less than promised.
pub(super) fn quantiles_around(errors: &mut [f64]) -> Option<Quantiles> {
    let mut found = quantiles(errors)?;
    for (value, level) in found.iter_mut().zip(LEVELS) {
        *value = match level {
            level if level < 0.5 => value.min(0.0),
            level if level > 0.5 => value.max(0.0),
            _ => 0.0,
        };
    }
    Some(found)
}

/// The place of a level among so many sorted errors, from 0.
fn rank(count: usize, level: f64) -> Option<usize> {
    let place = (count + 1) as f64 * level;
    let place = if level < 0.5 { place.floor() } else { place.ceil() };
    (place as usize).checked_sub(1).filter(|place| *place < count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_new_error_is_within_as_often_as_promised(count in 5..60_usize) {
            // Leave each out in turn: at least this part of all is within the width of the others.
            let errors: Vec<f64> = (0..count).map(|index| ((index * 37 + 11) % 101) as f64).collect();
            let within = (0..count).filter(|out| {
                let mut others: Vec<f64> = errors.iter().enumerate().filter(|(i, _)| i != out).map(|(_, e)| *e).collect();
                half_width(&mut others, 0.8).is_none_or(|width| errors[*out] <= width)
            });
            prop_assert!(within.count() as f64 >= 0.8 * count as f64 - 1e-9);
        }

        #[test]
        fn a_new_error_is_below_a_level_as_often_as_promised(
            errors in proptest::collection::vec(-9.0..9.0_f64, 24..80),
        ) {
            let mut below = [0_usize; LEVELS.len()];
            for out in 0..errors.len() {
                let mut others = errors.clone();
                let left_out = others.swap_remove(out);
                let found = quantiles(&mut others).unwrap();
                prop_assert!(found.is_sorted());
                below.iter_mut().zip(found).for_each(|(below, value)| *below += usize::from(left_out <= value));
            }
            for (below, level) in below.into_iter().zip(LEVELS) {
                // One of the errors is at each border: it counts as below.
                let (promised, told) = (level * errors.len() as f64, below as f64);
                let holds = if level < 0.5 { told <= promised + 1.0 } else { told >= promised - 1e-9 };
                prop_assert!(holds, "{} of {}", told, promised);
            }
        }
    }

    #[test]
    fn too_few_errors_promise_nothing() {
        assert_eq!(half_width(&mut [], 0.8), None);
        assert_eq!(half_width(&mut [1.0, 2.0], 0.95), None);
        assert_eq!(half_width(&mut [3.0, 1.0, 2.0], 0.5), Some(2.0));
        assert_eq!(quantiles(&mut [0.0; 18]), None);
        assert_eq!(quantiles(&mut [2.0; 19]), Some([2.0; LEVELS.len()]));
        assert_eq!(quantiles(&mut []), None);
        assert_eq!(quantiles_around(&mut [2.0; 19]), Some([0.0, 0.0, 0.0, 0.0, 2.0, 2.0, 2.0]));
        assert_eq!(quantiles_around(&mut [-2.0; 19]), Some([-2.0, -2.0, -2.0, 0.0, 0.0, 0.0, 0.0]));
        assert_eq!(quantiles_around(&mut [2.0; 18]), None);
    }
}
