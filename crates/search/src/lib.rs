//! Search: items in, found again by words and by meaning; and the sentence encoders that know what is meant.
//!
//! - [`algorithms`]: scores, fusion, highlights, measures; pure, and read first.
//! - [`analysis`]: from a text to the terms that it is found by. [`encoder`]: from a text to a vector.
//! - [`items`], [`log`]: what is searched for, and its changes as events.
//! - [`index`]: the postings of each tenant, kept by `tantivy`. `words`, `meanings`: indexes as views of the log.
//! - [`follower`]: feeds them. [`service`]: the questions; `showing`: the answers. [`http`]: the same over HTTP.
//!
//! An index is a view: it is made from the log of items alone, may be dropped, and is built again while it answers. It
//! refuses to keep anything that the log does not have, models with code in them, and to pass a search by words off as
//! one by meaning. To add a way to rank: see [`algorithms`]; a model: see [`encoder`].

pub mod algorithms;
pub mod analysis;
pub mod encoder;
pub mod follower;
pub mod http;
pub mod index;
pub mod items;
pub mod log;
mod meanings;
pub mod metrics;
pub mod service;
mod settings;
mod showing;
#[cfg(test)]
mod tests;
mod words;

pub use service::{Search, SearchCheck, SearchParts, open_encoder};
pub use settings::SearchSettings;
