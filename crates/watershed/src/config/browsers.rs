//! The `server.cors` section: which pages of other origins may ask.

use edge::browsers;
use kernel::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which pages of other origins may ask (CORS). They send a key as everyone does; browsers send none by themselves.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CorsSettings {
    /// Whether pages of other origins may ask at all.
    pub enabled: bool,
    /// Their origins, such as `https://shop.example`; or `*` alone, for the pages of every origin.
    pub allowed_origins: Vec<String>,
}

impl CorsSettings {
    /// What lets them in; none where nobody is.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` naming the setting.
    pub(crate) fn layer(&self) -> Result<Option<browsers::Cors>> {
        if !self.enabled {
            return Ok(None);
        }
        let layer = browsers::cors(&self.allowed_origins);
        layer.map(Some).map_err(|error| error.with_field("server.cors.allowed_origins"))
    }
}
