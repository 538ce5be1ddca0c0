//! The inner loops of alternating least squares: conjugate gradient for training, Cholesky for serving.
//!
//! Both solve `A x = b` for one row, with `A = gram + l2 I + sum_i w_i y_i y_i'` and `b = sum_i w_i y_i`, where `y_i`
//! are the factors of the other side. Widths are multiples of [`LANES`], so that no loop has a tail.
//! Vector operations stand in plain loops: a closure is compiled without the instruction set, and calls each of them.
//! Refuses: forming `A` in training, which would cost `width / 8` times as much as a conjugate gradient step.

use super::simd::{dot, dot_with};
use pulp::{Arch, Simd, WithSimd};

/// Widths are padded to a multiple of this: the floats of the widest vector register.
pub(crate) const LANES: usize = 16;

/// Buffers of one thread.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    rows: Vec<f32>,
    residual: Vec<f32>,
    direction: Vec<f32>,
    product: Vec<f32>,
}

/// What all rows of one side share.
#[derive(Clone, Copy)]
pub(crate) struct Side<'a> {
    /// Factors of the other side, row-major.
    pub(crate) factors: &'a [f32],
    /// `width x width`: the products of all rows of `factors`, times the weight of what was not observed.
    pub(crate) gram: &'a [f32],
    pub(crate) width: usize,
}

impl Side<'_> {
    /// Moves `solution` towards the solution for one row by `steps` of conjugate gradient, starting from what it
    /// holds (Takács, Pilászy, Tikk: "Applications of the Conjugate Gradient Method for Implicit Feedback
    /// Collaborative Filtering", RecSys 2011).
    pub(crate) fn descend(
        self,
        (items, weights): (&[u32], &[f32]),
        l2: f32,
        steps: usize,
        workspace: &mut Workspace,
        solution: &mut [f32],
    ) {
        let Workspace { rows, residual, direction, product } = workspace;
        rows.clear();
        for &item in items {
            rows.extend_from_slice(&self.factors[item as usize * self.width..][..self.width]);
        }
        for buffer in [&mut *residual, direction, product] {
            buffer.resize(self.width, 0.0);
        }
        let system = System { rows, weights, gram: self.gram, l2, width: self.width };
        Arch::new().dispatch(Descent { system, steps, residual, direction, product, solution });
    }
}

/// `A` and `b` of one row, never formed.
#[derive(Clone, Copy)]
struct System<'a> {
    rows: &'a [f32],
    weights: &'a [f32],
    gram: &'a [f32],
    l2: f32,
    width: usize,
}

struct Descent<'a> {
    system: System<'a>,
    steps: usize,
    residual: &'a mut [f32],
    direction: &'a mut [f32],
    product: &'a mut [f32],
    solution: &'a mut [f32],
}

/// Squared residual below which a row is solved.
const SOLVED: f32 = 1e-20;

impl WithSimd for Descent<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { system, steps, residual, direction, product, solution } = self;
        // residual = b - A x: each row adds w (1 - y.x) y.
        system.apply_shared(simd, solution, product);
        residual.iter_mut().zip(&*product).for_each(|(residual, &product)| *residual = -product);
        system.add_rows(simd, solution, residual, |weight, dot| weight * (1.0 - dot));
        direction.copy_from_slice(residual);
        let mut squared = dot_with(simd, residual, residual);
        for _ in 0..steps {
            if squared < SOLVED {
                break;
            }
            system.apply_shared(simd, direction, product);
            system.add_rows(simd, direction, product, |weight, dot| weight * dot);
            let step = squared / dot_with(simd, direction, product);
            add_scaled_lanes(simd, step, direction, solution);
            add_scaled_lanes(simd, -step, product, residual);
            let previous = squared;
            squared = dot_with(simd, residual, residual);
            let keep = simd.splat_f32s(squared / previous);
            let lanes = S::as_mut_simd_f32s(direction).0.iter_mut().zip(S::as_simd_f32s(residual).0);
            for (direction, &residual) in lanes {
                *direction = simd.mul_add_e_f32s(keep, *direction, residual);
            }
        }
    }
}

