//! The convex problem behind the weights of a blend: its loss, and the projected Newton method that minimises it.
//!
//! Refuses: curvature that is not positive definite, which a positive L2 rules out.

use rayon::prelude::*;

/// The competing items of one user.
pub(super) struct Example {
    /// Whose they are: several examples may be of one person.
    pub(super) person: u32,
    pub(super) history_length: usize,
    /// One row of terms per item: what each source would add with a weight of 1.
    pub(super) terms: Vec<f32>,
    pub(super) is_target: Vec<bool>,
    pub(super) target_count: usize,
    /// All targets, competing or not.
    pub(super) wanted: usize,
}

/// The blended score of each competing item.
pub(super) fn score(weights: &[f64], example: &Example, scores: &mut Vec<f64>) {
    let dot = |terms: &[f32]| -> f64 {
        weights.iter().zip(terms).map(|(weight, &term)| weight * f64::from(term)).sum()
    };
    scores.clear();
    scores.extend(example.terms.chunks_exact(weights.len()).map(dot));
}

/// The loss with its first and second derivatives (row-major).
#[derive(Debug, Clone, PartialEq)]
struct Loss {
    value: f64,
    gradient: Vec<f64>,
    curvature: Vec<f64>,
}

impl Loss {
    fn zero(size: usize) -> Self {
        Self { value: 0.0, gradient: vec![0.0; size], curvature: vec![0.0; size * size] }
    }

    fn add(&mut self, other: &Self) {
        self.value += other.value;
        self.gradient.iter_mut().zip(&other.gradient).for_each(|(sum, value)| *sum += value);
        self.curvature.iter_mut().zip(&other.curvature).for_each(|(sum, value)| *sum += value);
    }

    /// Adds the cross-entropy of one user's targets under the softmax of the scores.
    fn add_example(&mut self, weights: &[f64], example: &Example, scores: &mut Vec<f64>) {
        let size = weights.len();
        score(weights, example, scores);
        let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = scores.iter().map(|score| (score - highest).exp()).sum();
        let target_share = 1.0 / example.target_count as f64;
        let mut means = vec![0.0; size];
        for ((terms, &is_target), &score) in
            example.terms.chunks_exact(size).zip(&example.is_target).zip(&*scores)
        {
            let probability = (score - highest).exp() / total;
            let wanted = if is_target { target_share } else { 0.0 };
            self.value -= wanted * (score - highest - total.ln());
            for (left, &term) in terms.iter().enumerate() {
                let term = f64::from(term);
                means[left] += probability * term;
                self.gradient[left] += (probability - wanted) * term;
                for (right, &other) in terms[..=left].iter().enumerate() {
                    self.curvature[left * size + right] += probability * term * f64::from(other);
                }
            }
        }
        for left in 0..size {
            for right in 0..=left {
                self.curvature[left * size + right] -= means[left] * means[right];
            }
        }
    }
}

/// The mean loss over the examples with the penalty.
fn loss(weights: &[f64], examples: &[&Example], prior: &[f64], l2: f64) -> Loss {
    // Fixed chunks, added in order: the sum does not depend on the number of threads.
    let chunk = |examples: &[&Example]| {
        let (mut sum, mut scores) = (Loss::zero(weights.len()), Vec::new());
        examples.iter().for_each(|example| sum.add_example(weights, example, &mut scores));
        sum
    };
    let chunks: Vec<Loss> = examples.par_chunks(64).map(chunk).collect();
    let (size, count) = (weights.len(), examples.len().max(1) as f64);
    let mut mean = Loss::zero(size);
    chunks.iter().for_each(|chunk| mean.add(chunk));
    mean.value /= count;
    for left in 0..size {
        let difference = weights[left] - prior[left];
        mean.value += 0.5 * l2 * difference * difference;
        mean.gradient[left] = mean.gradient[left] / count + l2 * difference;
        for right in 0..=left {
            let value = mean.curvature[left * size + right] / count + if left == right { l2 } else { 0.0 };
            mean.curvature[left * size + right] = value;
            mean.curvature[right * size + left] = value;
        }
    }
    mean
}

