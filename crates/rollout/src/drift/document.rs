//! The file that carries a reference beside its model: `drift_reference.json`.
//!
//! It says of each feature which tensor of the model it is taken from and how, and holds the sample that two-sample tests
//! compare with. Whoever trains a model can write one: it is plain JSON. It refuses other formats and versions, more than
//! [`BYTES_MAX`] bytes, [`FEATURES_MAX`] features or [`SAMPLE_MAX`] values of one, names that stand twice, and what is no
//! finite number, and samples that are too small to be tested. To add a way of taking a value: a variant of [`Take`].

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::reference::{FeatureReference, Reference, Sampler};

/// The name of the file.
pub const FILE: &str = "drift_reference.json";
/// What `format` says.
pub const FORMAT: &str = "watershed-drift-reference";
/// What `version` says.
pub const VERSION: u32 = 1;
/// The largest file.
pub const BYTES_MAX: usize = 2 << 20;
/// Features, inputs and outputs together.
pub const FEATURES_MAX: usize = 64;
/// Values in the sample of a feature.
pub const SAMPLE_MAX: usize = 1_000;
/// Values in a sample below which nothing is tested.
pub const SAMPLE_MIN: usize = 10;
/// Values of a day of a history by the hour.
pub const DAY_VALUES: usize = 24;
/// Rows that a feature counts.
const COUNT_MAX: u64 = 1_000_000_000;
const NAME_BYTES_MAX: usize = 200;

/// A file that is no reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DocumentFault(String);

/// What a row of a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rows {
    /// Each index of the first axis is an example of its own.
    Examples,
    /// A request is one history; the same history asked again is the same row.
    Histories,
}

/// Which side of the model a tensor is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// It is asked with it.
    Input,
    /// It answers with it.
    Output,
}

/// How a number is taken from a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Take {
    /// The value at `at` of the row.
    Value,
    /// The last value less the one before: of a history, whose levels are not exchangeable.
    LastChange,
    /// The value at `at` less the last value of the input that it is compared with: how far a forecast goes.
    FromLast,
    /// Of histories by the hour, which end as the longest input does. Of an input the mean of the last 24 values, `at` of them
    /// before that end, less the mean of the 24 before them; of an output the mean of its 24 values, which stand for the last of
    /// the history, less the mean of the 24 before these of the input that it is compared with. Levels of a day wander with the
    /// seasons and so do the steps of an hour: their changes from day to day do not.
    DayChange,
}

/// One feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feature {
    /// What reports call it.
    pub name: String,
    /// The side of the tensor.
    pub side: Side,
    /// The name of the tensor.
    pub tensor: String,
    /// Which value of the row, from 0, in row-major order.
    #[serde(default)]
    pub at: usize,
    /// How it is taken.
    pub take: Take,
    /// The input that an output is compared with; the one of its own name where missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Rows of the training that had a value.
    pub count: u64,
    /// Rows of the training that had none.
    #[serde(default)]
    pub missing: u64,
    /// A uniform sample of the values, in any order.
    pub sample: Vec<f64>,
}

/// The file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceDocument {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// What a row is.
    pub rows: Rows,
    /// Inputs and outputs.
    pub features: Vec<Feature>,
}

impl ReferenceDocument {
    /// An empty one.
    #[must_use]
    pub fn new(rows: Rows) -> Self {
        Self { format: FORMAT.to_owned(), version: VERSION, rows, features: Vec::new() }
    }

    /// Adds a feature with a sample of `values`, one for each row; what is no finite number is missing. `feature` names it;
    /// its counts and sample are filled in.
    pub fn add(&mut self, feature: Feature, values: impl IntoIterator<Item = f64>, seed: u64) {
        let mut sampler = Sampler::new(SAMPLE_MAX, seed);
        for (row, value) in (0..).zip(values) {
            sampler.add("", row, value);
        }
        let kept = sampler.finish().features.remove("").unwrap_or_default();
        self.features.push(Feature {
            count: kept.count,
            missing: kept.missing,
            sample: kept.values().to_vec(),
            ..feature
        });
    }

    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentFault> {
        if bytes.len() > BYTES_MAX {
            return Err(fault(format!("{FILE} has {} bytes, {BYTES_MAX} at most", bytes.len())));
        }
        let document: Self = serde_json::from_slice(bytes)
            .map_err(|cause| fault(format!("{FILE} cannot be read: {cause}")))?;
        document.validate()?;
        Ok(document)
    }

    /// Passes when it keeps to every bound.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn validate(&self) -> Result<(), DocumentFault> {
        if self.format != FORMAT || self.version != VERSION {
            return Err(fault(format!("`format` is `{FORMAT}` and `version` {VERSION}")));
        }
        if self.features.is_empty() || self.features.len() > FEATURES_MAX {
            return Err(fault(format!("`features` has 1 to {FEATURES_MAX} entries")));
        }
        let mut names = BTreeSet::new();
        for feature in &self.features {
            feature.validate()?;
            if feature.take == Take::DayChange && self.rows == Rows::Examples {
                return Err(feature.fault("is a `day_change`; that is of `histories`"));
            }
            if !names.insert(&feature.name) {
                return Err(feature.fault("stands twice"));
            }
        }
        Ok(())
    }

    /// What tests compare with.
    #[must_use]
    pub fn reference(&self) -> Reference {
        let kept = |one: &Feature| FeatureReference::new(one.count, one.missing, one.sample.clone());
        let features: BTreeMap<_, _> =
            self.features.iter().map(|one| (one.name.clone(), kept(one))).collect();
        Reference { features }
    }
}

