//! What is known of the connections to the engines, read when `/metrics` is.
//!
//! To add a figure: a line in `encode`.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
#[cfg(any(feature = "clickhouse", feature = "kafka", feature = "redis"))]
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::engines::Engines;

/// Reads the figures of the engines that are open.
#[derive(Debug)]
pub(crate) struct EngineMetrics(pub Engines);

impl Collector for EngineMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut told = Told(&mut encoder);
        #[cfg(feature = "postgres")]
        if let Some(postgres) = &self.0.postgres {
            let pool = postgres.pool();
            told.gauge("database_pool_idle_connections", "Connections that nobody uses", pool.idle)?;
            told.gauge("database_pool_active_connections", "Connections in use", pool.in_use)?;
            told.gauge("database_pool_max_connections", "Connections at most", pool.max)?;
            told.gauge("database_pool_waiting", "Callers that wait for a connection", pool.waiting)?;
            let open = usize::from(pool.is_open_circuit);
            told.gauge("database_circuit_open", "Whether calls are refused at once", open)?;
            if let Some(pool) = postgres.read_pool() {
                let open = usize::from(pool.is_open_circuit);
                told.gauge("database_read_pool_idle_connections", "The same, to the replica", pool.idle)?;
                told.gauge("database_read_pool_active_connections", "The same, to the replica", pool.in_use)?;
                told.gauge("database_read_pool_max_connections", "The same, to the replica", pool.max)?;
                told.gauge("database_read_pool_waiting", "The same, to the replica", pool.waiting)?;
                told.gauge("database_read_circuit_open", "Whether the replica is passed over", open)?;
            }
        }
        #[cfg(feature = "redis")]
        if let Some(redis) = &self.0.redis {
            let figures = redis.figures();
            told.gauge("redis_connections_open", "Open connections", figures.open)?;
            told.gauge("redis_connections_max", "Connections that are wanted", figures.pool_size)?;
            told.counter("redis_commands_answered", "Commands that were answered", figures.answered)?;
            told.counter(
                "redis_commands_timed_out",
                "Commands without an answer in time",
                figures.timed_out,
            )?;
            told.counter("redis_commands_failed", "Commands that failed otherwise", figures.failed)?;
            told.counter("redis_commands_refused", "Commands that were not sent", figures.refused)?;
            let local_calls = self.0.shared_limiter.as_ref().map_or(0, |limiter| limiter.local_calls());
            told.counter(
                "rate_limit_local",
                "Requests counted here alone, the cache being away",
                local_calls,
            )?;
        }
        #[cfg(feature = "clickhouse")]
        if let Some(clickhouse) = &self.0.clickhouse {
            let figures = clickhouse.figures();
            let open = usize::from(figures.is_open_circuit);
            told.gauge("clickhouse_circuit_open", "Whether calls are refused at once", open)?;
            told.counter("clickhouse_statements_done", "Statements that were done", figures.answered)?;
            told.counter("clickhouse_statements_failed", "Statements that were not done", figures.failed)?;
            told.counter("clickhouse_statements_retried", "Statements sent once more", figures.retried)?;
        }
        #[cfg(feature = "kafka")]
        if let Some(kafka) = &self.0.kafka {
            let figures = kafka.figures();
            told.gauge(
                "kafka_answering",
                "Whether the last call was answered",
                usize::from(figures.is_answering),
            )?;
            told.counter("kafka_records_appended", "Records that brokers acknowledged", figures.appended)?;
            told.counter(
                "kafka_records_not_appended",
                "Records that brokers did not take",
                figures.append_failures,
            )?;
            told.counter("kafka_records_read", "Records that were read from brokers", figures.read)?;
            told.counter(
                "kafka_records_recent",
                "Events read of what was just written here",
                figures.recent,
            )?;
            told.counter("kafka_records_foreign", "Records read that were no events", figures.foreign)?;
            told.counter("kafka_records_unusable", "Records passed over as too large", figures.unusable)?;
            told.counter("kafka_calls_failed", "Calls that no broker answered", figures.failures)?;
        }
        told.gauge("engines_expected", "Servers this process stands on", self.0.pulses.len())?;
        told.gauge("engines_answering", "Servers this process stands on that answer", self.0.answering())
    }
}

struct Told<'a, 'b>(&'a mut DescriptorEncoder<'b>);

impl Told<'_, '_> {
    fn gauge(&mut self, name: &str, help: &str, value: usize) -> Result<(), std::fmt::Error> {
        let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
        gauge.encode(self.0.encode_descriptor(name, help, None, gauge.metric_type())?)
    }

    #[cfg(any(feature = "clickhouse", feature = "kafka", feature = "redis"))]
    fn counter(&mut self, name: &str, help: &str, value: u64) -> Result<(), std::fmt::Error> {
        let counter = ConstCounter::new(value);
        counter.encode(self.0.encode_descriptor(name, help, None, counter.metric_type())?)
    }
}
