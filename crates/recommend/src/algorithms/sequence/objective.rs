//! What training minimises: the cross-entropy of the next item, over the whole catalogue or over a sample of it.
//!
//! The item embedding is also the output matrix ("tied", Press and Wolf 2017):
//! `logit_i = ⟨hidden, embedding_i⟩ + bias_i`. Logits are made for a few dozen positions at a time and turned in place
//! into probabilities and then into their gradient, so that memory does not grow with positions × items. The full
//! softmax is what lifts sequence models to their published best (Klenitskiy and Vasilev 2023, "Turning Dross Into
//! Gold Loss").
//!
//! A large catalogue uses a sampled softmax (Bengio and Senécal 2008) with mixed negatives (Yang et al. 2020): half
//! uniform, half drawn from the events. `logit − ln(samples · probability)` corrects for how often each is drawn.
//! Another objective is one more function that leaves `Workspace::hidden_gradient` and joins the gradient check.

use faer::MatRef;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::kernels::{
    Matrix, add, add_column_sums, add_scaled, dot, multiply, multiply_add, softmax, vectorized,
};

/// A chunk of logits stays in the second-level cache: at most this many values, but at least [`FEWEST_ROWS`] rows.
const CHUNK_VALUES: usize = 1 << 18;
/// Fewer rows than this would leave the products without reuse.
const FEWEST_ROWS: usize = 32;

/// The output layer: `embedding` is items × dimensions, `bias` is 1 × items.
#[derive(Clone, Copy)]
pub(super) struct Output<'a> {
    pub embedding: &'a Matrix,
    pub bias: &'a Matrix,
}

/// Where the gradients of the output layer are added.
pub(super) struct OutputGradient<'a> {
    pub embedding: &'a mut Matrix,
    pub bias: &'a mut Matrix,
}

/// What is scored: hidden states, positions × dimensions, and the item that came next at each.
#[derive(Clone, Copy)]
pub(super) struct Positions<'a> {
    pub hidden: &'a Matrix,
    pub targets: &'a [u32],
    /// Multiplies every gradient: one over the number of positions in the whole batch.
    pub scale: f32,
}

/// Buffers reused from batch to batch.
#[derive(Default)]
pub(super) struct Workspace {
    /// Positions × dimensions: the gradient of the hidden states that were scored last.
    pub hidden_gradient: Matrix,
    logits: Matrix,
    sampled: Matrix,
    sampled_gradient: Matrix,
    column_sums: Matrix,
}

fn rows_per_chunk(columns: usize) -> usize {
    (CHUNK_VALUES / columns.max(1)).max(FEWEST_ROWS)
}

/// Cross-entropy over every item, in nats, summed over positions. `label_smoothing` is the share of the target
/// probability that is spread evenly over the catalogue (Szegedy et al. 2016).
pub(super) fn full_cross_entropy(
    output: Output<'_>,
    positions: Positions<'_>,
    label_smoothing: f32,
    workspace: &mut Workspace,
    gradient: &mut OutputGradient<'_>,
) -> f64 {
    let Workspace { hidden_gradient, logits, .. } = workspace;
    let (hidden, item_count) = (positions.hidden, output.embedding.rows);
    hidden_gradient.reset(hidden.rows, hidden.columns);
    let mut total = 0.0;
    for (chunk, targets) in positions.targets.chunks(rows_per_chunk(item_count)).enumerate() {
        let (start, count) = (chunk * rows_per_chunk(item_count), targets.len());
        let hidden = hidden.view_rows(start, count);
        logits.reset(count, item_count);
        multiply(logits.view_mut(), hidden, output.embedding.view().transpose());
        total += logits_to_gradient(logits, &output.bias.values, targets, label_smoothing, positions.scale);
        multiply(hidden_gradient.view_rows_mut(start, count), logits.view(), output.embedding.view());
        multiply_add(gradient.embedding.view_mut(), logits.view().transpose(), hidden);
        add_column_sums(&mut gradient.bias.values, logits);
    }
    total
}

vectorized! {
    /// Turns rows of logits, without their bias, into `scale · (softmax − target)`; returns the sum of their
    /// cross-entropies. `targets` are columns.
    fn logits_to_gradient(
        logits: &mut Matrix,
        bias: &[f32],
        targets: &[u32],
        label_smoothing: f32,
        scale: f32,
    ) -> f64 {
        let even = label_smoothing / logits.columns as f32;
        let mut total = 0.0;
        for (row, &target) in targets.iter().enumerate() {
            let (row, target) = (logits.row_mut(row), target as usize);
            add_scaled(row, 1.0, bias);
            let target_logit = row[target];
            let logit_sum: f32 = if even > 0.0 { row.iter().sum() } else { 0.0 };
            let log_sum = softmax(row);
            row[target] -= 1.0 - label_smoothing;
            for value in row.iter_mut() {
                *value = (*value - even) * scale;
            }
            total += f64::from(log_sum - (1.0 - label_smoothing) * target_logit - even * logit_sum);
        }
        total
    }
}

