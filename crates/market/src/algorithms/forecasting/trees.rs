//! Regression trees over binned columns, all targets in one tree; random forests (Breiman 2001) and gradient boosting
//! (Friedman 2001) of them.
//!
//! A split is where the squared error of all targets falls most. Columns are cut into 32 bins of equal counts, rows and
//! columns are drawn from a seed, trees are independent pieces of work: the same bits on any number of threads.
//! It refuses nothing: without a split that helps, a tree is its mean.

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

const BINS: usize = 32;

/// How trees are grown.
#[derive(Debug, Clone, Copy)]
pub(super) struct TreeSettings {
    pub trees: usize,
    pub depth_max: usize,
    pub leaf_rows_min: usize,
    /// The part of the columns that each split may use.
    pub columns_part: f64,
    pub seed: u64,
}

/// A sum of trees.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Trees {
    base: Vec<f64>,
    rate: f64,
    trees: Vec<Tree>,
}

/// Nodes in arrays; a node is a leaf where `left` is 0.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Tree {
    column: Vec<u32>,
    threshold: Vec<f64>,
    left: Vec<u32>,
    /// The index of the leaf's values.
    leaf: Vec<u32>,
    values: Vec<Vec<f64>>,
}

/// Rows as bins.
struct Binned {
    edges: Vec<Vec<f64>>,
    /// By column, then row.
    bins: Vec<Vec<u8>>,
}

impl Binned {
    fn of(rows: &[Vec<f64>]) -> Self {
        let width = rows.first().map_or(0, Vec::len);
        let (edges, bins) = (0..width)
            .map(|column| {
                let mut sorted: Vec<f64> = rows.iter().map(|row| row[column]).collect();
                sorted.sort_by(f64::total_cmp);
                let mut edges: Vec<f64> = (1..BINS)
                    .map(|bin| sorted[bin * sorted.len() / BINS])
                    .filter(|edge| *edge > sorted[0])
                    .collect();
                edges.dedup();
                let bin = |row: &Vec<f64>| edges.partition_point(|edge| *edge <= row[column]) as u8;
                let bins = rows.iter().map(bin).collect();
                (edges, bins)
            })
            .unzip();
        Self { edges, bins }
    }
}

impl Trees {
    /// The mean of trees, each of rows drawn with replacement.
    pub(super) fn forest(rows: &[Vec<f64>], targets: &[Vec<f64>], settings: TreeSettings) -> Self {
        let binned = Binned::of(rows);
        let trees: Vec<Tree> = (0..settings.trees)
            .into_par_iter()
            .map(|index| {
                let mut generator = generator(settings.seed, index);
                let drawn = (0..rows.len()).map(|_| generator.random_range(0..rows.len()) as u32).collect();
                Tree::grow(&binned, targets, drawn, settings, &mut generator)
            })
            .collect();
        let base = vec![0.0; targets.first().map_or(0, Vec::len)];
        Self { base, rate: 1.0 / settings.trees.max(1) as f64, trees }
    }

    /// Trees one after another, each of half the rows and of what those before left over.
    pub(super) fn boosted(
        rows: &[Vec<f64>],
        targets: &[Vec<f64>],
        rate: f64,
        settings: TreeSettings,
    ) -> Self {
        let binned = Binned::of(rows);
        let width = targets.first().map_or(0, Vec::len);
        let mut base = vec![0.0; width];
        for target in targets {
            add(&mut base, target, 1.0 / targets.len() as f64);
        }
        let mut left: Vec<Vec<f64>> = targets.to_vec();
        left.iter_mut().for_each(|row| add(row, &base, -1.0));
        let mut order: Vec<u32> = (0..rows.len() as u32).collect();
        let mut trees = Vec::with_capacity(settings.trees);
        for index in 0..settings.trees {
            let mut generator = generator(settings.seed, index);
            order.shuffle(&mut generator);
            let drawn = order[..rows.len().div_ceil(2)].to_vec();
            let tree = Tree::grow(&binned, &left, drawn, settings, &mut generator);
            for (row, left) in rows.iter().zip(&mut left) {
                add(left, tree.predict(row), -rate);
            }
            trees.push(tree);
        }
        Self { base, rate, trees }
    }

    /// The targets at a row.
    pub(super) fn predict(&self, row: &[f64]) -> Vec<f64> {
        let mut sum = self.base.clone();
        for tree in &self.trees {
            add(&mut sum, tree.predict(row), self.rate);
        }
        sum
    }

    /// Whether every index points into its arrays, so that a file that was tampered with cannot make it panic or hang.
    pub(super) fn is_sound(&self, columns: usize, targets: usize) -> bool {
        self.base.len() == targets
            && self.trees.iter().all(|tree| {
                let nodes = tree.left.len();
                let same = [tree.column.len(), tree.threshold.len(), tree.leaf.len()]
                    .iter()
                    .all(|len| *len == nodes);
                same && nodes > 0
                    && tree.values.iter().all(|values| values.len() == targets)
                    && (0..nodes).all(|node| match tree.left[node] as usize {
                        0 => (tree.leaf[node] as usize) < tree.values.len(),
                        left => left > node && left + 1 < nodes && (tree.column[node] as usize) < columns,
                    })
            })
    }
}

