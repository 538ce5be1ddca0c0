//! Sentence encoders: from texts to vectors of length 1 that are near where texts mean the same.
//!
//! A model is a folder, as the usual hubs lay it out: `config.json`, `tokenizer.json`, `model.safetensors`. Two kinds are
//! understood: BERT encoders with mean pooling, such as all-MiniLM-L6-v2 (`bert`), and static tables of one vector for
//! each token, as model2vec writes them (`table`). Everything is computed in this process, in single precision, without
//! padding. It refuses weights that are not numbers, pickles, and models whose architecture it does not know. The same BERT
//! reads a query and a text together in a [`CrossEncoder`], to say how well they fit. [`Distilling`] makes a table out of it.
//!
//! To add a kind: a type that implements [`Forward`], and its arm in [`SentenceEncoder::new`].

mod attention;
pub mod batching;
mod bert;
mod cross;
mod distilling;
mod files;
mod kernels;
mod principal;
mod shortening;
mod table;
mod vectorized;

use std::fmt::Debug;
use std::num::NonZeroUsize;
use std::path::Path;

use batching::Batches;
pub use cross::{CrossEncoder, Reranker};
pub use distilling::Distilling;
pub use files::{FILE_BYTES_MAX, FILES, FileBytes, MORE_FILES, ModelFiles};
use kernel::{Error, Result, codes};
use tokenizers::Tokenizer;

use self::bert::Bert;
use self::shortening::Lengths;
pub use self::shortening::shortened;
use self::table::Table;

/// What an encoder is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelIdentity {
    /// What callers name it by.
    pub name: String,
    /// Half of the hash of its weights and tokens: other vectors, another version.
    pub version: String,
    /// The length of its vectors.
    pub dimensions: usize,
    /// Tokens of a text that it reads; what comes after is cut off.
    pub tokens_max: usize,
}

/// A text as a vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// As long as the model's dimensions; of length 1, or all zeros for a text without any token.
    pub vector: Vec<f32>,
    /// Tokens that were read.
    pub tokens: usize,
    /// Whether the text had more.
    pub is_truncated: bool,
}

/// Makes vectors of texts. It works as long as it works: call it where blocking is allowed.
pub trait Encoder: Send + Sync + Debug {
    /// What it is.
    fn identity(&self) -> &ModelIdentity;

    /// A vector for each text, in their order.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for a text that the model's tokenizer does not take.
    fn encode(&self, texts: &[&str]) -> Result<Vec<Encoded>>;

    /// Whether so many first numbers of its vectors are a vector too; all of them are.
    fn makes(&self, dimensions: usize) -> bool {
        dimensions == self.identity().dimensions
    }
}

/// The part of a model after its tokenizer.
pub(crate) trait Forward: Send + Sync + Debug {
    /// The length of its vectors.
    fn dimensions(&self) -> usize;

    /// How many different tokens it knows.
    fn vocabulary(&self) -> usize;

    /// Whether it wants the marks of a text's beginning and end, and a token for what is unknown.
    fn takes_special_tokens(&self) -> bool {
        true
    }

    /// The vectors of some texts, one after the other. A text is its tokens; none is empty.
    fn forward(&self, texts: &[&[u32]]) -> Vec<f32>;
}

/// A model of a folder.
#[derive(Debug)]
pub struct SentenceEncoder {
    identity: ModelIdentity,
    tokenizer: Tokenizer,
    model: Box<dyn Forward>,
    /// The token of what is unknown, where the model is not to see it.
    left_out: Option<u32>,
    lengths: Lengths,
    batch_tokens: usize,
    threads: NonZeroUsize,
}

impl SentenceEncoder {
    /// Reads the model of a folder; `name` is what callers know it by.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for a model that is not understood, naming what; `CORRUPTED` for damaged files; `NOT_FOUND`.
    pub fn open(folder: &Path, name: &str, batch_tokens: usize, threads: NonZeroUsize) -> Result<Self> {
        Self::new(&ModelFiles::read(folder)?, name, batch_tokens, threads)
    }

    /// The model of these files; `name` is what callers know it by.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for a model that is not understood, naming what; `CORRUPTED` for damaged files.
    pub fn new(files: &ModelFiles, name: &str, batch_tokens: usize, threads: NonZeroUsize) -> Result<Self> {
        let model: Box<dyn Forward> = match files.kind() {
            "bert" => Box::new(Bert::new(files, 1)?),
            "model2vec" => Box::new(Table::new(files)?),
            other => {
                let message =
                    format!("a model is of type `bert` or `model2vec`, not `{}`", other.escape_debug());
                return Err(Error::new(codes::VALIDATION_ERROR, message));
            }
        };
        let mut tokenizer = files.tokenizer_for(model.vocabulary())?;
        if let (false, Some(cut)) = (model.takes_special_tokens(), tokenizer.get_truncation_mut()) {
            // It stops where it has enough, and does not say whether there was more: one more says so.
            cut.max_length += 1;
        }
        let identity = ModelIdentity {
            name: name.to_owned(),
            version: files.version().to_owned(),
            dimensions: model.dimensions(),
            tokens_max: files.tokens_max(),
        };
        let left_out = if model.takes_special_tokens() { None } else { files.unknown_token(&tokenizer) };
        let (lengths, batch_tokens) = (files.config()?, batch_tokens.max(1));
        Ok(Self { identity, tokenizer, model, left_out, lengths, batch_tokens, threads })
    }

    /// The tokens of a text, and whether it had more.
    fn tokens(&self, text: &str) -> Result<(Vec<u32>, bool)> {
        let encoding =
            self.tokenizer.encode_fast(text, self.model.takes_special_tokens()).map_err(untaken)?;
        let (ids, most) = (encoding.get_ids(), self.identity.tokens_max);
        let has_more = ids.len() > most || !encoding.get_overflowing().is_empty();
        Ok((ids.iter().copied().take(most).filter(|id| Some(*id) != self.left_out).collect(), has_more))
    }
}

impl Encoder for SentenceEncoder {
    fn identity(&self) -> &ModelIdentity {
        &self.identity
    }

    fn makes(&self, dimensions: usize) -> bool {
        self.lengths.allow(dimensions, self.identity.dimensions)
    }

    fn encode(&self, texts: &[&str]) -> Result<Vec<Encoded>> {
        let tokens = texts.iter().map(|text| self.tokens(text)).collect::<Result<Vec<_>>>()?;
        let lengths: Vec<usize> = tokens.iter().map(|(tokens, _)| tokens.len()).collect();
        let batches = Batches::new(&lengths, self.batch_tokens);
        let dimensions = self.identity.dimensions;
        let encode = |batch: &[usize]| {
            let of_batch: Vec<&[u32]> = batch.iter().map(|text| tokens[*text].0.as_slice()).collect();
            self.model.forward(&of_batch)
        };
        let mut encoded: Vec<Encoded> = tokens
            .iter()
            .map(|(tokens, is_truncated)| Encoded {
                vector: vec![0.0; dimensions],
                tokens: tokens.len(),
                is_truncated: *is_truncated,
            })
            .collect();
        for (batch, vectors) in batches.run(self.threads, encode) {
            for (text, vector) in batch.iter().zip(vectors.chunks_exact(dimensions)) {
                encoded[*text].vector.copy_from_slice(vector);
            }
        }
        Ok(encoded)
    }
}

fn untaken(cause: tokenizers::Error) -> Error {
    Error::new(codes::VALIDATION_ERROR, "the model's tokenizer does not take the text").with_source(cause)
}

#[cfg(test)]
mod tests;
