//! Engines that read a format of everybody's. Formats of a domain are read by that domain; the binary hands its engine in.

#[cfg(feature = "onnx")]
mod onnx;
#[cfg(feature = "onnx")]
mod onnx_file;
#[cfg(feature = "onnxruntime")]
mod onnxruntime;
#[cfg(feature = "onnx")]
#[cfg(test)]
mod tests;

use std::sync::Arc;

use kernel::Result;

use crate::model::Engine;
use crate::settings::RuntimeSettings;

/// The engines that this build has, as the settings choose among them.
///
/// # Errors
/// `VALIDATION_ERROR` naming the setting of a library that is missing, too old or without the device.
pub fn open(settings: &RuntimeSettings) -> Result<Vec<Arc<dyn Engine>>> {
    #[cfg(feature = "onnxruntime")]
    if settings.onnx_engine == crate::settings::OnnxEngine::Onnxruntime {
        return Ok(vec![Arc::new(onnxruntime::OnnxRuntime::open(&settings.onnxruntime)?)]);
    }
    settings.validate_engine()?;
    Ok(vec![
        #[cfg(feature = "onnx")]
        Arc::new(onnx::Onnx),
    ])
}