impl Tree {
    fn grow(
        binned: &Binned,
        targets: &[Vec<f64>],
        drawn: Vec<u32>,
        settings: TreeSettings,
        generator: &mut ChaCha8Rng,
    ) -> Self {
        let mut tree = Self::default();
        let mut open = vec![(tree.node(), drawn, 0)];
        let mut columns: Vec<usize> = (0..binned.bins.len()).collect();
        let tried = ((columns.len() as f64 * settings.columns_part).ceil() as usize).min(columns.len());
        while let Some((node, rows, depth)) = open.pop() {
            let splits = depth < settings.depth_max && rows.len() >= 2 * settings.leaf_rows_min;
            let split = splits.then(|| {
                let (chosen, _) = columns.partial_shuffle(generator, tried);
                best_split(binned, targets, &rows, chosen, settings.leaf_rows_min)
            });
            let Some((column, bin)) = split.flatten() else {
                let mut mean = vec![0.0; targets.first().map_or(0, Vec::len)];
                for row in &rows {
                    add(&mut mean, &targets[*row as usize], 1.0 / rows.len() as f64);
                }
                tree.leaf[node] = tree.values.len() as u32;
                tree.values.push(mean);
                continue;
            };
            let (left, right): (Vec<u32>, Vec<u32>) =
                rows.iter().partition(|row| usize::from(binned.bins[column][**row as usize]) <= bin);
            tree.column[node] = column as u32;
            tree.threshold[node] = binned.edges[column][bin];
            let (first, second) = (tree.node(), tree.node());
            tree.left[node] = first as u32;
            open.push((second, right, depth + 1));
            open.push((first, left, depth + 1));
        }
        tree
    }

    fn node(&mut self) -> usize {
        self.column.push(0);
        self.threshold.push(0.0);
        self.left.push(0);
        self.leaf.push(0);
        self.left.len() - 1
    }

    fn predict(&self, row: &[f64]) -> &[f64] {
        let mut node = 0;
        while self.left[node] != 0 {
            let is_right = row[self.column[node] as usize] >= self.threshold[node];
            node = self.left[node] as usize + usize::from(is_right);
        }
        &self.values[self.leaf[node] as usize]
    }
}

/// The column and the last bin of its left side with the largest gain; `None` where nothing helps.
fn best_split(
    binned: &Binned,
    targets: &[Vec<f64>],
    rows: &[u32],
    columns: &[usize],
    leaf_rows_min: usize,
) -> Option<(usize, usize)> {
    let width = targets.first().map_or(0, Vec::len);
    let mut total = vec![0.0; width];
    rows.iter().for_each(|row| add(&mut total, &targets[*row as usize], 1.0));
    let score = |sums: &[f64], count: usize| sums.iter().map(|sum| sum * sum).sum::<f64>() / count as f64;
    let whole = score(&total, rows.len());
    let mut best = (whole * (1.0 + 1e-9) + 1e-18, None);
    let (mut sums, mut counts) = (vec![0.0; BINS * width], [0_usize; BINS]);
    let (mut left, mut right) = (vec![0.0; width], vec![0.0; width]);
    for column in columns {
        sums.fill(0.0);
        counts.fill(0);
        for row in rows {
            let bin = usize::from(binned.bins[*column][*row as usize]);
            add(&mut sums[bin * width..(bin + 1) * width], &targets[*row as usize], 1.0);
            counts[bin] += 1;
        }
        left.fill(0.0);
        let mut count = 0;
        for bin in 0..binned.edges[*column].len() {
            add(&mut left, &sums[bin * width..(bin + 1) * width], 1.0);
            count += counts[bin];
            if count < leaf_rows_min || rows.len() - count < leaf_rows_min {
                continue;
            }
            right.copy_from_slice(&total);
            add(&mut right, &left, -1.0);
            let gain = score(&left, count) + score(&right, rows.len() - count);
            if gain > best.0 {
                best = (gain, Some((*column, bin)));
            }
        }
    }
    best.1
}

fn add(sum: &mut [f64], values: &[f64], weight: f64) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum += weight * value;
    }
}

fn generator(seed: u64, index: usize) -> ChaCha8Rng {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    generator.set_stream(index as u64);
    generator
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: TreeSettings =
        TreeSettings { trees: 40, depth_max: 4, leaf_rows_min: 5, columns_part: 1.0, seed: 1 };

    fn steps() -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
        let rows: Vec<Vec<f64>> =
            (0..300).map(|row| vec![f64::from(row % 17), f64::from(row) / 300.0]).collect();
        let targets = rows.iter().map(|row| vec![if row[1] < 0.5 { -1.0 } else { 1.0 }, 3.0]).collect();
        (rows, targets)
    }

    #[test]
    fn a_step_is_learned_by_both() {
        let (rows, targets) = steps();
        for trees in
            [Trees::forest(&rows, &targets, SETTINGS), Trees::boosted(&rows, &targets, 0.3, SETTINGS)]
        {
            for (row, target) in rows.iter().zip(&targets).filter(|(row, _)| (row[1] - 0.5).abs() > 0.1) {
                let found = trees.predict(row);
                assert!(
                    (found[0] - target[0]).abs() < 0.1 && (found[1] - 3.0).abs() < 1e-9,
                    "{row:?} {found:?}"
                );
            }
            assert!(trees.is_sound(2, 2));
            assert!(!trees.is_sound(1, 2) && !trees.is_sound(2, 3));
        }
    }

    #[test]
    fn threads_change_nothing_and_one_row_is_its_own_mean() {
        let (rows, targets) = steps();
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let alone = one.install(|| Trees::forest(&rows, &targets, SETTINGS));
        assert_eq!(alone, Trees::forest(&rows, &targets, SETTINGS));
        let single = Trees::forest(&rows[..1], &targets[..1], SETTINGS);
        assert!((single.predict(&rows[200])[0] + 1.0).abs() < 1e-9);
    }
}