#[inline(always)]
fn add_scaled_lanes<S: Simd>(simd: S, scale: f32, source: &[f32], target: &mut [f32]) {
    let scale = simd.splat_f32s(scale);
    let (target, source) = (S::as_mut_simd_f32s(target).0, S::as_simd_f32s(source).0);
    for (target, &source) in target.iter_mut().zip(source) {
        *target = simd.mul_add_e_f32s(scale, source, *target);
    }
}

/// Splits four rows of a row-major matrix into vectors of the same number each.
#[inline(always)]
fn four_rows<S: Simd>(rows: &[f32], width: usize) -> [&[S::f32s]; 4] {
    let (first, rest) = rows.split_at(width);
    let (second, rest) = rest.split_at(width);
    let (third, fourth) = rest.split_at(width);
    [S::as_simd_f32s(first).0, S::as_simd_f32s(second).0, S::as_simd_f32s(third).0, S::as_simd_f32s(fourth).0]
}

/// `target += scales . rows`, four rows at once, so that the target is read and written once.
#[inline(always)]
fn add_four_rows<S: Simd>(simd: S, scales: [f32; 4], rows: [&[S::f32s]; 4], target: &mut [f32]) {
    let (a, b) = (simd.splat_f32s(scales[0]), simd.splat_f32s(scales[1]));
    let (c, d) = (simd.splat_f32s(scales[2]), simd.splat_f32s(scales[3]));
    let target = S::as_mut_simd_f32s(target).0;
    let count = target.len();
    let [first, second, third, fourth] = rows;
    let (first, second, third, fourth) =
        (&first[..count], &second[..count], &third[..count], &fourth[..count]);
    for lane in 0..count {
        let near = simd.mul_add_e_f32s(a, first[lane], target[lane]);
        let far = simd.mul_add_e_f32s(b, second[lane], simd.mul_f32s(c, third[lane]));
        target[lane] = simd.add_f32s(near, simd.mul_add_e_f32s(d, fourth[lane], far));
    }
}

impl System<'_> {
    /// `product = (gram + l2 I) vector`.
    #[inline(always)]
    fn apply_shared<S: Simd>(self, simd: S, vector: &[f32], product: &mut [f32]) {
        let l2 = simd.splat_f32s(self.l2);
        let lanes = S::as_mut_simd_f32s(product).0.iter_mut().zip(S::as_simd_f32s(vector).0);
        for (product, &value) in lanes {
            *product = simd.mul_f32s(l2, value);
        }
        // The matrix is symmetric, so its rows serve as columns.
        let groups = self.gram.chunks_exact(4 * self.width).zip(vector.as_chunks::<4>().0);
        for (rows, &scales) in groups {
            add_four_rows(simd, scales, four_rows::<S>(rows, self.width), product);
        }
    }

    /// `target += sum_i coefficient(w_i, y_i . vector) y_i`.
    #[inline(always)]
    fn add_rows<S: Simd>(
        self,
        simd: S,
        vector: &[f32],
        target: &mut [f32],
        coefficient: impl Fn(f32, f32) -> f32,
    ) {
        let groups = self.rows.chunks_exact(4 * self.width);
        let (rest, rest_start) = (groups.remainder(), self.weights.len() / 4 * 4);
        for (rows, weights) in groups.zip(self.weights.as_chunks::<4>().0) {
            let rows = four_rows::<S>(rows, self.width);
            let lanes = S::as_simd_f32s(vector).0;
            let count = lanes.len();
            let [first, second, third, fourth] = rows;
            let (first, second, third, fourth) =
                (&first[..count], &second[..count], &third[..count], &fourth[..count]);
            let mut sums = [simd.splat_f32s(0.0); 4];
            for lane in 0..count {
                sums[0] = simd.mul_add_e_f32s(lanes[lane], first[lane], sums[0]);
                sums[1] = simd.mul_add_e_f32s(lanes[lane], second[lane], sums[1]);
                sums[2] = simd.mul_add_e_f32s(lanes[lane], third[lane], sums[2]);
                sums[3] = simd.mul_add_e_f32s(lanes[lane], fourth[lane], sums[3]);
            }
            let mut scales = [0.0; 4];
            for row in 0..4 {
                scales[row] = coefficient(weights[row], simd.reduce_sum_f32s(sums[row]));
            }
            add_four_rows(simd, scales, rows, target);
        }
        for (row, &weight) in rest.chunks_exact(self.width).zip(&self.weights[rest_start..]) {
            let scale = coefficient(weight, dot_with(simd, row, vector));
            add_scaled_lanes(simd, scale, row, target);
        }
    }
}

