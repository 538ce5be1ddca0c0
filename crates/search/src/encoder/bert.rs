//! BERT (Devlin et al. 2019): token embeddings, layers of attention and feed-forward. As a sentence encoder (Reimers and
//! Gurevych 2019) it gives the mean over the tokens, brought to length 1. Dropout, which inference does not use, is left out.

use kernel::{Error, Result, codes};
use serde::Deserialize;

use super::Forward;
use super::attention::Heads;
use super::files::ModelFiles;
use super::kernels::{Linear, Norm, add_bias, add_bias_and_gelu, mean_and_normalise};

/// What `config.json` says of the shape.
#[derive(Debug, Deserialize)]
struct Shape {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    max_position_embeddings: usize,
    vocab_size: usize,
    layer_norm_eps: f32,
    hidden_act: String,
    #[serde(default = "absolute")]
    position_embedding_type: String,
}

fn absolute() -> String {
    "absolute".to_owned()
}

#[derive(Debug)]
struct Layer {
    projection: Linear,
    mixing: Linear,
    mixing_norm: Norm,
    widening: Linear,
    narrowing: Linear,
    narrowing_norm: Norm,
}

/// The weights.
#[derive(Debug)]
pub(super) struct Bert {
    hidden: usize,
    heads: Heads,
    words: Vec<f32>,
    /// By the part of a text, then by place, with the embedding of the part in it.
    places: Vec<Vec<f32>>,
    norm: Norm,
    layers: Vec<Layer>,
    no_bias: Vec<f32>,
}

/// The tokens of a text, and how many of them are of its first part; the second begins after these.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts<'a> {
    pub all: &'a [u32],
    pub first: usize,
}

impl Bert {
    /// For texts of so many parts, one or two.
    pub(super) fn new(files: &ModelFiles, parts: usize) -> Result<Self> {
        let shape: Shape = files.config()?;
        shape.check()?;
        if files.tokens_max() > shape.max_position_embeddings {
            return Err(unknown("more tokens in a text than it has places"));
        }
        let hidden = shape.hidden_size;
        let places = files
            .tensor("embeddings.position_embeddings.weight", &[shape.max_position_embeddings, hidden])?;
        let kinds = files.tensor_of_rows("embeddings.token_type_embeddings.weight", hidden)?;
        if kinds.len() < parts * hidden {
            return Err(unknown("one type of tokens, and two texts are to be read together"));
        }
        let of_part = |kind: &[f32]| {
            let mut places = places.clone();
            add_bias(&mut places, kind);
            places
        };
        let places = kinds.chunks_exact(hidden).take(parts).map(of_part).collect();
        let layers = (0..shape.num_hidden_layers)
            .map(|layer| Layer::new(files, &shape, layer))
            .collect::<Result<_>>()?;
        Ok(Self {
            hidden,
            heads: Heads { count: shape.num_attention_heads, width: hidden / shape.num_attention_heads },
            words: files.tensor("embeddings.word_embeddings.weight", &[shape.vocab_size, hidden])?,
            places,
            norm: norm(files, "embeddings.LayerNorm", &shape)?,
            layers,
            no_bias: vec![0.0; hidden],
        })
    }

    /// Numbers of the state of a token.
    pub(super) fn width(&self) -> usize {
        self.hidden
    }

