//! The `runtime` section of the configuration.

use std::path::PathBuf;

use kernel::{Error, Result, codes};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::monitoring::MonitoringSettings;

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
    /// What answers for ONNX models: `tract`, which is part of the program, or `onnxruntime`, whose library is opened at the
    /// start.
    pub onnx_engine: OnnxEngine,
    /// How ONNX Runtime is used.
    pub onnxruntime: OnnxRuntimeSettings,
    /// How what is served is watched.
    pub monitoring: MonitoringSettings,
    /// Many rows at once, in the background.
    pub jobs: JobSettings,
}

/// What answers for ONNX models.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnnxEngine {
    /// Pure Rust.
    #[default]
    Tract,
    /// ONNX Runtime, from its library.
    Onnxruntime,
}

/// How ONNX Runtime is used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OnnxRuntimeSettings {
    /// Its library, `libonnxruntime.so` of 1.20 or newer. Where missing, one that the system finds by that name.
    pub library: Option<PathBuf>,
    /// Where models run: `cpu`, `cuda`, or `auto`, which takes CUDA where the library has it and a model runs there.
    pub device: Device,
    /// Threads that all versions share beside those that ask them; 0 takes one for each processor. A version answers one call
    /// at a time.
    pub threads: usize,
}

/// Where models run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// On a graphics processor where one works.
    #[default]
    Auto,
    /// On the processor.
    Cpu,
    /// On a graphics processor of NVIDIA.
    Cuda,
}

/// Jobs that answer many rows in the background (`POST /api/v1/batch`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JobSettings {
    /// Jobs of a tenant that did not end yet; more are refused with 503.
    pub max_open_per_tenant: usize,
    /// The rows of a job, in MiB.
    pub max_mb: u64,
    /// How long a job that ended is kept with its results, in hours.
    pub keep_hours: u64,
}

impl Default for JobSettings {
    fn default() -> Self {
        Self { max_open_per_tenant: 16, max_mb: 256, keep_hours: 168 }
    }
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
            onnx_engine: OnnxEngine::default(),
            onnxruntime: OnnxRuntimeSettings::default(),
            monitoring: MonitoringSettings::default(),
            jobs: JobSettings::default(),
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
        check(self.idle_secs, 1, 31_536_000, "idle_secs")?;
        self.validate_engine()?;
        check(self.onnxruntime.threads as u64, 0, 1_024, "onnxruntime.threads")?;
        self.monitoring.validate()?;
        check(self.jobs.max_open_per_tenant as u64, 1, 1_000, "jobs.max_open_per_tenant")?;
        check(self.jobs.max_mb, 1, 1 << 20, "jobs.max_mb")?;
        check(self.jobs.keep_hours, 1, 87_600, "jobs.keep_hours")
    }

    /// Whether this build has the engine, and the engine the device.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` naming the setting.
    pub(crate) fn validate_engine(&self) -> Result<()> {
        let refused = |rule: &str, name: &str| {
            Err(Error::new(codes::VALIDATION_ERROR, rule).with_field(format!("runtime.{name}")))
        };
        let is_tract = self.onnx_engine == OnnxEngine::Tract;
        if is_tract && self.onnxruntime.device == Device::Cuda {
            let rule = "`tract` runs on the processor alone; set `runtime.onnx_engine` to `onnxruntime`, or this to `auto`";
            return refused(rule, "onnxruntime.device");
        }
        if !is_tract && !cfg!(feature = "onnxruntime") {
            let rule = "this build has no ONNX Runtime; build with `cargo build --features onnxruntime`";
            return refused(rule, "onnx_engine");
        }
        Ok(())
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

    #[test]
    fn an_engine_or_a_device_that_is_not_there_is_told() {
        let check = |onnx_engine, device, refused: Option<&str>| {
            let onnxruntime = OnnxRuntimeSettings { device, ..OnnxRuntimeSettings::default() };
            let settings = RuntimeSettings { onnx_engine, onnxruntime, ..RuntimeSettings::default() };
            let error = settings.validate().err();
            assert_eq!(error.as_ref().and_then(Error::field), refused, "{error:?}");
        };
        let missing = (!cfg!(feature = "onnxruntime")).then_some("runtime.onnx_engine");
        check(OnnxEngine::Tract, Device::Auto, None);
        check(OnnxEngine::Tract, Device::Cpu, None);
        check(OnnxEngine::Tract, Device::Cuda, Some("runtime.onnxruntime.device"));
        check(OnnxEngine::Onnxruntime, Device::Auto, missing);
        check(OnnxEngine::Onnxruntime, Device::Cuda, missing);
    }
}