/// Factors a symmetric positive definite row-major matrix in place: its lower triangle becomes `L` of `L L'`. A pivot
/// that rounding has made non-positive is taken as tiny.
pub(crate) fn factor_in_place(matrix: &mut [f32], width: usize) {
    for row in 0..width {
        let (above, own) = matrix.split_at_mut(row * width);
        for column in 0..row {
            let other = &above[column * width..][..column + 1];
            own[column] = (own[column] - dot(&own[..column], &other[..column])) / other[column];
        }
        let pivot = own[row] - dot(&own[..row], &own[..row]);
        own[row] = pivot.max(f32::MIN_POSITIVE).sqrt();
    }
}

/// Solves `L L' x = vector` in place.
pub(crate) fn solve_in_place(factor: &[f32], width: usize, vector: &mut [f32]) {
    for row in 0..width {
        let known = dot(&factor[row * width..][..row], &vector[..row]);
        vector[row] = (vector[row] - known) / factor[row * width + row];
    }
    for row in (0..width).rev() {
        let value = vector[row] / factor[row * width + row];
        vector[row] = value;
        let (before, own) = (&mut vector[..row], &factor[row * width..][..row]);
        before.iter_mut().zip(own).for_each(|(entry, &factor)| *entry -= value * factor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn descent_and_cholesky_agree() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for (width, count) in [(16, 0), (16, 1), (16, 7), (32, 40), (64, 9), (48, 64)] {
            let mut random =
                |len: usize| -> Vec<f32> { (0..len).map(|_| rng.random::<f32>() - 0.5).collect() };
            let factors = random(width * 80);
            let mut gram = vec![0.0; width * width];
            for row in factors.chunks(width) {
                for left in 0..width {
                    for right in 0..width {
                        gram[left * width + right] += 0.1 * row[left] * row[right];
                    }
                }
            }
            let items: Vec<u32> = (0..count).collect();
            let weights: Vec<f32> = items.iter().map(|&item| 1.0 + item as f32 * 0.1).collect();
            let side = Side { factors: &factors, gram: &gram, width };
            let mut solution = random(width);
            side.descend((&items, &weights), 0.5, 3 * width, &mut Workspace::default(), &mut solution);
            let (mut matrix, mut expected) = (gram.clone(), vec![0.0; width]);
            for (&item, &weight) in items.iter().zip(&weights) {
                let row = &factors[item as usize * width..][..width];
                for left in 0..width {
                    expected[left] += weight * row[left];
                    for right in 0..width {
                        matrix[left * width + right] += weight * row[left] * row[right];
                    }
                }
            }
            (0..width).for_each(|entry| matrix[entry * width + entry] += 0.5);
            factor_in_place(&mut matrix, width);
            solve_in_place(&matrix, width, &mut expected);
            for (value, expected) in solution.iter().zip(&expected) {
                assert!(
                    (value - expected).abs() < 1e-4,
                    "width {width}, {count} rows: {value} for {expected}"
                );
            }
        }
    }
}
