//! The best of what was found, scored by a cross-encoder, which reads the query and each text together.
//!
//! It refuses more candidates than a search may ask for ([`CANDIDATES_MAX`]), more work than can wait, and more than a search may
//! take. Its room is its own, so that it keeps no other search waiting, and it takes a few texts at a time.

use std::sync::Arc;
use std::time::Duration;

use kernel::{Error, ErrorCode, ErrorKind, Result, codes};

use crate::encoder::{ModelIdentity, Reranker};
use crate::encoding::{Room, Rooms};
use crate::words::blocking;

/// Candidates of one search, at most.
pub(crate) const CANDIDATES_MAX: usize = 100;
/// Texts of a search that are read together.
const TEXTS_AT_ONCE: usize = 16;
/// Searches that are reranked at the same time, and that wait for that or are.
const RERANKED_AT_ONCE: usize = 1;
const WAITING_MAX: usize = 8;
/// How long one may take, waiting within: less than a request lasts where nothing else is set.
const LASTS: Duration = Duration::from_secs(20);
/// Of a text, at most; models read some 512 tokens.
pub(crate) const TEXT_BYTES_MAX: usize = 16 << 10;

/// Nothing reads a query and a text together here.
pub const NO_RERANKER: ErrorCode =
    ErrorCode { name: "NO_RERANKER", kind: ErrorKind::Invalid, title: "This server has no cross-encoder" };

/// A cross-encoder that many ask.
#[derive(Debug)]
pub(crate) struct Reranking {
    model: Arc<dyn Reranker>,
    rooms: Rooms,
}

impl Reranking {
    pub(crate) fn new(model: Arc<dyn Reranker>) -> Self {
        Self { model, rooms: Rooms::of(RERANKED_AT_ONCE, WAITING_MAX) }
    }

    /// A place among those who wait, before anything is looked for.
    ///
    /// # Errors
    /// `OVERLOADED` where there is none.
    pub(crate) fn wait(&self) -> Result<Room> {
        self.rooms.wait()
    }

    pub(crate) fn identity(&self) -> &ModelIdentity {
        self.model.identity()
    }

    /// How well each text fits, in their order.
    ///
    /// # Errors
    /// `OVERLOADED` where it takes too long; those of the model.
    pub(crate) async fn scores(&self, query: &str, texts: Vec<String>) -> Result<Vec<f32>> {
        let late = |_| {
            let message = "it takes too long to rerank so much; ask for fewer candidates";
            Error::new(codes::OVERLOADED, message).with_field("rerank")
        };
        tokio::time::timeout(LASTS, self.scores_of(query.into(), texts.into())).await.map_err(late)?
    }

    async fn scores_of(&self, query: Arc<str>, texts: Arc<[String]>) -> Result<Vec<f32>> {
        let mut scores = Vec::with_capacity(texts.len());
        while scores.len() < texts.len() {
            let room = self.rooms.work().await?;
            let (model, query, all) = (Arc::clone(&self.model), Arc::clone(&query), Arc::clone(&texts));
            let some = scores.len()..texts.len().min(scores.len() + TEXTS_AT_ONCE);
            let count = some.len();
            let scored = blocking(move || {
                // Work goes on after who asked for it has gone: so does its place.
                let _room = room;
                model.score(&query, &all[some].iter().map(String::as_str).collect::<Vec<_>>())
            });
            let scored = scored.await?;
            if scored.len() != count {
                break;
            }
            scores.extend(scored);
        }
        if scores.len() == texts.len() {
            return Ok(scores);
        }
        Err(Error::internal("the cross-encoder left a text out"))
    }
}

pub(crate) fn no_reranker() -> Error {
    Error::new(
        NO_RERANKER,
        "no cross-encoder is configured; set search.rerank_model_path, or leave rerank out",
    )
    .with_field("rerank")
}
