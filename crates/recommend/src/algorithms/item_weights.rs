//! Item-to-item weights in the form in which they are served: a score is the sum over the history of one row each.
//!
//! Two layouts. `Sparse` keeps the strongest weights of each row as compressed sparse rows. `Dense` keeps all of them
//! as 8-bit integers with one scale per row: a quarter of the memory traffic of floats, which is what bounds the
//! latency for small catalogues. Training evaluates the layout that is served.
//!
//! Refuses: duplicate columns in a row, weights that are not finite.

use super::error::{AlgorithmError, require};
use super::interactions::History;
use super::simd;
use super::{Recommender, Scratch};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// A square matrix of weights: row = item in the history, column = item being scored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemWeights {
    /// Compressed sparse rows; columns rise within a row.
    Sparse {
        /// Row starts, one more than there are items.
        offsets: Vec<usize>,
        /// Item being scored, per weight.
        columns: Vec<u32>,
        /// The weights.
        values: Vec<f32>,
    },
    /// All weights, row-major: `weight = scales[row] * values[row * item_count + column]`.
    Dense {
        /// One scale per row.
        scales: Vec<f32>,
        /// Weights in units of the scale of their row.
        values: Vec<i8>,
    },
}

/// Catalogues up to this size are served densely: 64 MiB of weights.
const DENSE_ITEM_LIMIT: usize = 8192;

/// Weights kept per row where the layout is chosen automatically and the catalogue is large.
const AUTOMATIC_ROW_LENGTH: usize = 500;

/// The form in which to keep weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// Dense up to 8,192 items, else the 500 strongest of each row.
    Automatic,
    /// All weights in 8 bits.
    Dense,
    /// This many weights of each row, those of largest magnitude, as floats.
    Strongest(usize),
}

impl Layout {
    /// # Errors
    /// [`AlgorithmError::Setting`] if no weight would be kept.
    pub fn validate(self) -> Result<(), AlgorithmError> {
        require(self != Self::Strongest(0), "layout", "must keep at least one weight per row")
    }

    /// Starts a matrix of this layout.
    pub(crate) fn builder(self, item_count: usize) -> Builder {
        match self {
            Self::Automatic if item_count <= DENSE_ITEM_LIMIT => Builder::dense(item_count),
            Self::Automatic => Builder::sparse(item_count, AUTOMATIC_ROW_LENGTH),
            Self::Dense => Builder::dense(item_count),
            Self::Strongest(count) => Builder::sparse(item_count, count),
        }
    }
}

/// Takes rows in order and keeps them in the layout that was asked for.
#[derive(Debug)]
pub(crate) struct Builder {
    item_count: usize,
    row_length: usize,
    weights: ItemWeights,
}

impl Builder {
    fn dense(item_count: usize) -> Self {
        let scales = Vec::with_capacity(item_count);
        let values = Vec::with_capacity(item_count * item_count);
        Self { item_count, row_length: item_count, weights: ItemWeights::Dense { scales, values } }
    }

    fn sparse(item_count: usize, row_length: usize) -> Self {
        let mut offsets = Vec::with_capacity(item_count + 1);
        offsets.push(0);
        let weights = ItemWeights::Sparse { offsets, columns: Vec::new(), values: Vec::new() };
        Self { item_count, row_length, weights }
    }

    /// Adds whole rows of a row-major matrix.
    pub(crate) fn push_rows(&mut self, rows: &[f32]) {
        if self.item_count == 0 {
            return;
        }
        match &mut self.weights {
            ItemWeights::Dense { scales, values } => {
                let start = values.len();
                values.resize(start + rows.len(), 0);
                let targets = values[start..].par_chunks_mut(self.item_count);
                let row_scales: Vec<f32> = targets
                    .zip(rows.par_chunks(self.item_count))
                    .map(|(target, row)| quantise(row, target))
                    .collect();
                scales.extend(row_scales);
            }
            ItemWeights::Sparse { offsets, columns, values: kept } => {
                let rows = rows.par_chunks(self.item_count).map(|row| strongest(row, self.row_length));
                append_rows(rows.collect(), offsets, columns, kept);
            }
        }
    }

    /// The matrix.
    pub(crate) fn finish(mut self) -> ItemWeights {
        if let ItemWeights::Sparse { columns, values, .. } = &mut self.weights {
            columns.shrink_to_fit();
            values.shrink_to_fit();
        }
        self.weights
    }
}

impl ItemWeights {
    /// Puts rows of `(column, weight)` one after another. Rows may be in any order of column; zeros are dropped.
    pub fn from_rows(rows: Vec<Vec<(u32, f32)>>) -> Self {
        let mut offsets = Vec::with_capacity(rows.len() + 1);
        offsets.push(0);
        let entry_count = rows.iter().map(Vec::len).sum();
        let (mut columns, mut values) = (Vec::with_capacity(entry_count), Vec::with_capacity(entry_count));
        append_rows(rows, &mut offsets, &mut columns, &mut values);
        Self::Sparse { offsets, columns, values }
    }

