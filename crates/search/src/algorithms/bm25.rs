//! BM25 (Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework"), in the form that Lucene computes: the
//! inverse document frequency is never negative, and the constant factor `k1 + 1` is left out, as no order depends on it.
//!
//! It refuses fields: a text is one bag of terms. To change the formula: [`Bm25::share`], and its test.

use kernel::{Error, Result, codes};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The two parameters.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Bm25 {
    /// How slowly further occurrences of a term stop to count, 0 to 10. The default is Anserini's.
    pub k1: f32,
    /// How much long texts are held back, 0 to 1. The default is Anserini's.
    pub b: f32,
}

impl Default for Bm25 {
    fn default() -> Self {
        Self { k1: 0.9, b: 0.4 }
    }
}

impl Bm25 {
    /// Checks the ranges.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` naming the parameter.
    pub fn validate(&self) -> Result<()> {
        let check = |name: &str, value: f32, most: f32| {
            // Written so that NaN is refused.
            if (0.0..=most).contains(&value) {
                return Ok(());
            }
            let message = format!("`{name}` must be 0 to {most}, not {value}");
            Err(Error::new(codes::VALIDATION_ERROR, message).with_field(name))
        };
        check("k1", self.k1, 10.0)?;
        check("b", self.b, 1.0)
    }

    /// What a text of `length` terms adds below the fraction, where texts have `average` terms. An index without any
    /// terms has no average; then every text is of average length.
    #[must_use]
    pub fn norm(&self, length: f32, average: f32) -> f32 {
        let relative = if average > 0.0 { length / average } else { 1.0 };
        self.k1 * (1.0 - self.b + self.b * relative)
    }

    /// The part of the inverse document frequency that a term gets which occurs `frequency` times, 0 to 1.
    #[must_use]
    #[inline(always)]
    pub fn share(frequency: f32, norm: f32) -> f32 {
        frequency / (frequency + norm)
    }
}

/// How much a term tells, of which `with_term` of `documents` texts have one. Never negative.
#[must_use]
pub fn inverse_document_frequency(documents: u64, with_term: u64) -> f32 {
    let (documents, with_term) = (documents as f64, with_term.min(documents) as f64);
    (1.0 + (documents - with_term + 0.5) / (with_term + 0.5)).ln() as f32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn agrees_with_figures_worked_out_by_hand() {
        let check =
            |value: f32, expected: f32| assert!((value - expected).abs() < 1e-5, "{value} {expected}");
        // ln(1 + (100 - 10 + 0.5) / (10 + 0.5))
        check(inverse_document_frequency(100, 10), 2.263_745);
        check(inverse_document_frequency(0, 0), std::f32::consts::LN_2);
        let bm25 = Bm25 { k1: 1.2, b: 0.75 };
        // 3 / (3 + 1.2 · (0.25 + 0.75 · 2))
        check(Bm25::share(3.0, bm25.norm(20.0, 10.0)), 3.0 / 5.1);
        check(bm25.norm(7.0, 0.0), 1.2);
    }

    #[test]
    fn parameters_are_checked() {
        let check =
            |k1: f32, b: f32, good: bool| assert_eq!(Bm25 { k1, b }.validate().is_ok(), good, "{k1} {b}");
        check(0.9, 0.4, true);
        check(0.0, 1.0, true);
        check(-0.1, 0.4, false);
        check(0.9, 1.1, false);
        check(f32::NAN, 0.4, false);
        check(f32::INFINITY, 0.4, false);
    }

    proptest! {
        #[test]
        fn more_occurrences_and_shorter_texts_count_more(
            frequency in 1_u32..1_000, length in 1_u32..10_000, k1 in 0.1_f32..3.0, b in 0.1_f32..1.0,
        ) {
            let bm25 = Bm25 { k1, b };
            let share = |frequency: u32, length: u32| Bm25::share(frequency as f32, bm25.norm(length as f32, 100.0));
            prop_assert!(share(frequency + 1, length) >= share(frequency, length));
            prop_assert!(share(frequency, length + 1) <= share(frequency, length));
            prop_assert!((0.0..=1.0).contains(&share(frequency, length)));
        }
    }
}