    /// What the first layer reads.
    fn embed(&self, texts: &[Parts<'_>]) -> Vec<f32> {
        let mut embedded =
            Vec::with_capacity(texts.iter().map(|text| text.all.len()).sum::<usize>() * self.hidden);
        for text in texts {
            for (at, token) in text.all.iter().enumerate() {
                let place = &self.places[usize::from(at >= text.first)][at * self.hidden..][..self.hidden];
                let word = &self.words[*token as usize * self.hidden..][..self.hidden];
                embedded.extend(word.iter().zip(place).map(|(word, place)| word + place));
            }
        }
        embedded
    }

    /// What the last layer says of each token of some texts, one after the other.
    pub(super) fn states(&self, texts: &[Parts<'_>]) -> Vec<f32> {
        let lengths: Vec<usize> = texts.iter().map(|text| text.all.len()).collect();
        let mut hidden = self.embed(texts);
        let tokens = hidden.len() / self.hidden;
        let mut mixed = vec![0.0; hidden.len()];
        self.norm.add_and_apply(&mut hidden, &mixed, &self.no_bias);
        let wide = self.layers.iter().map(|layer| layer.widening.bias.len()).max().unwrap_or(0);
        let mut room = vec![0.0; tokens * wide.max(3 * self.hidden)];
        let mut output = vec![0.0; hidden.len()];
        let mut scores = Vec::new();
        for layer in &self.layers {
            let projected = &mut room[..3 * hidden.len()];
            layer.projection.apply(&hidden, projected);
            add_bias(projected, &layer.projection.bias);
            self.heads.attend(&lengths, projected, &mut mixed, &mut scores);
            layer.mixing.apply(&mixed, &mut output);
            layer.mixing_norm.add_and_apply(&mut hidden, &output, &layer.mixing.bias);
            let widened = &mut room[..tokens * layer.widening.bias.len()];
            layer.widening.apply(&hidden, widened);
            add_bias_and_gelu(widened, &layer.widening.bias);
            layer.narrowing.apply(widened, &mut output);
            layer.narrowing_norm.add_and_apply(&mut hidden, &output, &layer.narrowing.bias);
        }
        hidden
    }
}

impl Shape {
    fn check(&self) -> Result<()> {
        let parts = [
            self.hidden_size,
            self.intermediate_size,
            self.num_attention_heads,
            self.max_position_embeddings,
        ];
        if parts.contains(&0)
            || self.vocab_size == 0
            || !self.hidden_size.is_multiple_of(self.num_attention_heads)
        {
            return Err(unknown("a shape that cannot be"));
        }
        if self.hidden_act != "gelu" {
            return Err(unknown(&format!(
                "the activation `{}`; `gelu` is understood",
                self.hidden_act.escape_debug()
            )));
        }
        if self.position_embedding_type != "absolute" {
            return Err(unknown("places that are not absolute"));
        }
        Ok(())
    }
}

fn unknown(what: &str) -> Error {
    Error::new(codes::VALIDATION_ERROR, format!("the model has {what}"))
}

fn norm(files: &ModelFiles, name: &str, shape: &Shape) -> Result<Norm> {
    let part = |part: &str| files.tensor(&format!("{name}.{part}"), &[shape.hidden_size]);
    Ok(Norm { scale: part("weight")?, shift: part("bias")?, epsilon: shape.layer_norm_eps })
}

pub(super) fn linear(files: &ModelFiles, name: &str, outputs: usize, inputs: usize) -> Result<Linear> {
    let (weights, bias) = weights_and_bias(files, name, outputs, inputs)?;
    Ok(Linear::new(&weights, bias))
}

fn weights_and_bias(
    files: &ModelFiles,
    name: &str,
    outputs: usize,
    inputs: usize,
) -> Result<(Vec<f32>, Vec<f32>)> {
    let weights = files.tensor(&format!("{name}.weight"), &[outputs, inputs])?;
    Ok((weights, files.tensor(&format!("{name}.bias"), &[outputs])?))
}

impl Layer {
    fn new(files: &ModelFiles, shape: &Shape, number: usize) -> Result<Self> {
        let (hidden, wide) = (shape.hidden_size, shape.intermediate_size);
        let name = |part: &str| format!("encoder.layer.{number}.{part}");
        // One product for all three is quicker than three.
        let (mut weights, mut bias) = (Vec::new(), Vec::new());
        for part in ["query", "key", "value"] {
            let of_part = name(&format!("attention.self.{part}"));
            let (more_weights, more_bias) = weights_and_bias(files, &of_part, hidden, hidden)?;
            weights.extend(more_weights);
            bias.extend(more_bias);
        }
        Ok(Self {
            projection: Linear::new(&weights, bias),
            mixing: linear(files, &name("attention.output.dense"), hidden, hidden)?,
            mixing_norm: norm(files, &name("attention.output.LayerNorm"), shape)?,
            widening: linear(files, &name("intermediate.dense"), wide, hidden)?,
            narrowing: linear(files, &name("output.dense"), hidden, wide)?,
            narrowing_norm: norm(files, &name("output.LayerNorm"), shape)?,
        })
    }
}

impl Forward for Bert {
    fn dimensions(&self) -> usize {
        self.hidden
    }

    fn vocabulary(&self) -> usize {
        self.words.len() / self.hidden
    }

    fn forward(&self, texts: &[&[u32]]) -> Vec<f32> {
        let parts: Vec<Parts<'_>> = texts.iter().map(|text| Parts { all: text, first: text.len() }).collect();
        let hidden = self.states(&parts);
        let mut vectors = vec![0.0; texts.len() * self.hidden];
        let mut start = 0;
        for (vector, text) in vectors.chunks_exact_mut(self.hidden).zip(texts) {
            mean_and_normalise(&hidden[start..start + text.len() * self.hidden], vector);
            start += text.len() * self.hidden;
        }
        vectors
    }
}
