//! Log lines on standard error, as text or JSON, and traces where there is a collector.
//!
//! A JSON line has `timestamp`, `level`, `target`, `message` and the fields of what happened at its top, and `span` with
//! the request that it happened in. It refuses to write a body, a header or a query: secrets travel in those.

use std::sync::Arc;
use std::time::Duration;

use edge::middleware::Tracing;
use kernel::{Error, Result, codes};
use prometheus_client::registry::Registry;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry as Spans};

use crate::config::{Config, LogFormat, LogSettings};
#[cfg(feature = "otlp")]
use crate::traces::Traces;

/// The program that this one replaces names itself so in filters; that stands for all of this one.
const FORMER_TARGET: &str = "recommendation_api";
/// The crates of the workspace, as log lines name them.
const TARGETS: [&str; 21] = [
    "backup",
    "edge",
    "kernel",
    "market",
    "models",
    "privacy",
    "recommend",
    "registry",
    "rollout",
    "runtime",
    "search",
    "store",
    "store_clickhouse",
    "store_embedded",
    "store_kafka",
    "store_postgres",
    "store_redis",
    "store_s3",
    "stream",
    "watershed",
    "webhooks",
];

/// What the process tells of itself.
#[derive(Debug, Default)]
pub(crate) struct Telemetry {
    #[cfg(feature = "otlp")]
    traces: Option<Traces>,
}

impl Telemetry {
    /// Starts logging and tracing for the process.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` when a setting cannot be understood.
    pub(crate) fn start(config: &Config) -> Result<Self> {
        #[cfg(feature = "otlp")]
        let traces = Traces::open(&config.trace)?;
        let subscriber = tracing_subscriber::registry().with(lines(&config.log)?);
        #[cfg(feature = "otlp")]
        let subscriber = subscriber.with(traces.as_ref().map(Traces::layer));
        subscriber.try_init().map_err(|cause| Error::internal(cause.to_string()))?;
        Ok(Self {
            #[cfg(feature = "otlp")]
            traces,
        })
    }

    /// Makes requests part of traces, where there are any.
    #[cfg_attr(not(feature = "otlp"), expect(clippy::unused_self, reason = "there are no traces"))]
    pub(crate) fn tracing(&self) -> Option<Arc<dyn Tracing>> {
        #[cfg(feature = "otlp")]
        return self.traces.as_ref().map(Traces::tracing);
        #[cfg(not(feature = "otlp"))]
        None
    }

    /// Registers what became of the traces.
    #[cfg_attr(
        not(feature = "otlp"),
        expect(unused_variables, clippy::unused_self, reason = "there are none")
    )]
    pub(crate) fn register(&self, registry: &mut Registry) {
        #[cfg(feature = "otlp")]
        if let Some(traces) = &self.traces {
            traces.register(registry);
        }
    }

    /// Sends what is left, within the limit.
    #[cfg_attr(not(feature = "otlp"), expect(unused_variables, reason = "there is nothing to send"))]
    pub(crate) fn end(self, limit: Duration) {
        #[cfg(feature = "otlp")]
        if let Some(traces) = self.traces {
            traces.end(limit);
        }
    }
}

fn lines(settings: &LogSettings) -> Result<Box<dyn Layer<Spans> + Send + Sync>> {
    let given = settings.filter.as_deref().unwrap_or(&settings.level);
    let filter = EnvFilter::try_new(renamed(given)).map_err(|cause| {
        Error::new(codes::VALIDATION_ERROR, format!("`{given}` is not a log filter: {cause}"))
            .with_field("log")
    })?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    Ok(match settings.format {
        LogFormat::Text => lines.with_target(false).with_filter(filter).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).with_filter(filter).boxed(),
    })
}

/// The filter with this program's targets in place of the former one's.
fn renamed(filter: &str) -> String {
    let parts = filter.split(',').map(str::trim);
    let renamed = parts.flat_map(|part| match part.strip_prefix(FORMER_TARGET) {
        Some(level) if level.is_empty() || level.starts_with('=') => {
            TARGETS.iter().map(|target| format!("{target}{level}")).collect()
        }
        _ => vec![part.to_owned()],
    });
    renamed.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_crate_is_a_target() {
        let crates = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let name = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.unwrap().file_name().into_string().unwrap().replace('-', "_")
        };
        let mut found: Vec<String> = std::fs::read_dir(crates).unwrap().map(name).collect();
        found.sort();
        assert_eq!(found, TARGETS);
    }

    #[test]
    fn the_former_target_stands_for_ours() {
        let all = TARGETS.map(|target| format!("{target}=debug")).join(",");
        let all = all.as_str();
        let check = |given: &str, expected: &str| assert_eq!(renamed(given), expected);
        check("info,recommendation_api=debug", &format!("info,{all}"));
        check("recommendation_api=debug", all);
        check("info, edge=trace", "info,edge=trace");
        check("recommendation_api_client=debug", "recommendation_api_client=debug");
    }
}
