//! `watershed config` and `watershed openapi`

use kernel::{Error, Result};

use super::say_json;
use crate::app;
use crate::config::{self, Config};
use crate::terminal;

/// Prints the settings that are in force, without secrets.
pub(super) fn effective(config: &Config) -> Result<()> {
    terminal::say(toml::to_string_pretty(config).map_err(Error::internal)?.trim_end());
    Ok(())
}

/// Prints the JSON schema of the file.
pub(super) fn schema() -> Result<()> {
    say_json(&schemars::schema_for!(Config))
}

/// Prints every setting with its variable and default.
pub(super) fn reference() -> Result<()> {
    terminal::say(config::reference().trim_end());
    Ok(())
}

/// Prints the OpenAPI document.
pub(super) fn openapi() -> Result<()> {
    let runtime = tokio::runtime::Runtime::new().map_err(Error::internal)?;
    terminal::say(runtime.block_on(app::openapi_json())?);
    Ok(())
}