/// Negatives shared by every position of one shard.
pub(super) struct Candidates {
    items: Vec<u32>,
    /// `ln(samples · probability)` of each.
    corrections: Vec<f32>,
}

impl Candidates {
    /// Draws `count` items, even draws from the catalogue, odd ones from `events`. `frequency` is each item's share of
    /// the events.
    pub(super) fn draw(count: usize, events: &[u32], frequency: &[f32], rng: &mut ChaCha8Rng) -> Self {
        let item_count = frequency.len();
        let uniform = 1.0 / item_count as f32;
        let items: Vec<u32> = (0..count)
            .map(|draw| match draw % 2 {
                0 => rng.random_range(0..item_count as u32),
                _ => events[rng.random_range(0..events.len())],
            })
            .collect();
        let correction = |&item: &u32| (count as f32 * 0.5 * (uniform + frequency[item as usize])).ln();
        let corrections = items.iter().map(correction).collect();
        Self { items, corrections }
    }
}

/// Cross-entropy of the target against sampled negatives, in nats, summed over positions.
pub(super) fn sampled_cross_entropy(
    output: Output<'_>,
    candidates: &Candidates,
    positions: Positions<'_>,
    workspace: &mut Workspace,
    gradient: &mut OutputGradient<'_>,
) -> f64 {
    let Workspace { hidden_gradient, logits, sampled, sampled_gradient, column_sums } = workspace;
    let (hidden, count) = (positions.hidden, candidates.items.len());
    gather(sampled, output.embedding, &candidates.items);
    sampled_gradient.reset(count, hidden.columns);
    column_sums.reset(1, count + 1);
    hidden_gradient.reset(hidden.rows, hidden.columns);
    // The last column of the logits belongs to the target.
    let rows = rows_per_chunk(count + 1);
    let own_columns = vec![count as u32; rows];
    let mut total = 0.0;
    for (chunk, targets) in positions.targets.chunks(rows).enumerate() {
        let start = chunk * rows;
        let chunk_hidden = hidden.view_rows(start, targets.len());
        logits.reset(targets.len(), count + 1);
        multiply(logits.view_mut().get_mut(.., ..count), chunk_hidden, sampled.view().transpose());
        for (row, &target) in targets.iter().enumerate() {
            correct_row(logits.row_mut(row), candidates, output, hidden.row(start + row), target);
        }
        total += logits_to_gradient(logits, &[], &own_columns[..targets.len()], 0.0, positions.scale);
        multiply(
            hidden_gradient.view_rows_mut(start, targets.len()),
            negatives(logits, count),
            sampled.view(),
        );
        multiply_add(sampled_gradient.view_mut(), negatives(logits, count).transpose(), chunk_hidden);
        add_column_sums(&mut column_sums.values, logits);
        for (row, &target) in targets.iter().enumerate() {
            let (slope, target, at) = (logits.row(row)[count], target as usize, start + row);
            gradient.bias.values[target] += slope;
            add_scaled(hidden_gradient.row_mut(at), slope, output.embedding.row(target));
            add_scaled(gradient.embedding.row_mut(target), slope, hidden.row(at));
        }
    }
    for (index, &item) in candidates.items.iter().enumerate() {
        gradient.bias.values[item as usize] += column_sums.values[index];
        add(gradient.embedding.row_mut(item as usize), sampled_gradient.row(index));
    }
    total
}

vectorized! {
    /// Adds biases and corrections to one row of sampled logits, removes accidental hits of the target and writes the
    /// target's own logit into the last column.
    fn correct_row(
        row: &mut [f32],
        candidates: &Candidates,
        output: Output<'_>,
        hidden: &[f32],
        target: u32,
    ) {
        let bias = &output.bias.values;
        let candidate = candidates.items.iter().zip(&candidates.corrections);
        for (value, (&item, correction)) in row.iter_mut().zip(candidate) {
            *value = if item == target { f32::MIN } else { *value + bias[item as usize] - correction };
        }
        let own = dot(hidden, output.embedding.row(target as usize));
        row[candidates.items.len()] = own + bias[target as usize];
    }
}

/// The columns before the target's own.
fn negatives(logits: &Matrix, count: usize) -> MatRef<'_, f32> {
    logits.view().get(.., ..count)
}

/// `output[i] = table[rows[i]]`.
fn gather(output: &mut Matrix, table: &Matrix, rows: &[u32]) {
    output.reset(rows.len(), table.columns);
    for (index, &row) in rows.iter().enumerate() {
        output.row_mut(index).copy_from_slice(table.row(row as usize));
    }
}
