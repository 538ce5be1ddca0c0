//! Whether what comes in now is like what a model was trained on.
//!
//! - [`document`]: the file that carries a reference beside its model.
//! - [`reference`]: what is kept of the training data: a sample of bounded size for each feature, and how much was missing.
//! - [`tests`](two_sample): two-sample tests of Kolmogorov and Smirnov, exact; Fisher's of what is missing.
//! - [`multiplicity`]: over features and over time.
//!
//! [`check`] looks once: each feature is tested, Holm's procedure holds the probability of any false alarm of a look below
//! the look's level whatever hangs together, and the levels of all looks that there will ever be add up to one. So a
//! monitor that never sees drift is wrong with that probability over its whole life, not at each look.
//!
//! Rows must be exchangeable with those of the training where nothing drifts: of a time series give changes, not levels. The
//! population stability index is told because people know it; nothing is decided by it. It refuses categories: count them
//! as shares first.

pub mod document;
pub mod multiplicity;
pub mod reference;
pub mod two_sample;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Invalid, require};
use multiplicity::{holm, look_level};
use reference::Reference;
use two_sample::{fisher_exact, kolmogorov_smirnov, population_stability_index};

/// How drift is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DriftSettings {
    /// The probability of any false alarm over all looks and features, at most.
    pub false_alarm: f64,
    /// Values of a feature below which a look tells nothing of it.
    pub values_min: usize,
}

impl Default for DriftSettings {
    fn default() -> Self {
        Self { false_alarm: 0.05, values_min: document::SAMPLE_MIN }
    }
}

impl DriftSettings {
    /// Passes when they make sense.
    ///
    /// # Errors
    /// The setting that does not.
    pub fn validate(&self) -> Result<(), Invalid> {
        require((1e-6..=0.5).contains(&self.false_alarm), "false_alarm", "must be between 0.000001 and 0.5")?;
        require(self.values_min >= 2, "values_min", "must be at least 2")
    }
}

/// What a look found of one feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureReport {
    /// Its name.
    pub feature: String,
    /// Values of it in this look.
    pub count: usize,
    /// What was missing of it.
    pub missing: usize,
    /// The largest distance of the two distribution functions; none where there were too few values.
    pub statistic: Option<f64>,
    /// The p-value of that.
    pub p_value: Option<f64>,
    /// The p-value of the share that is missing; none where nothing is, now or in the reference.
    pub missing_p_value: Option<f64>,
    /// The smaller of both after Holm: compare with the look's level.
    pub adjusted_p_value: f64,
    /// For people: below 0.1 is usually called stable.
    pub population_stability_index: Option<f64>,
    /// Whether it drifted.
    pub drifted: bool,
}

/// What a look found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DriftReport {
    /// The number of the look, 1 for the first.
    pub look: u64,
    /// The level that this look may spend.
    pub level: f64,
    /// Features of the reference that the look lacks.
    pub absent: Vec<String>,
    /// By name.
    pub features: Vec<FeatureReport>,
}

impl DriftReport {
    /// Whether anything drifted.
    #[must_use]
    pub fn drifted(&self) -> bool {
        self.features.iter().any(|feature| feature.drifted)
    }
}

/// Looks for the `look`-th time (1 for the first). `current` has the values of each feature; what is no finite number is
/// missing. Features that the reference does not know are left out, those that the look lacks are named.
#[must_use]
pub fn check(
    reference: &Reference,
    current: &BTreeMap<String, Vec<f64>>,
    look: u64,
    settings: &DriftSettings,
) -> DriftReport {
    let level = look_level(settings.false_alarm, look);
    let mut absent = Vec::new();
    let mut features = Vec::new();
    for (name, known) in &reference.features {
        let Some(values) = current.get(name) else {
            absent.push(name.clone());
            continue;
        };
        let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let missing = values.len() - sorted.len();
        let enough = sorted.len() >= settings.values_min && known.values().len() >= settings.values_min;
        let tested = enough.then(|| kolmogorov_smirnov(known.values(), &sorted));
        let any_missing = missing > 0 || known.missing > 0;
        let missing_p_value = (any_missing && values.len() >= settings.values_min)
            .then(|| fisher_exact(known.missing, known.count, missing as u64, sorted.len() as u64));
        features.push(FeatureReport {
            feature: name.clone(),
            count: sorted.len(),
            missing,
            statistic: tested.map(|tested| tested.statistic),
            p_value: tested.map(|tested| tested.p_value),
            missing_p_value,
            adjusted_p_value: 1.0,
            population_stability_index: enough.then(|| population_stability_index(known.values(), &sorted)),
            drifted: false,
        });
    }
    judge(&mut features, level);
    DriftReport { look, level, absent, features }
}

