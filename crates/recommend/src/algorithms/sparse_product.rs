//! Rows of the item-by-item product `L' R` of sparse matrices, each cut to its strongest entries as it is made.
//!
//! Memory is one accumulator of `item_count` floats per thread and the kept entries: the full product, which may have
//! billions of entries, never exists. Refuses: keeping everything.

use super::interactions::Interactions;
use super::item_weights::strongest_of;
use rayon::prelude::*;

/// For each item `i`, the `row_length` strongest of `rescale(i, j, sum over users u of by_item[i][u] * by_user[u][j])`
/// over `j != i`, as `(j, value)` in no order. Sums that are exactly zero are left out.
pub(crate) fn strongest_products(
    by_item: &Interactions,
    by_user: &Interactions,
    row_length: usize,
    rescale: impl Fn(u32, u32, f32) -> f32 + Sync,
) -> Vec<Vec<(u32, f32)>> {
    let accumulator = || (vec![0.0_f32; by_user.item_count()], Vec::<u32>::new());
    (0..by_item.user_count())
        .into_par_iter()
        .map_init(accumulator, |(sums, touched), item| {
            let users = by_item.row(item);
            for (&user, &strength) in users.items.iter().zip(users.weights) {
                let row = by_user.row(user as usize);
                for (&other, &weight) in row.items.iter().zip(row.weights) {
                    let sum = &mut sums[other as usize];
                    if *sum == 0.0 {
                        touched.push(other);
                    }
                    *sum += strength * weight;
                }
            }
            let item = item as u32;
            // A sum that passed through zero is in the list twice; taking it leaves zero, which is not kept.
            let products = touched.drain(..).map(|other| {
                let sum = std::mem::take(&mut sums[other as usize]);
                (other, if other == item || sum == 0.0 { 0.0 } else { rescale(item, other, sum) })
            });
            strongest_of(products, row_length)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithms::testing::{check_threads_agree, random_sets, weighted_sets};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_the_dense_product(interactions in weighted_sets(), row_length in 1_usize..6) {
            let by_item = interactions.transpose();
            let rescale = |_, other: u32, sum: f32| sum / (1.0 + other as f32);
            let rows = strongest_products(&by_item, &interactions, row_length, rescale);
            let count = interactions.item_count();
            for (item, row) in rows.iter().enumerate() {
                let mut expected = vec![0.0_f32; count];
                for user in interactions.rows() {
                    let Some(own) = user.items.iter().position(|&other| other as usize == item) else { continue };
                    for (&other, &weight) in user.items.iter().zip(user.weights) {
                        expected[other as usize] += user.weights[own] * weight;
                    }
                }
                let mut expected: Vec<f32> = (0..count)
                    .filter(|&other| other != item)
                    .map(|other| expected[other] / (1.0 + other as f32))
                    .collect();
                expected.sort_by(|a, b| b.total_cmp(a));
                let mut values: Vec<f32> = row.iter().map(|&(_, value)| value).collect();
                values.sort_by(|a, b| b.total_cmp(a));
                prop_assert!(values.len() == expected.iter().take(row_length).filter(|&&value| value > 0.0).count());
                for (value, expected) in values.iter().zip(&expected) {
                    prop_assert!((value - expected).abs() < 1e-4 * expected.max(1.0));
                }
            }
        }
    }

    #[test]
    fn threads_do_not_change_the_rows() {
        let interactions = random_sets(5, 200, 80, 0.1);
        let by_item = interactions.transpose();
        check_threads_agree(|| strongest_products(&by_item, &interactions, 7, |_, _, sum| sum));
    }
}
