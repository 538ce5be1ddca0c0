//! Distilling: a static table (`table`) out of a layered encoder, without any text, after model2vec (Tulkens and van Dongen
//! 2024).
//!
//! Each token of the vocabulary goes through the layers by itself, between the marks of a text's beginning and end. The means
//! of what comes out, not brought to length 1, are turned to their principal axes, of which the first are kept; so the first
//! numbers of a vector are a vector too. Then each is weighted by how rare its token is (smooth inverse frequency, Arora et al.
//! 2017). Nobody counts tokens for that: a vocabulary is about in the order of frequency, and Zipf's law says the rest.
//!
//! Marks, unused tokens and the one of what is unknown get zeros. It refuses what is a table already, and more dimensions than
//! there are. To make a table of another kind of encoder: its arm in `check_kind`, and what it has in place of `states`.

use std::num::NonZeroUsize;

use kernel::{Error, Result, codes};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::json;
use tokenizers::{Encoding, Token, Tokenizer};

use super::batching::Batches;
use super::bert::{Bert, Parts};
use super::files::{FILES, FileBytes, ModelFiles};
use super::principal::PrincipalAxes;
use super::{Forward, untaken};

/// How much frequent tokens count: those that are as frequent as this count half.
const SMOOTHING: f64 = 1e-4;
/// Tokens of a text that are read, in the words of model2vec's files: all.
const TOKENS_MAX: usize = 1_000_000;

/// A layered encoder, of which a table can be made.
#[derive(Debug)]
pub struct Distilling<'a> {
    files: &'a ModelFiles,
    bert: Bert,
    /// The tokens that get a vector, in the order of the vocabulary.
    tokens: Vec<u32>,
    /// The marks of a text's beginning.
    begin: Vec<u32>,
    /// The marks of its end.
    end: Vec<u32>,
    /// Rows of the table: one for each token of the tokenizer, also where it stays zeros.
    rows: usize,
    dimensions: usize,
}

impl<'a> Distilling<'a> {
    /// Of the model of these files, to a table with vectors of so many numbers.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for a model that no table is made of, and, with the field `dimensions`, for more than there are;
    /// `CORRUPTED` for damaged files.
    pub fn new(files: &'a ModelFiles, dimensions: usize) -> Result<Self> {
        check_kind(files.kind())?;
        let bert = Bert::new(files, 1)?;
        let tokenizer = files.tokenizer_for(bert.vocabulary())?;
        let (begin, end) = marks(&tokenizer)?;
        let vocabulary = tokenizer.get_vocab(true);
        let rows = vocabulary.values().max().map_or(0, |last| *last as usize + 1);
        let is_known = |token: &u32| (*token as usize) < bert.vocabulary();
        if rows > bert.vocabulary() || !begin.iter().chain(&end).all(is_known) {
            let message = "the tokenizer has tokens that the model has not; the files do not belong together";
            return Err(Error::new(codes::CORRUPTED, message));
        }
        if begin.len() + 1 + end.len() > files.tokens_max() {
            return Err(refused("the model reads too few tokens of a text for one between its marks"));
        }
        let mut tokens = meaningful(files, &tokenizer);
        tokens.retain(|token| !begin.contains(token) && !end.contains(token));
        if tokens.is_empty() {
            return Err(refused("the model's tokenizer has no token besides its marks"));
        }
        let most = bert.width().min(tokens.len());
        if !(1..=most).contains(&dimensions) {
            let message = format!(
                "must be 1 to {most}: the encoder's vectors have {} numbers, and {} tokens get one",
                bert.width(),
                tokens.len()
            );
            return Err(refused(message).with_field("dimensions"));
        }
        Ok(Self { files, bert, tokens, begin, end, rows, dimensions })
    }

