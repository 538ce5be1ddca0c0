//! Intervals that cover what they promise where the future is like the past (Vovk, Gammerman and Shafer 2005).

/// The nominal coverages of all intervals.
pub const COVERAGES: [f64; 2] = [0.8, 0.95];

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
    }

    #[test]
    fn too_few_errors_promise_nothing() {
        assert_eq!(half_width(&mut [], 0.8), None);
        assert_eq!(half_width(&mut [1.0, 2.0], 0.95), None);
        assert_eq!(half_width(&mut [3.0, 1.0, 2.0], 0.5), Some(2.0));
    }
}