/// The weights of least loss, none negative. The search starts at the prior.
pub(super) fn minimise(examples: &[&Example], prior: &[f64], l2: f64) -> Vec<f64> {
    const MOST_STEPS: usize = 60;
    const SMALL_GRADIENT: f64 = 1e-7;
    let mut weights: Vec<f64> = prior.to_vec();
    let mut current = loss(&weights, examples, prior, l2);
    for _ in 0..MOST_STEPS {
        let free: Vec<usize> = (0..weights.len())
            .filter(|&index| weights[index] > 0.0 || current.gradient[index] < 0.0)
            .collect();
        if free.iter().all(|&index| current.gradient[index].abs() < SMALL_GRADIENT) {
            break;
        }
        let step = newton_step(&current, &free);
        let mut length = 1.0;
        let next = loop {
            let mut next = weights.clone();
            free.iter()
                .zip(&step)
                .for_each(|(&index, step)| next[index] = (weights[index] - length * step).max(0.0));
            let value = loss(&next, examples, prior, l2);
            if value.value < current.value {
                break Some((next, value));
            }
            length /= 2.0;
            if length < 1e-10 {
                break None;
            }
        };
        let Some((next, value)) = next else { break };
        (weights, current) = (next, value);
    }
    weights
}

/// Solves `curvature * step = gradient` over the free weights by elimination; the curvature is positive definite.
fn newton_step(loss: &Loss, free: &[usize]) -> Vec<f64> {
    let (size, count) = (loss.gradient.len(), free.len());
    let mut rows: Vec<Vec<f64>> = free
        .iter()
        .map(|&row| {
            free.iter()
                .map(|&column| loss.curvature[row * size + column])
                .chain([loss.gradient[row]])
                .collect()
        })
        .collect();
    for pivot in 0..count {
        let (done, rest) = rows.split_at_mut(pivot + 1);
        for row in rest {
            let factor = row[pivot] / done[pivot][pivot];
            row.iter_mut().zip(&done[pivot]).for_each(|(value, above)| *value -= factor * above);
        }
    }
    let mut step = vec![0.0; count];
    for pivot in (0..count).rev() {
        let known: f64 = (pivot + 1..count).map(|column| rows[pivot][column] * step[column]).sum();
        step[pivot] = (rows[pivot][count] - known) / rows[pivot][pivot];
    }
    step
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn examples(seed: u32) -> Vec<Example> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from(state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        let mut one = |user: usize| {
            let terms: Vec<f32> = (0..60).map(|_| 4.0 * next()).collect();
            let best = (0..20).max_by(|&left, &right| {
                let value = |row: usize| 2.0 * terms[3 * row] + terms[3 * row + 1] - 3.0 * terms[3 * row + 2];
                value(left).total_cmp(&value(right))
            });
            let is_target = (0..20).map(|row| Some(row) == best || row == user % 20).collect::<Vec<_>>();
            let target_count = is_target.iter().filter(|&&is_target| is_target).count();
            Example {
                person: user as u32,
                history_length: user % 50,
                terms,
                is_target,
                target_count,
                wanted: target_count + user % 2,
            }
        };
        (0..200).map(&mut one).collect()
    }

    #[test]
    fn the_derivatives_are_those_of_the_loss() {
        let examples = examples(7);
        let examples: Vec<&Example> = examples.iter().collect();
        let (weights, prior) = ([0.4, 0.9, 0.1], [0.2, 0.0, 0.3]);
        let at = |weights: &[f64]| loss(weights, &examples, &prior, 0.1);
        let here = at(&weights);
        for index in 0..3 {
            let mut moved = weights;
            moved[index] += 1e-5;
            let above = at(&moved);
            moved[index] -= 2e-5;
            let below = at(&moved);
            assert!(((above.value - below.value) / 2e-5 - here.gradient[index]).abs() < 1e-7);
            for other in 0..3 {
                let numeric = (above.gradient[other] - below.gradient[other]) / 2e-5;
                assert!((numeric - here.curvature[index * 3 + other]).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn the_minimum_is_where_no_allowed_step_helps() {
        let examples = examples(3);
        let examples: Vec<&Example> = examples.iter().collect();
        let weights = minimise(&examples, &[0.0; 3], 1e-3);
        let at = loss(&weights, &examples, &[0.0; 3], 1e-3);
        assert!(weights[0] > weights[1] && weights[1] > 0.0, "{weights:?}");
        assert_eq!(weights[2], 0.0, "a source that is wrong is left out");
        assert!(at.gradient[0].abs() < 1e-6 && at.gradient[1].abs() < 1e-6 && at.gradient[2] > 0.0, "{at:?}");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(weights, pool.install(|| minimise(&examples, &[0.0; 3], 1e-3)));
    }
}
