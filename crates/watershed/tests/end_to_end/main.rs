//! The built binary from outside: over HTTP and from the command line, each test in a folder of its own.
//!
//! It refuses sleeping for luck (every wait has a condition and an end) and a server that logs a warning nobody
//! expected. To add a resource: a module with its tests, and a case in `errors` for each new error.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::print_stderr, reason = "the log of a failed test's server is shown")]

mod access;
mod asked;
#[cfg(all(feature = "postgres", feature = "redis", feature = "s3"))]
mod away;
mod backup;
#[cfg(all(feature = "kafka", feature = "postgres", feature = "redis"))]
mod brokers;
mod browsers;
mod caching;
mod canaries;
mod cli;
#[cfg(all(feature = "clickhouse", feature = "postgres", feature = "redis", feature = "s3"))]
mod column_store;
mod connections;
#[cfg(feature = "search")]
mod distilling;
mod document;
mod durability;
mod entities;
mod errors;
mod evaluation;
mod events;
mod export;
#[cfg(all(feature = "postgres", feature = "redis", feature = "s3"))]
mod fault;
#[cfg(feature = "search")]
mod finding;
mod interaction_types;
mod interactions;
mod lists;
mod live;
mod logs;
mod market;
mod market_figures;
mod models;
mod monitoring;
#[cfg(feature = "full")]
mod names;
mod operations;
mod pages;
mod parameters;
mod ports;
mod privacy;
#[cfg(feature = "profile")]
mod profile;
mod projections;
mod questions;
#[cfg(feature = "search")]
mod reindex;
#[cfg(all(feature = "postgres", feature = "redis"))]
mod releases;
#[cfg(all(feature = "postgres", feature = "redis"))]
mod replicas;
#[cfg(all(feature = "postgres", feature = "redis", feature = "s3"))]
mod roles;
mod serving;
#[cfg(feature = "onnx")]
mod serving_onnx;
mod shutdown;
mod support;
mod tls;
mod tokens;
#[cfg(feature = "otlp")]
mod traces;
mod users;
mod webhooks;