    /// How many tokens get a vector.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.tokens.len()
    }

    /// Makes the table, and gives the bytes of its [`FILES`]; `progress` is told how many more tokens are done. The same
    /// encoder gives the same bytes on any number of threads.
    ///
    /// # Errors
    /// `CORRUPTED` for an encoder that gives no numbers.
    pub fn run(
        &self,
        batch_tokens: usize,
        threads: NonZeroUsize,
        progress: &(dyn Fn(usize) + Sync),
    ) -> Result<FileBytes> {
        let means = self.means(batch_tokens.max(1), threads, progress);
        let axes = PrincipalAxes::new(&means, self.bert.width(), self.dimensions).ok_or_else(|| {
            Error::new(codes::CORRUPTED, "the encoder gives no number for a token; take another model")
        })?;
        let vectors = axes.project(&means);
        drop(means);
        let mut table = vec![0.0_f32; self.rows * self.dimensions];
        let by_token = self.tokens.iter().zip(vectors.chunks_exact(self.dimensions));
        for ((token, vector), weight) in by_token.zip(weights(self.tokens.len())) {
            let row = &mut table[*token as usize * self.dimensions..][..self.dimensions];
            row.iter_mut().zip(vector).for_each(|(value, place)| *value = place * weight as f32);
        }
        self.files_of(table)
    }

    /// What the layers say of each token between the marks, one after the other: the mean over all three.
    fn means(
        &self,
        batch_tokens: usize,
        threads: NonZeroUsize,
        progress: &(dyn Fn(usize) + Sync),
    ) -> Vec<f32> {
        let (width, length) = (self.bert.width(), self.begin.len() + 1 + self.end.len());
        let marked = |token: &u32| [&self.begin[..], &[*token], &self.end[..]].concat();
        let texts: Vec<u32> = self.tokens.iter().flat_map(marked).collect();
        let mean = |states: &[f32]| {
            let mut mean = vec![0.0_f32; width];
            for state in states.chunks_exact(width) {
                mean.iter_mut().zip(state).for_each(|(sum, value)| *sum += value / length as f32);
            }
            mean
        };
        let encode = |batch: &[usize]| {
            let text = |place: &usize| Parts { all: &texts[*place * length..][..length], first: length };
            let states = self.bert.states(&batch.iter().map(text).collect::<Vec<_>>());
            progress(batch.len());
            states.chunks_exact(length * width).flat_map(mean).collect::<Vec<f32>>()
        };
        let lengths = vec![length; self.tokens.len()];
        let mut means = vec![0.0_f32; self.tokens.len() * width];
        for (batch, found) in Batches::new(&lengths, batch_tokens).run(threads, encode) {
            for (place, mean) in batch.iter().zip(found.chunks_exact(width)) {
                means[*place * width..][..width].copy_from_slice(mean);
            }
        }
        means
    }

    /// The files that say so, in model2vec's form.
    fn files_of(&self, table: Vec<f32>) -> Result<FileBytes> {
        let numbers: Vec<u8> = table.iter().flat_map(|value| value.to_le_bytes()).collect();
        drop(table);
        let shape = vec![self.rows, self.dimensions];
        let embeddings = TensorView::new(Dtype::F32, shape, &numbers).map_err(Error::internal)?;
        let weights = safetensors::serialize([("embeddings", embeddings)], None).map_err(Error::internal)?;
        let config = json!({
            "model_type": "model2vec",
            "architectures": ["StaticModel"],
            "apply_pca": self.dimensions,
            "sif_coefficient": SMOOTHING,
            "hidden_dim": self.dimensions,
            "seq_length": TOKENS_MAX,
            "normalize": true,
            "is_matryoshka": true,
            "distilled_from": self.files.version(),
        });
        let config = serde_json::to_vec_pretty(&config).map_err(Error::internal)?;
        let tokenizer = self.files.tokenizer_of_whole_texts()?;
        let [config_name, tokenizer_name, weights_name] = FILES.map(str::to_owned);
        Ok(FileBytes::from([(config_name, config), (tokenizer_name, tokenizer), (weights_name, weights)]))
    }
}

fn check_kind(kind: &str) -> Result<()> {
    match kind {
        "bert" => Ok(()),
        "model2vec" => {
            Err(refused("the model is a static table already; name the layered encoder to make one of"))
        }
        other => {
            let other = other.escape_debug();
            Err(refused(format!("a table is made of a model of type `bert`, not `{other}`")))
        }
    }
}

/// The marks before a text and behind it.
fn marks(tokenizer: &Tokenizer) -> Result<(Vec<u32>, Vec<u32>)> {
    // No token has this number.
    let text = Encoding::from_tokens(vec![Token::new(u32::MAX, String::new(), (0, 0))], 0);
    let marked = tokenizer.post_process(text, None, true).map_err(untaken)?;
    let mut parts = marked.get_ids().split(|token| *token == u32::MAX).map(<[u32]>::to_vec);
    Ok((parts.next().unwrap_or_default(), parts.next().unwrap_or_default()))
}

/// The tokens that mean something, in the order of the vocabulary.
fn meaningful(files: &ModelFiles, tokenizer: &Tokenizer) -> Vec<u32> {
    let (unknown, added) = (files.unknown_token(tokenizer), tokenizer.get_added_vocabulary());
    let mut tokens: Vec<u32> = tokenizer
        .get_vocab(true)
        .into_iter()
        .filter(|(name, token)| Some(*token) != unknown && !added.is_special_token(name) && !is_unused(name))
        .map(|(_, token)| token)
        .collect();
    tokens.sort_unstable();
    tokens.dedup();
    tokens
}

/// Vocabularies of BERT keep places free for tokens that never came.
fn is_unused(name: &str) -> bool {
    let number = name.strip_prefix("[unused").and_then(|rest| rest.strip_suffix(']'));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit()))
}

/// The weights of so many tokens, whose frequencies fall as one by their rank, from 2 as in model2vec.
fn weights(count: usize) -> impl Iterator<Item = f64> {
    let ranks = 2..count + 2;
    let whole: f64 = ranks.clone().map(|rank| (rank as f64).recip()).sum();
    ranks.map(move |rank| SMOOTHING / (SMOOTHING + (rank as f64 * whole).recip()))
}

fn refused(message: impl Into<String>) -> Error {
    Error::new(codes::VALIDATION_ERROR, message)
}
