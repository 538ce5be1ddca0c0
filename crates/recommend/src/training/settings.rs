//! The `recommend.training` section of the configuration.

use std::collections::BTreeMap;

use kernel::{Error, Result, codes};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::evaluation::tuning::SettingsMap;

/// What is trained, and with how much effort.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrainingSettings {
    /// The parts of the hybrid.
    pub algorithms: Algorithms,
    /// Settings of single algorithms that differ from their defaults, by the name of the algorithm and of the field:
    /// `algorithm_settings.linear.l2`. `watershed evaluate --tune` finds some.
    pub algorithm_settings: BTreeMap<String, SettingsMap>,
    /// How large the sequence model is and how long it is trained.
    pub effort: Effort,
    /// Users whose latest choice is held out to learn the blend.
    pub blend_users: usize,
    /// The catalogue above which linear item models are sparse, in items.
    pub dense_items: usize,
    /// Seed of everything random.
    pub seed: u64,
}

/// How large the sequence model is and how long it is trained.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Effort {
    /// The best that was found; a million choices take ten minutes of processor time.
    #[default]
    Full,
    /// A fifth of the time, and somewhat worse.
    Light,
}

/// The parts of the hybrid. Popularity is always one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Algorithms {
    /// Item neighbourhoods.
    pub neighbours: bool,
    /// A linear item model (EASE).
    pub linear: bool,
    /// Matrix factorisation (iALS).
    pub factors: bool,
    /// A linear graph filter.
    pub graph: bool,
    /// What follows what.
    pub transitions: bool,
    /// A recurrent model of the whole history; takes most of the training time.
    pub sequence: bool,
    /// What the items are like.
    pub content: bool,
    /// User neighbourhoods. For few users: a request costs as much as the items of a history have users.
    pub user_neighbours: bool,
}

impl Default for Algorithms {
    fn default() -> Self {
        Self {
            neighbours: false,
            linear: true,
            factors: true,
            graph: false,
            transitions: true,
            sequence: true,
            content: true,
            user_neighbours: false,
        }
    }
}

impl Default for TrainingSettings {
    fn default() -> Self {
        Self {
            algorithms: Algorithms::default(),
            algorithm_settings: BTreeMap::new(),
            effort: Effort::Full,
            blend_users: 5_000,
            dense_items: 12_000,
            seed: 42,
        }
    }
}

impl TrainingSettings {
    /// Passes when every setting makes sense.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` naming the setting.
    pub fn validate(&self) -> Result<()> {
        if self.blend_users == 0 {
            let error = Error::new(codes::VALIDATION_ERROR, "must be at least 1");
            return Err(error.with_field("recommend.training.blend_users"));
        }
        self.validate_algorithms()
    }
}