    /// The number of rows, which is the number of columns.
    pub fn item_count(&self) -> usize {
        match self {
            Self::Sparse { offsets, .. } => offsets.len() - 1,
            Self::Dense { scales, .. } => scales.len(),
        }
    }

    /// Memory of the weights in bytes.
    pub fn size_bytes(&self) -> usize {
        match self {
            Self::Sparse { offsets, columns, .. } => offsets.len() * 8 + columns.len() * 8,
            Self::Dense { scales, values } => scales.len() * 4 + values.len(),
        }
    }

    /// `scores += strength * weights[item]` for each of `rows`, in order. Unknown items add nothing.
    ///
    /// # Panics
    /// If `scores.len() != self.item_count()`.
    pub fn add_rows(&self, rows: impl Iterator<Item = (u32, f32)>, scores: &mut [f32]) {
        assert_eq!(scores.len(), self.item_count(), "one score per item");
        let known = rows.map(|(item, strength)| (item as usize, strength));
        let known = known.filter(|&(item, _)| item < self.item_count());
        match self {
            Self::Sparse { offsets, columns, values } => {
                for (item, strength) in known {
                    let range = offsets[item]..offsets[item + 1];
                    for (&column, &value) in columns[range.clone()].iter().zip(&values[range]) {
                        scores[column as usize] += strength * value;
                    }
                }
            }
            Self::Dense { scales, values } => {
                let rows: Vec<(usize, f32)> =
                    known.map(|(item, strength)| (item, strength * scales[item])).collect();
                simd::add_scaled_rows_i8(values, &rows, scores);
            }
        }
    }

    /// One weight; 0 where it is not kept or an item is unknown.
    pub fn weight(&self, row: u32, column: u32) -> f32 {
        let (row, column) = (row as usize, column as usize);
        if row >= self.item_count() || column >= self.item_count() {
            return 0.0;
        }
        match self {
            Self::Sparse { offsets, columns, values } => {
                let range = offsets[row]..offsets[row + 1];
                let found = columns[range.clone()].binary_search(&(column as u32));
                found.map_or(0.0, |position| values[range.start + position])
            }
            Self::Dense { scales, values } => scales[row] * f32::from(values[row * scales.len() + column]),
        }
    }

    /// Writes the sum over the history of `weight * age^-age_exponent * row`, where the last entry has age 1.
    ///
    /// # Panics
    /// If `scores.len() != self.item_count()`.
    pub fn score(&self, history: History<'_>, age_exponent: f32, scores: &mut [f32]) {
        scores.fill(0.0);
        self.add_rows(strengths(history, age_exponent), scores);
    }

    /// What each entry of the history adds to the score of `item`; entries that add nothing are left out.
    pub fn contributions(&self, history: History<'_>, age_exponent: f32, item: u32) -> Vec<(usize, f32)> {
        strengths(history, age_exponent)
            .enumerate()
            .map(|(index, (from, strength))| (index, strength * self.weight(from, item)))
            .filter(|&(_, contribution)| contribution != 0.0)
            .collect()
    }
}

/// The items of a history with their weights, faded by age.
fn strengths(history: History<'_>, age_exponent: f32) -> impl Iterator<Item = (u32, f32)> {
    let entries = history.items.iter().zip(history.weights).enumerate();
    entries.map(move |(index, (&item, &weight))| {
        let age = (history.len() - index) as f32;
        (item, if age_exponent == 0.0 { weight } else { weight * age.powf(-age_exponent) })
    })
}

/// Adds rows of `(column, weight)`, sorted by column, without zeros.
fn append_rows(
    rows: Vec<Vec<(u32, f32)>>,
    offsets: &mut Vec<usize>,
    columns: &mut Vec<u32>,
    values: &mut Vec<f32>,
) {
    for mut row in rows {
        row.sort_unstable_by_key(|&(column, _)| column);
        for (column, value) in row.into_iter().filter(|&(_, value)| value != 0.0) {
            columns.push(column);
            values.push(value);
        }
        offsets.push(columns.len());
    }
}

/// Rounds one row and returns its scale.
fn quantise(row: &[f32], values: &mut [i8]) -> f32 {
    let largest = row.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    if largest == 0.0 {
        return 0.0;
    }
    let per_unit = 127.0 / largest;
    for (value, &weight) in values.iter_mut().zip(row) {
        *value = (weight * per_unit).round() as i8;
    }
    largest / 127.0
}

/// The `count` entries of `values` with the largest magnitude, as `(column, value)` in no order; ties go to the lower
/// column. Zeros are never kept.
pub(crate) fn strongest(values: &[f32], count: usize) -> Vec<(u32, f32)> {
    strongest_of(values.iter().enumerate().map(|(column, &value)| (column as u32, value)), count)
}