/// Adjusts the p-values of a look for one another.
fn judge(features: &mut [FeatureReport], level: f64) {
    let mut p_values = Vec::new();
    for (at, feature) in features.iter().enumerate() {
        p_values
            .extend(feature.p_value.into_iter().chain(feature.missing_p_value).map(|p_value| (at, p_value)));
    }
    let adjusted = holm(&p_values.iter().map(|(_, p_value)| *p_value).collect::<Vec<_>>());
    for ((at, _), adjusted) in p_values.into_iter().zip(adjusted) {
        let feature = &mut features[at];
        feature.adjusted_p_value = feature.adjusted_p_value.min(adjusted);
        feature.drifted |= adjusted <= level;
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::reference::Sampler;
    use super::*;

    fn normal(random: &mut ChaCha8Rng) -> f64 {
        let (one, two) = (random.random::<f64>().max(1e-300), random.random::<f64>());
        (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * two).cos()
    }

    /// Rows of features that hang together through one common part.
    fn rows(
        random: &mut ChaCha8Rng,
        count: usize,
        shift: f64,
        lognormal: bool,
    ) -> BTreeMap<String, Vec<f64>> {
        let mut columns: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for _ in 0..count {
            let common = normal(random);
            for feature in 0..4 {
                let value = (common + normal(random)) / 2_f64.sqrt() + if feature == 0 { shift } else { 0.0 };
                let value = if lognormal { value.exp() } else { value };
                columns.entry(format!("f{feature}")).or_default().push(value);
            }
        }
        columns
    }

    fn reference(columns: &BTreeMap<String, Vec<f64>>) -> Reference {
        let mut sampler = Sampler::new(300, 1);
        columns.iter().for_each(|(name, values)| {
            values.iter().enumerate().for_each(|(row, value)| sampler.add(name, row as u64, *value));
        });
        sampler.finish()
    }

    /// How many of `runs` monitors alarm at any of 8 looks, and how many do at the ninth, which is shifted.
    fn alarms(runs: u64, lognormal: bool, shift: f64) -> [usize; 2] {
        let settings = DriftSettings::default();
        let mut found = [0, 0];
        for seed in 0..runs {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let known = reference(&rows(&mut random, 600, 0.0, lognormal));
            let quiet = (1..=8)
                .any(|look| check(&known, &rows(&mut random, 60, 0.0, lognormal), look, &settings).drifted());
            let report = check(&known, &rows(&mut random, 60, shift, lognormal), 9, &settings);
            found[0] += usize::from(quiet);
            let is_named = report.features.iter().all(|feature| feature.drifted == (feature.feature == "f0"));
            found[1] += usize::from(report.drifted() && is_named);
        }
        found
    }

    #[test]
    fn quiet_monitors_are_quiet_and_a_shift_is_named() {
        for lognormal in [false, true] {
            let [quiet, shifted] = alarms(60, lognormal, 1.5);
            assert!(quiet <= 3 && shifted >= 57, "{lognormal}: {quiet} {shifted}");
        }
    }

    #[test]
    fn what_is_missing_absent_or_too_little_is_told() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let known = reference(&rows(&mut random, 600, 0.0, false));
        let mut current = rows(&mut random, 60, 0.0, false);
        current.get_mut("f0").unwrap().fill(f64::NAN);
        current.get_mut("f1").unwrap().truncate(3);
        current.remove("f2");
        current.insert("unknown".to_owned(), vec![1.0; 60]);
        let report = check(&known, &current, 1, &DriftSettings::default());
        assert_eq!(report.absent, ["f2"]);
        let names: Vec<_> = report.features.iter().map(|one| (one.feature.as_str(), one.drifted)).collect();
        assert_eq!(names, [("f0", true), ("f1", false), ("f3", false)]);
        assert_eq!((report.features[0].p_value, report.features[0].missing), (None, 60));
        assert_eq!(report.features[1].p_value, None);
        let nothing = check(&Reference::default(), &current, 1, &DriftSettings::default());
        assert!(!nothing.drifted() && nothing.features.is_empty());
        assert!(!check(&known, &BTreeMap::new(), 1, &DriftSettings::default()).drifted());
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<DriftReport>(&text).unwrap(), report);
    }
}
