//! A cross-encoder: BERT reads a query and a text together, and one number says how well they fit (Nogueira and Cho 2019).
//! Far slower than comparing vectors, and sharper: it is for the best of what was found.
//!
//! It refuses models that end in several numbers, and texts beyond what it can read: what comes after is cut off.

use std::fmt::Debug;
use std::num::NonZeroUsize;

use kernel::{Error, Result, codes};
use tokenizers::Tokenizer;

use super::batching::Batches;
use super::bert::{Bert, Parts, linear};
use super::files::ModelFiles;
use super::kernels::Linear;
use super::{Forward, ModelIdentity, untaken};

/// Bytes of a text that are looked at for each token that is read: longer words are rare, and texts may be long.
const BYTES_PER_TOKEN: usize = 32;

/// Says how well texts fit a query. It works as long as it works: call it where blocking is allowed.
pub trait Reranker: Send + Sync + Debug {
    /// What it is; of dimension 1.
    fn identity(&self) -> &ModelIdentity;

    /// A finite number for each text, in their order; higher fits better.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for a text that the model's tokenizer does not take; `CORRUPTED` for a model that gives no number.
    fn score(&self, query: &str, texts: &[&str]) -> Result<Vec<f32>>;
}

/// A model of a folder, a registry or a hub.
#[derive(Debug)]
pub struct CrossEncoder {
    identity: ModelIdentity,
    tokenizer: Tokenizer,
    bert: Bert,
    pooler: Linear,
    classifier: Linear,
    batch_tokens: usize,
    threads: NonZeroUsize,
}

impl CrossEncoder {
    /// The model of these files; `name` is what callers know it by.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for a model that is not understood, naming what; `CORRUPTED` for damaged files.
    pub fn new(files: &ModelFiles, name: &str, batch_tokens: usize, threads: NonZeroUsize) -> Result<Self> {
        let refuse = |message: &str| Err(Error::new(codes::VALIDATION_ERROR, message.to_owned()));
        if files.kind() != "bert" || !files.has_tensor("classifier.weight") {
            return refuse("a cross-encoder is a model of type `bert` that ends in `classifier`");
        }
        let bert = Bert::new(files, 2)?;
        let width = bert.width();
        if files.outputs_of("classifier.weight")? != 1 {
            return refuse("the model ends in several numbers; a cross-encoder ends in one");
        }
        let tokenizer = files.tokenizer_for(bert.vocabulary())?;
        let identity = ModelIdentity {
            name: name.to_owned(),
            version: files.version().to_owned(),
            dimensions: 1,
            tokens_max: files.tokens_max(),
        };
        let (pooler, classifier) =
            (linear(files, "pooler.dense", width, width)?, linear(files, "classifier", 1, width)?);
        let batch_tokens = batch_tokens.max(1);
        let model = Self { identity, tokenizer, bert, pooler, classifier, batch_tokens, threads };
        if model.tokens("", "")?.0.is_empty() {
            return refuse(
                "the model's tokenizer does not mark a beginning, which a cross-encoder speaks from",
            );
        }
        Ok(model)
    }

    /// The tokens of both, and how many are of the query.
    fn tokens(&self, query: &str, text: &str) -> Result<(Vec<u32>, usize)> {
        let text = beginning(text, self.identity.tokens_max.saturating_mul(BYTES_PER_TOKEN));
        let encoding = self.tokenizer.encode_fast((query, text), true).map_err(untaken)?;
        let first = encoding.get_type_ids().iter().take_while(|kind| **kind == 0).count();
        Ok((encoding.get_ids().to_vec(), first))
    }

    /// A number for each of some texts.
    fn forward(&self, texts: &[Parts<'_>]) -> Vec<f32> {
        let (states, width) = (self.bert.states(texts), self.bert.width());
        let mut first = Vec::with_capacity(texts.len() * width);
        let mut start = 0;
        for text in texts {
            first.extend_from_slice(&states[start..start + width]);
            start += text.all.len() * width;
        }
        let mut pooled = vec![0.0; first.len()];
        self.pooler.apply(&first, &mut pooled);
        for row in pooled.chunks_exact_mut(width) {
            row.iter_mut().zip(&self.pooler.bias).for_each(|(value, bias)| *value = (*value + bias).tanh());
        }
        let mut scores = vec![0.0; texts.len()];
        self.classifier.apply(&pooled, &mut scores);
        scores.iter_mut().for_each(|score| *score += self.classifier.bias[0]);
        scores
    }
}

impl Reranker for CrossEncoder {
    fn identity(&self) -> &ModelIdentity {
        &self.identity
    }

    fn score(&self, query: &str, texts: &[&str]) -> Result<Vec<f32>> {
        let tokens = texts.iter().map(|text| self.tokens(query, text)).collect::<Result<Vec<_>>>()?;
        let lengths: Vec<usize> = tokens.iter().map(|(tokens, _)| tokens.len()).collect();
        let forward = |batch: &[usize]| {
            let parts = |text: &usize| Parts { all: &tokens[*text].0, first: tokens[*text].1 };
            self.forward(&batch.iter().map(parts).collect::<Vec<_>>())
        };
        let mut scores = vec![0.0; texts.len()];
        for (batch, found) in Batches::new(&lengths, self.batch_tokens).run(self.threads, forward) {
            batch.into_iter().zip(found).for_each(|(text, score)| scores[text] = score);
        }
        if scores.iter().all(|score| score.is_finite()) {
            return Ok(scores);
        }
        Err(Error::new(codes::CORRUPTED, "the cross-encoder gives no number for a text; take another model"))
    }
}

/// As many whole characters as fit.
fn beginning(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}
