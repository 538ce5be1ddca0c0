//! Vectors of which the first numbers are vectors too, where a model was trained for that (Kusupati et al., "Matryoshka
//! Representation Learning", 2022): its `config.json` says so with `matryoshka_dimensions`, or with `is_matryoshka` for every
//! length, as serving programs read it. It refuses to guess: of other models the first numbers mean little.

use serde::Deserialize;

/// The lengths that vectors may be cut to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Lengths {
    is_matryoshka: Option<bool>,
    matryoshka_dimensions: Option<Vec<usize>>,
}

impl Lengths {
    /// Whether vectors of `own` numbers may be cut to `wanted`.
    pub(super) fn allow(&self, wanted: usize, own: usize) -> bool {
        let is_trained = match &self.matryoshka_dimensions {
            Some(named) => named.contains(&wanted),
            None => self.is_matryoshka == Some(true),
        };
        wanted == own || is_trained && (1..own).contains(&wanted)
    }
}

/// The first numbers of a vector, of length 1 again; all zeros where they are that.
#[must_use]
pub fn shortened(vector: &[f32], dimensions: usize) -> Vec<f32> {
    let kept = &vector[..dimensions.min(vector.len())];
    let norm = kept.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    let scale = if norm > 0.0 { norm.recip() } else { 0.0 };
    kept.iter().map(|value| (f64::from(*value) * scale) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_model_that_says_so_is_cut() {
        let check = |config: &str, lawful: &[usize]| {
            let lengths: Lengths = serde_json::from_str(config).unwrap();
            let found: Vec<usize> = (0..10).filter(|wanted| lengths.allow(*wanted, 8)).collect();
            assert_eq!(found, lawful, "{config}");
        };
        check("{}", &[8]);
        check(r#"{"is_matryoshka": false}"#, &[8]);
        check(r#"{"matryoshka_dimensions": null}"#, &[8]);
        check(r#"{"is_matryoshka": true}"#, &[1, 2, 3, 4, 5, 6, 7, 8]);
        check(r#"{"matryoshka_dimensions": [0, 2, 4, 9]}"#, &[2, 4, 8]);
        check(r#"{"is_matryoshka": true, "matryoshka_dimensions": [4]}"#, &[4, 8]);
    }

    #[test]
    fn what_is_left_has_length_one() {
        assert_eq!(shortened(&[3.0, 4.0, 12.0], 2), [0.6, 0.8]);
        assert_eq!(shortened(&[0.0, 0.0, 1.0], 2), [0.0, 0.0]);
    }
}
