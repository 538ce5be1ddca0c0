//! Dropout: random values are left out while training, so that no unit relies on another. Off when serving.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::kernels::vectorized;

/// Inverted dropout (Srivastava et al. 2014). The probability is kept in 1/256 so that one random byte decides.
#[derive(Default)]
pub(super) struct Dropout {
    bytes: Vec<u8>,
    threshold: u8,
    scale: f32,
}

impl Dropout {
    /// Draws a new mask for `count` values.
    pub(super) fn draw(&mut self, count: usize, probability: f32, rng: &mut ChaCha8Rng) {
        self.threshold = (probability * 256.0).round().min(255.0) as u8;
        self.scale = 256.0 / (256.0 - f32::from(self.threshold));
        self.bytes.clear();
        if self.threshold > 0 {
            self.bytes.resize(count, 0);
            rng.fill_bytes(&mut self.bytes);
        }
    }

    /// No mask: for inference.
    pub(super) fn disable(&mut self) {
        self.bytes.clear();
    }

    /// Masks values in the forward pass, or their gradient in the backward pass.
    pub(super) fn apply(&self, values: &mut [f32]) {
        apply_mask(values, &self.bytes, self.threshold, self.scale);
    }
}

vectorized! {
    fn apply_mask(values: &mut [f32], bytes: &[u8], threshold: u8, scale: f32) {
        for (value, &byte) in values.iter_mut().zip(bytes) {
            *value *= if byte < threshold { 0.0 } else { scale };
        }
    }
}
