//! What the domain computes: pure functions and plain structs over ticks, names, quotes and trades.
//!
//! Refuses: input or output, clocks, randomness, `async`, tenants as anything but a part of a key. Times are
//! microseconds since 1970 in UTC (`_us`), prices are in the currency and unit of their instrument.
//!
//! To add one more: a folder with a small public surface, an error enum of its own, and an oracle in its tests.

pub mod bars;
pub mod curves;
mod expression;
pub mod feeds;
pub mod forecasting;
pub mod instruments;
pub mod projections;
pub mod quality;
pub mod ticks;
