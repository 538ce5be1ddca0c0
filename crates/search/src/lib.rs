//! Search: items in, found again by words and by meaning; and the sentence encoders that know what is meant.
//!
//! - [`algorithms`]: scores, fusion, highlights, measures; pure, and read first.
//! - [`analysis`]: from a text to the terms that it is found by. [`encoder`]: from a text to a vector.
//! - [`items`], [`log`]: what is searched for, and its changes as events.
//! - [`index`]: the postings of each tenant, kept by `tantivy`. `words`, `meanings`: indexes as views of the log.
//! - [`reindex`]: vectors of another model, made beside those that answer. `encoding`: an encoder that many ask.
//!   [`rebuilding`]: how far an index of words is that is built again.
//! - [`follower`]: feeds indexes. [`service`]: the questions; `showing`: the answers; `reranking`: their best in another order.
//!   `models`: the encoders; [`sources`]: where they come from. [`learning`]: how much meaning is to count. [`http`]: the same
//!   over HTTP.
//!
//! An index is a view: it is made from the log of items alone, may be dropped, and is built again while it answers. It
//! refuses to keep anything that the log does not have, models with code in them, and to pass a search by words off as
//! one by meaning. To add a way to rank: see [`algorithms`]; a model: see [`encoder`].

pub mod algorithms;
pub mod analysis;
pub mod encoder;
mod encoding;
pub mod follower;
pub mod http;
pub mod index;
pub mod items;
pub mod learning;
pub mod log;
mod meanings;
pub mod metrics;
mod models;
pub mod questions;
pub mod rebuilding;
pub mod reindex;
mod reranking;
pub mod service;
mod settings;
mod showing;
pub mod sources;
#[cfg(test)]
mod tests;
mod words;

pub use models::{NO_ENCODER, encoder_of, previous_encoder_of, reranker_of};
pub use reranking::NO_RERANKER;
pub use service::{Search, SearchCheck, SearchParts};
pub use settings::SearchSettings;
