//! The `runtime.monitoring` section of the configuration.

use kernel::{Error, Result, codes};
use rollout::drift::DriftSettings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How served models are watched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MonitoringSettings {
    /// Seconds of a window: the rows of a version are compared with its reference once a window is over.
    pub window_secs: u64,
    /// Distinct rows below which nothing is compared; they wait for those of the windows after.
    pub rows_min: usize,
    /// The chance of any false alarm of a version over its whole life, over all features, in percent.
    pub false_alarm_percent: u32,
    /// Seconds between two writes of what was seen; a crash loses as much.
    pub flush_secs: u64,
    /// For so many hours after a prediction that was kept its truth is taken.
    pub truth_hours: u64,
    /// Rows that are too few to be compared wait so many days for more, or two windows where those are longer. Then they are
    /// removed, as is what was seen of versions that are served no more.
    pub wait_days: u64,
    /// Predictions of a tenant that are kept at once, about; more are refused. A place is free again `truth_hours`, 7 days and
    /// some minutes after its prediction, whether the truth came or not.
    pub max_predictions: u64,
    /// Numbers in the outputs of all of these together, about; more are refused. A number takes up to some 20 bytes, and its truth
    /// as many.
    pub max_prediction_numbers: u64,
}

impl Default for MonitoringSettings {
    fn default() -> Self {
        Self {
            window_secs: 3_600,
            rows_min: 50,
            false_alarm_percent: 5,
            flush_secs: 30,
            truth_hours: 720,
            wait_days: 90,
            max_predictions: 100_000,
            max_prediction_numbers: 10_000_000,
        }
    }
}

impl MonitoringSettings {
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
            Err(Error::new(codes::VALIDATION_ERROR, rule).with_field(format!("runtime.monitoring.{name}")))
        };
        check(self.window_secs, 1, 604_800, "window_secs")?;
        check(self.rows_min as u64, 10, 256, "rows_min")?;
        check(self.false_alarm_percent.into(), 1, 50, "false_alarm_percent")?;
        check(self.flush_secs, 1, 3_600, "flush_secs")?;
        check(self.truth_hours, 1, 8_784, "truth_hours")?;
        check(self.wait_days, 1, 366, "wait_days")?;
        check(self.max_predictions, 16, 10_000_000, "max_predictions")?;
        // The largest prediction fits, whatever its shard.
        check(self.max_prediction_numbers, 64_000, 40_000_000_000, "max_prediction_numbers")
    }

    /// How long a part waits for its comparison, in seconds.
    pub(crate) fn wait_secs(&self) -> i64 {
        let longest = (self.wait_days * 86_400).max(self.window_secs * 2);
        i64::try_from(longest).unwrap_or(i64::MAX)
    }

    pub(crate) fn drift(&self) -> DriftSettings {
        DriftSettings { false_alarm: f64::from(self.false_alarm_percent) / 100.0, ..DriftSettings::default() }
    }
}
