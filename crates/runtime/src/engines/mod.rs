//! Engines that read a format of everybody's. Formats of a domain are read by that domain; the binary hands its engine in.

#[cfg(feature = "onnx")]
mod onnx;

use std::sync::Arc;

use crate::model::Engine;

/// The engines that this build has.
#[must_use]
pub fn all() -> Vec<Arc<dyn Engine>> {
    vec![
        #[cfg(feature = "onnx")]
        Arc::new(onnx::Onnx),
    ]
}
