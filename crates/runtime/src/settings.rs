//! The `runtime` section of the configuration.

use kernel::{Error, Result, codes};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How registered models are served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RuntimeSettings {
    /// The model that `POST /api/v1/predict` asks where a request names none.
    pub default_model: String,
    /// Memory for models, in MiB. Each version counts with twice the size of its files. Where it is used up, the version that
    /// was asked for the longest time ago is dropped, of the same tenant first.
    pub memory_mb: u64,
    /// The largest version that is loaded, in MiB.
    pub max_model_mb: u64,
    /// Examples of several requests that are put into one call of a model, at most; 1 puts none together.
    pub max_batch_rows: usize,
    /// The longest that a request waits for others, in milliseconds. One that comes alone does not wait.
    pub batch_delay_ms: u64,
    /// Requests of one version that wait; more are answered with 503.
    pub max_queued_requests: usize,
    /// Calls of one version at once.
    pub calls_per_model: usize,
    /// Calls of all models at once; 0 for the number of processors.
    pub calls: usize,
    /// The pause between looks at where aliases point, in milliseconds.
    pub refresh_ms: u64,
    /// After so many seconds without a request a version is dropped from memory.
    pub idle_secs: u64,
}

impl Default for RuntimeSettings {
    fn default() -> Self {
        Self {
            default_model: "curve_forecaster".to_owned(),
            memory_mb: 2_048,
            max_model_mb: 1_024,
            max_batch_rows: 64,
            batch_delay_ms: 2,
            max_queued_requests: 256,
            calls_per_model: 2,
            calls: 0,
            refresh_ms: 1_000,
            idle_secs: 900,
        }
    }
}

impl RuntimeSettings {
    /// Checks every value.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` naming the setting.
    pub fn validate(&self) -> Result<()> {
        let check = |value: u64, least: u64, most: u64, name: &str| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            let rule = format!("must be between {least} and {most}");
            Err(Error::new(codes::VALIDATION_ERROR, rule).with_field(format!("runtime.{name}")))
        };
        check(self.memory_mb, 1, 1 << 20, "memory_mb")?;
        check(self.max_model_mb, 1, 1 << 20, "max_model_mb")?;
        check(self.max_batch_rows as u64, 1, 65_536, "max_batch_rows")?;
        check(self.batch_delay_ms, 0, 10_000, "batch_delay_ms")?;
        check(self.max_queued_requests as u64, 1, 1_000_000, "max_queued_requests")?;
        check(self.calls_per_model as u64, 1, 1_024, "calls_per_model")?;
        check(self.calls as u64, 0, 1_024, "calls")?;
        check(self.refresh_ms, 50, 60_000, "refresh_ms")?;
        check(self.idle_secs, 1, 31_536_000, "idle_secs")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_bounds_are_named() {
        RuntimeSettings::default().validate().unwrap();
        let error = RuntimeSettings { refresh_ms: 1, ..RuntimeSettings::default() }.validate().unwrap_err();
        assert_eq!(error.field(), Some("runtime.refresh_ms"));
        assert!(RuntimeSettings { calls_per_model: 0, ..RuntimeSettings::default() }.validate().is_err());
    }
}
