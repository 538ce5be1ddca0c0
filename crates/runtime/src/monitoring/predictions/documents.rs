//! Predictions, how many there are, and the sums of their errors, as they are kept.

use std::collections::BTreeMap;

use kernel::Timestamp;
use serde::{Deserialize, Serialize};
use store::{Document, IndexValue, Table};

use crate::canaries::Member;

/// A prediction.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) id: String,
    pub(super) model_id: String,
    pub(super) version: u64,
    pub(super) at: Timestamp,
    /// Until when a truth is taken.
    pub(super) until: Timestamp,
    pub(super) remove: Timestamp,
    /// Of all outputs, as they were counted: 0 of those that were kept before numbers were.
    #[serde(default)]
    pub(super) numbers: u64,
    pub(super) outputs: BTreeMap<String, Vec<f64>>,
    /// What persistence says, of outputs that have an input of their name.
    #[serde(default)]
    pub(super) persistence: BTreeMap<String, f64>,
    #[serde(default)]
    pub(super) truth: BTreeMap<String, Vec<Option<f64>>>,
    /// The canary that it counts for, until its truth is known.
    #[serde(default)]
    pub(super) canary: Option<Member>,
}

impl Document for Kept {
    const TABLE: Table = Table { name: "predictions", indexes: &["remove"] };

    fn key(&self) -> String {
        self.id.clone()
    }

    fn indexes(&self) -> Vec<(&'static str, IndexValue)> {
        vec![("remove", IndexValue::Integer(self.remove.as_millisecond()))]
    }
}

/// How many predictions of a shard are kept, and how many numbers of theirs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Count {
    pub(super) shard: u64,
    pub(super) count: u64,
    #[serde(default)]
    pub(super) numbers: u64,
}

impl Document for Count {
    const TABLE: Table = Table { name: "prediction_counts", indexes: &[] };

    fn key(&self) -> String {
        format!("{:02}", self.shard)
    }
}

/// Sums over joined values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sums {
    pub(crate) count: u64,
    pub(crate) error: f64,
    pub(crate) absolute: f64,
    pub(crate) squared: f64,
    /// Of these, values that have a persistence, and the errors of that.
    pub(crate) paired: u64,
    pub(crate) paired_absolute: f64,
    pub(crate) paired_squared: f64,
    pub(crate) persistence_absolute: f64,
    pub(crate) persistence_squared: f64,
}

impl Sums {
    pub(super) fn add(&mut self, predicted: f64, persistence: Option<f64>, truth: f64) -> Option<usize> {
        let error = predicted - truth;
        self.count += 1;
        self.error += error;
        self.absolute += error.abs();
        self.squared += error * error;
        let naive = persistence? - truth;
        self.paired += 1;
        self.paired_absolute += error.abs();
        self.paired_squared += error * error;
        self.persistence_absolute += naive.abs();
        self.persistence_squared += naive * naive;
        // Better, equal, worse.
        error.abs().partial_cmp(&naive.abs()).map(|order| (order as i8 + 1).unsigned_abs().into())
    }

    /// With those of another.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.error += other.error;
        self.absolute += other.absolute;
        self.squared += other.squared;
        self.paired += other.paired;
        self.paired_absolute += other.paired_absolute;
        self.paired_squared += other.paired_squared;
        self.persistence_absolute += other.persistence_absolute;
        self.persistence_squared += other.persistence_squared;
    }
}

/// The sums of a version and a day, by output.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Day {
    pub(super) model_id: String,
    pub(crate) version: u64,
    /// As 2026-01-31.
    pub(crate) day: String,
    pub(crate) outputs: BTreeMap<String, Sums>,
}

impl Document for Day {
    const TABLE: Table = Table { name: "prediction_days", indexes: &[] };

    fn key(&self) -> String {
        format!("{}/{:020}/{}", self.model_id, self.version, self.day)
    }
}

/// The day of a prediction, without sums.
pub(super) fn day_of(kept: &Kept) -> Day {
    let day = kept.at.to_string().chars().take(10).collect();
    Day { model_id: kept.model_id.clone(), version: kept.version, day, outputs: BTreeMap::new() }
}
