//! Log lines on standard error, as text or JSON.

use kernel::{Error, Result, codes};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::config::{LogFormat, LogSettings};

/// Starts logging for the process.
///
/// # Errors
/// `VALIDATION_ERROR` when the level or filter cannot be understood.
pub(crate) fn start(settings: &LogSettings) -> Result<()> {
    let filter = settings.filter.as_deref().unwrap_or(&settings.level);
    let filter = EnvFilter::try_new(filter).map_err(|cause| {
        Error::new(codes::VALIDATION_ERROR, format!("`{filter}` is not a log filter: {cause}"))
            .with_field("log")
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_span_events(FmtSpan::NONE)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    let started = match settings.format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|cause| Error::internal(cause.to_string()))
}