/// As [`strongest`], of entries in any order of column, none twice unless it is zero.
pub(crate) fn strongest_of(entries: impl Iterator<Item = (u32, f32)>, count: usize) -> Vec<(u32, f32)> {
    let mut kept: Vec<(u32, f32)> = Vec::new();
    let mut threshold = 0.0;
    if count == 0 {
        return kept;
    }
    for (column, value) in entries {
        // At the threshold a lower column may still win.
        if value.abs() >= threshold && value != 0.0 {
            kept.push((column, value));
            if kept.len() >= count.saturating_mul(2) {
                keep_strongest(&mut kept, count);
                threshold = kept[count - 1].1.abs();
            }
        }
    }
    keep_strongest(&mut kept, count);
    kept
}

fn keep_strongest(kept: &mut Vec<(u32, f32)>, count: usize) {
    if kept.len() > count {
        kept.select_nth_unstable_by(count - 1, |left, right| {
            right.1.abs().total_cmp(&left.1.abs()).then(left.0.cmp(&right.0))
        });
        kept.truncate(count);
    }
}

/// A model that is weights between items and nothing else; it is a [`Recommender`] by that.
pub trait ItemToItem: Send + Sync {
    /// The name used in settings, tables and answers.
    const NAME: &'static str;

    /// The weights.
    fn weights(&self) -> &ItemWeights;

    /// How fast older history entries fade, see [`ItemWeights::score`].
    fn age_exponent(&self) -> f32;
}

impl<M: ItemToItem> Recommender for M {
    fn name(&self) -> &'static str {
        M::NAME
    }

    fn item_count(&self) -> usize {
        self.weights().item_count()
    }

    fn score(&self, history: History<'_>, _scratch: &mut Scratch, scores: &mut [f32]) {
        self.weights().score(history, self.age_exponent(), scores);
    }

    fn contributions(&self, history: History<'_>, item: u32) -> Vec<(usize, f32)> {
        self.weights().contributions(history, self.age_exponent(), item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(weights: &ItemWeights, matrix: &[f32], tolerance: f32) {
        let item_count = weights.item_count();
        let items: Vec<u32> = (0..item_count as u32 + 1).collect();
        let strengths: Vec<f32> = items.iter().map(|&item| 1.0 + item as f32 * 0.1).collect();
        let history = History { items: &items, weights: &strengths, times: &[] };
        let mut scores = vec![f32::NAN; item_count];
        weights.score(history, 0.0, &mut scores);
        for column in 0..item_count {
            let expected: f32 =
                (0..item_count).map(|row| strengths[row] * matrix[row * item_count + column]).sum();
            assert!((scores[column] - expected).abs() <= tolerance, "{} for {expected}", scores[column]);
            let explained: f32 = weights
                .contributions(history, 0.0, column as u32)
                .iter()
                .map(|&(_, contribution)| contribution)
                .sum();
            assert!((scores[column] - explained).abs() < 1e-3);
        }
    }

    proptest! {
        #[test]
        fn both_layouts_agree_with_the_matrix(matrix in prop::collection::vec(-1.0_f32..1.0, 36)) {
            let rows = matrix.chunks(6).map(|row| strongest(row, 6)).collect();
            check(&ItemWeights::from_rows(rows), &matrix, 1e-4);
            let mut builder = Layout::Dense.builder(6);
            builder.push_rows(&matrix[..12]);
            builder.push_rows(&matrix[12..]);
            check(&builder.finish(), &matrix, 0.05);
        }

        #[test]
        fn the_strongest_are_the_strongest(values in prop::collection::vec(-9_i8..9, 0..60), count in 0_usize..20) {
            let values: Vec<f32> = values.into_iter().map(f32::from).collect();
            let mut kept = strongest(&values, count);
            kept.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()).then(a.0.cmp(&b.0)));
            let mut expected: Vec<(u32, f32)> =
                values.iter().enumerate().map(|(column, &value)| (column as u32, value)).collect();
            expected.retain(|&(_, value)| value != 0.0);
            expected.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()).then(a.0.cmp(&b.0)));
            expected.truncate(count);
            prop_assert_eq!(kept, expected);
        }
    }

    #[test]
    fn older_items_fade() {
        let weights = ItemWeights::from_rows(vec![vec![(0, 1.0)], vec![(1, 1.0)]]);
        let mut scores = [0.0; 2];
        weights.score(History { items: &[0, 1], weights: &[1.0, 2.0], times: &[] }, 1.0, &mut scores);
        assert_eq!(scores, [0.5, 2.0]);
    }

    #[test]
    fn empty_and_unknown_add_nothing() {
        let weights = ItemWeights::from_rows(vec![]);
        weights.score(History { items: &[3], weights: &[1.0], times: &[] }, 0.5, &mut []);
        assert_eq!(weights.weight(0, 0), 0.0);
        for layout in [Layout::Automatic, Layout::Dense, Layout::Strongest(3)] {
            let mut builder = layout.builder(1);
            builder.push_rows(&[0.0]);
            assert_eq!(builder.finish().weight(0, 0), 0.0);
            let mut builder = layout.builder(0);
            builder.push_rows(&[]);
            assert_eq!(builder.finish().item_count(), 0);
        }
        assert!(Layout::Strongest(0).validate().is_err());
    }
}
