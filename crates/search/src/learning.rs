//! The share for meaning in a fusion, learned on judged queries of a tenant: both rankings are asked for each, as a search
//! asks them. It refuses to learn while vectors are missing: what it learned would be of an index that is not whole.

use std::collections::{BTreeMap, BTreeSet};

use kernel::{Error, Permission, Result, Scope, codes};

use crate::algorithms::fusion::{Fusion, Learned, Validation, learn, mean_ndcg};
use crate::meanings::current;
use crate::models::no_encoder;
use crate::questions::Question;
use crate::service::Search;
use crate::words::blocking;

/// A query and what should be found for it.
#[derive(Debug, Clone)]
pub struct JudgedQuery {
    /// What is asked; both rankings count, whatever it says.
    pub question: Question,
    /// Grades by the key of an item; above 0 is relevant.
    pub judged: BTreeMap<String, i32>,
}

/// What was learned, and mean nDCG@10 of other ways on the same queries.
#[derive(Debug, Clone, Copy)]
pub struct Lesson {
    /// What was learned.
    pub learned: Learned,
    /// By words alone.
    pub words: f64,
    /// By meaning alone.
    pub meaning: f64,
    /// By reciprocal ranks.
    pub rrf: f64,
    /// Relevant items that there are not: nothing can be learned of them.
    pub unknown_items: usize,
}

impl Search {
    /// Learns the share for meaning. Nothing is kept: who asks sets it, in `search.fusion` or in requests.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `NO_ENCODER`; `UNAVAILABLE` while vectors are made; `VALIDATION_ERROR` without any query that
    /// has something relevant, and where there is none of what is relevant; those of a search.
    pub async fn learn_fusion(&self, scope: &Scope, queries: Vec<JudgedQuery>) -> Result<Lesson> {
        scope.require(Permission::Read)?;
        let keeper = self.keeper.as_ref().ok_or_else(no_encoder)?;
        let missing =
            || Error::new(codes::UNAVAILABLE, "vectors are still being made; try again when they are");
        let active = keeper.active().filter(|active| active.is_whole).ok_or_else(missing)?;
        let unknown_items = self.unknown_items(scope, &queries).await?;
        let mut validation = Vec::with_capacity(queries.len());
        for JudgedQuery { question, judged } in queries {
            if !judged.values().any(|grade| *grade > 0) {
                continue;
            }
            let semantic = self.by_meaning(scope, &active, &question).await?.unwrap_or_default();
            let index = self.library.of(scope).ok_or_else(nothing_to_find)?;
            let query = self.text_query(&question);
            let of_query = blocking(move || {
                let found = if query.meanings.is_empty() { Vec::new() } else { index.search(&query)?.hits };
                let lexical = found.into_iter().map(|hit| (hit.key, hit.score)).collect();
                Ok(Validation { lexical, semantic: current(&semantic, &index)?, judged })
            });
            validation.push(of_query.await?);
        }
        blocking(move || {
            let learned = learn(&validation).ok_or_else(|| {
                let message = "no query has an item that is relevant; give some a grade above 0";
                Error::new(codes::VALIDATION_ERROR, message).with_field("queries")
            })?;
            let rrf = mean_ndcg(Fusion::Rrf, &validation);
            // Of one ranking alone any way keeps the order.
            let alone = |without: fn(&mut Validation<String>)| {
                let mut half = validation.clone();
                half.iter_mut().for_each(without);
                mean_ndcg(Fusion::Rrf, &half)
            };
            let words = alone(|query| query.semantic.clear());
            let meaning = alone(|query| query.lexical.clear());
            Ok(Lesson { learned, words, meaning, rrf, unknown_items })
        })
        .await
    }

    /// How many of the items that are relevant there are not.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` where there is none of them; those of the index.
    async fn unknown_items(&self, scope: &Scope, queries: &[JudgedQuery]) -> Result<usize> {
        let relevant = queries.iter().flat_map(|query| &query.judged).filter(|(_, grade)| **grade > 0);
        let relevant: BTreeSet<String> = relevant.map(|(key, _)| key.clone()).collect();
        if relevant.is_empty() {
            return Ok(0);
        }
        let index = self.library.of(scope).ok_or_else(nothing_to_find)?;
        blocking(move || {
            let mut unknown = 0;
            for key in &relevant {
                unknown += usize::from(index.digest(key)?.is_none());
            }
            if unknown == relevant.len() {
                let message = format!(
                    "there is none of the {unknown} items that are relevant; look at their types and ids"
                );
                return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("queries"));
            }
            Ok(unknown)
        })
        .await
    }
}

fn nothing_to_find() -> Error {
    Error::new(codes::VALIDATION_ERROR, "there is nothing to find yet; put items first").with_field("queries")
}