impl Feature {
    /// A feature without values yet.
    #[must_use]
    pub fn named(name: impl Into<String>, side: Side, tensor: impl Into<String>, take: Take) -> Self {
        let (name, tensor) = (name.into(), tensor.into());
        Self { name, side, tensor, at: 0, take, from: None, count: 0, missing: 0, sample: Vec::new() }
    }

    fn validate(&self) -> Result<(), DocumentFault> {
        if self.name.is_empty() || self.name.len() > NAME_BYTES_MAX {
            return Err(fault(format!("`name` has 1 to {NAME_BYTES_MAX} bytes")));
        }
        if self.sample.len() > SAMPLE_MAX {
            return Err(self.fault(&format!("has a sample of {SAMPLE_MAX} values at most")));
        }
        if self.sample.len() < SAMPLE_MIN {
            return Err(self.fault(&format!(
                "has a sample below {SAMPLE_MIN} values, which is never tested; leave it out"
            )));
        }
        if self.count > COUNT_MAX || self.missing > COUNT_MAX {
            return Err(
                self.fault(&format!("has a `count` or `missing` above {COUNT_MAX}; count fewer rows"))
            );
        }
        if self.sample.iter().any(|value| !value.is_finite()) {
            return Err(self.fault("has a value in its sample that is not a finite number"));
        }
        if (self.sample.len() as u64) > self.count {
            return Err(self.fault("has a `count` below the size of its sample"));
        }
        if self.take == Take::FromLast && self.side == Side::Input {
            return Err(self.fault("is an input; `from_last` is for outputs"));
        }
        if self.from.is_some() && self.side == Side::Input {
            return Err(self.fault("is an input; `from` is for outputs"));
        }
        Ok(())
    }

    /// An error about this feature.
    #[must_use]
    pub fn fault(&self, what: &str) -> DocumentFault {
        fault(format!("the feature `{}` {what}", self.name.escape_debug()))
    }
}

fn fault(message: String) -> DocumentFault {
    DocumentFault(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> ReferenceDocument {
        let mut document = ReferenceDocument::new(Rows::Examples);
        let values = (0..3_000).map(|row| if row % 10 == 0 { f64::NAN } else { f64::from(row) });
        document.add(Feature::named("age", Side::Input, "x", Take::Value), values, 1);
        document
    }

    #[test]
    fn it_is_read_back_and_bounded() {
        let document = document();
        let found = &document.features[0];
        assert_eq!((found.count, found.missing, found.sample.len()), (2_700, 300, SAMPLE_MAX));
        let text = serde_json::to_vec(&document).unwrap();
        let read = ReferenceDocument::parse(&text).unwrap();
        assert_eq!(read, document);
        assert_eq!(read.reference().features["age"].values().len(), SAMPLE_MAX);
        assert!(read.reference().features["age"].values().is_sorted());
    }

    #[test]
    fn what_is_no_reference_is_refused_with_the_reason() {
        let check = |change: &dyn Fn(&mut ReferenceDocument), told: &str| {
            let mut bad = document();
            change(&mut bad);
            let error = bad.validate().unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        };
        check(&|bad| bad.format = "other".to_owned(), "`format`");
        check(&|bad| bad.version = 2, "`version`");
        check(&|bad| bad.features.clear(), "1 to 64");
        check(&|bad| bad.features = vec![bad.features[0].clone(); FEATURES_MAX + 1], "1 to 64");
        check(&|bad| bad.features.push(bad.features[0].clone()), "twice");
        check(&|bad| bad.features[0].name.clear(), "`name`");
        check(&|bad| bad.features[0].sample.push(1.0), "1000 values");
        check(&|bad| bad.features[0].sample.truncate(9), "below 10 values");
        check(&|bad| bad.features[0].count = u64::MAX, "`count`");
        check(&|bad| bad.features[0].missing = u64::MAX, "`missing`");
        check(&|bad| bad.features[0].sample[0] = f64::NAN, "finite");
        check(&|bad| bad.features[0].count = 3, "`count`");
        check(&|bad| bad.features[0].take = Take::FromLast, "for outputs");
        check(&|bad| bad.features[0].from = Some("y".to_owned()), "for outputs");
        check(&|bad| bad.features[0].take = Take::DayChange, "`histories`");
        for text in ["", "{}", "[1]", r#"{"format":"x","more":1}"#] {
            assert!(ReferenceDocument::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(
            ReferenceDocument::parse(&vec![b' '; BYTES_MAX + 1]).unwrap_err().to_string().contains("bytes")
        );
    }
}
