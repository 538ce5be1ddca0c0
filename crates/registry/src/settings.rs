//! The `registry` section of the configuration.

use kernel::{Error, Result, codes};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Experiments, runs and models, as MLflow's clients keep them here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RegistrySettings {
    /// The largest artifact that is taken, in MiB.
    pub max_artifact_mb: u64,
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self { max_artifact_mb: 2_048 }
    }
}

impl RegistrySettings {
    /// Checks every value.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` naming the setting.
    pub fn validate(&self) -> Result<()> {
        if (1..=1_048_576).contains(&self.max_artifact_mb) {
            return Ok(());
        }
        let rule = "must be between 1 and 1048576";
        Err(Error::new(codes::VALIDATION_ERROR, rule).with_field("registry.max_artifact_mb"))
    }
}
