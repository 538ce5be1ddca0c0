//! Self-attention of packed texts (Vaswani et al. 2017): each text attends to itself alone, so that nothing is masked.

use faer::reborrow::ReborrowMut;
use faer::{MatMut, MatRef};

use super::kernels::{multiply, softmax};

/// How attention is cut into heads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heads {
    pub count: usize,
    pub width: usize,
}

impl Heads {
    /// For each text, every head: `softmax(queries · keys' / √width) · values`. A row of `projected` has the queries, the
    /// keys and the values of a token; `scores` is room to work in.
    pub(super) fn attend(
        self,
        lengths: &[usize],
        projected: &[f32],
        mixed: &mut [f32],
        scores: &mut Vec<f32>,
    ) {
        let hidden = self.count * self.width;
        let tokens: usize = lengths.iter().sum();
        let projected = MatRef::from_row_major_slice(projected, tokens, 3 * hidden);
        let mut mixed = MatMut::from_row_major_slice_mut(mixed, tokens, hidden);
        let scale = 1.0 / (self.width as f32).sqrt();
        let mut start = 0;
        for &length in lengths {
            scores.clear();
            scores.resize(self.count * length * length, 0.0);
            let part = |kind: usize, head: usize| {
                projected.submatrix(start, kind * hidden + head * self.width, length, self.width)
            };
            for (head, scores) in scores.chunks_exact_mut(length * length).enumerate() {
                let scores = MatMut::from_row_major_slice_mut(scores, length, length);
                multiply(scores, part(0, head), part(1, head).transpose());
            }
            softmax(scores, length, scale);
            for (head, scores) in scores.chunks_exact(length * length).enumerate() {
                let output = mixed.rb_mut().submatrix_mut(start, head * self.width, length, self.width);
                multiply(output, MatRef::from_row_major_slice(scores, length, length), part(2, head));
            }
            start += length;
        }
    }
}
