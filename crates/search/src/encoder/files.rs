//! The files of a model, and what is checked before one is used: that they are whole, that every weight is a number,
//! that shapes fit. A model never runs code of its own: there is no pickle.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use kernel::{Error, Result, codes};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokenizers::{Tokenizer, TruncationParams};

/// Tokens of a text where the model does not say.
const TOKENS_MAX: usize = 512;
/// Raised when the same files come to give other vectors: those are of another version then.
const ENCODER_FORMAT: u32 = 2;
/// The largest file that is read.
pub const FILE_BYTES_MAX: u64 = 4 << 30;
/// The files that every model has.
pub const FILES: [&str; 3] = ["config.json", "tokenizer.json", "model.safetensors"];
/// Those that are read where a model has them.
pub const MORE_FILES: [&str; 2] = ["sentence_bert_config.json", "1_Pooling/config.json"];

/// The bytes of files, by name.
pub type FileBytes = BTreeMap<String, Vec<u8>>;

/// A model's files, read and checked.
#[derive(Debug)]
pub struct ModelFiles {
    config: Value,
    kind: String,
    weights: Vec<u8>,
    tokenizer: Vec<u8>,
    tokens_max: usize,
    version: String,
}

#[derive(Debug, Deserialize)]
struct SentenceConfig {
    max_seq_length: Option<usize>,
}

#[derive(Debug, Deserialize)]
struct PoolingConfig {
    #[serde(default)]
    pooling_mode_mean_tokens: bool,
}

impl ModelFiles {
    /// Reads those of a folder.
    ///
    /// # Errors
    /// As [`ModelFiles::of`], and `TOO_LARGE` for a file beyond [`FILE_BYTES_MAX`].
    pub fn read(folder: &Path) -> Result<Self> {
        let mut files = FileBytes::new();
        for name in FILES {
            files.insert(name.to_owned(), read(folder, name)?);
        }
        for name in MORE_FILES.into_iter().filter(|name| folder.join(name).exists()) {
            files.insert(name.to_owned(), read(folder, name)?);
        }
        Self::of(files)
    }

    /// Of the bytes of [`FILES`], and of those of [`MORE_FILES`] that the model has.
    ///
    /// # Errors
    /// `NOT_FOUND` where one is missing, `CORRUPTED` where one is damaged, `VALIDATION_ERROR` for another pooling than the
    /// mean.
    pub fn of(mut files: FileBytes) -> Result<Self> {
        let mut taken = |name: &str| {
            let missing = || Error::new(codes::NOT_FOUND, format!("the model has no file {name}"));
            files.remove(name).ok_or_else(missing)
        };
        let [config, tokenizer, weights] = FILES;
        let config: Value = parse(config, &taken(config)?)?;
        let kind = config.get("model_type").and_then(Value::as_str).unwrap_or_default().to_owned();
        let (tokenizer, weights) = (taken(tokenizer)?, taken(weights)?);
        let mut tokens_max = TOKENS_MAX;
        let [sentence, pooling] = MORE_FILES;
        if let Some(bytes) = files.get(sentence) {
            let told: SentenceConfig = parse(sentence, bytes)?;
            tokens_max = told.max_seq_length.unwrap_or(tokens_max).max(3);
        }
        if let Some(bytes) = files.get(pooling) {
            let pooling: PoolingConfig = parse(pooling, bytes)?;
            if !pooling.pooling_mode_mean_tokens {
                let message =
                    "the model's vectors are not the mean of its tokens, which is what is understood";
                return Err(Error::new(codes::VALIDATION_ERROR, message));
            }
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(&ENCODER_FORMAT.to_le_bytes());
        for part in [&weights, &tokenizer, &serde_json::to_vec(&config).map_err(Error::internal)?] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        hasher.update(&(tokens_max as u64).to_le_bytes());
        let version = hasher.finalize().to_hex()[..16].to_owned();
        Ok(Self { config, kind, weights, tokenizer, tokens_max, version })
    }

    /// The type that `config.json` tells.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Half of the hash of everything.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Tokens of a text that are read.
    #[must_use]
    pub fn tokens_max(&self) -> usize {
        self.tokens_max
    }

    /// What `config.json` says.
    pub(super) fn config<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_value(self.config.clone()).map_err(|cause| damaged("config.json", cause))
    }

    /// The tokenizer; it cuts texts off and does not pad them.
    fn tokenizer(&self) -> Result<Tokenizer> {
        let broken = |cause| damaged("tokenizer.json", cause);
        let mut tokenizer = Tokenizer::from_bytes(&self.tokenizer).map_err(broken)?;
        tokenizer.with_padding(None);
        let truncation = TruncationParams { max_length: self.tokens_max, ..TruncationParams::default() };
        tokenizer.with_truncation(Some(truncation)).map_err(broken)?;
        Ok(tokenizer)
    }

    /// The tokenizer, which knows no token that the model does not.
    pub(super) fn tokenizer_for(&self, vocabulary: usize) -> Result<Tokenizer> {
        let tokenizer = self.tokenizer()?;
        if tokenizer.get_vocab_size(true) > vocabulary {
            let message = "the tokenizer has more tokens than the model; the files do not belong together";
            return Err(Error::new(codes::CORRUPTED, message));
        }
        Ok(tokenizer)
    }

    /// The tokenizer's file, for a model that reads whole texts: without cutting off, and without padding.
    pub(super) fn tokenizer_of_whole_texts(&self) -> Result<Vec<u8>> {
        let mut told: serde_json::Map<String, Value> = parse("tokenizer.json", &self.tokenizer)?;
        for part in ["truncation", "padding"] {
            told.insert(part.to_owned(), Value::Null);
        }
        serde_json::to_vec(&told).map_err(Error::internal)
    }

    /// The token that stands for what the tokenizer does not know.
    pub(super) fn unknown_token(&self, tokenizer: &Tokenizer) -> Option<u32> {
        let told: Value = serde_json::from_slice(&self.tokenizer).ok()?;
        let model = told.get("model")?;
        let by_name =
            model.get("unk_token").and_then(Value::as_str).and_then(|name| tokenizer.token_to_id(name));
        by_name.or_else(|| u32::try_from(model.get("unk_id")?.as_u64()?).ok())
    }

    /// Whether there is a tensor of this name.
    pub(super) fn has_tensor(&self, name: &str) -> bool {
        SafeTensors::deserialize(&self.weights).is_ok_and(|all| all.tensor(name).is_ok())
    }

    /// The numbers of a tensor of this shape.
    pub(super) fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let (found, numbers) = self.any_tensor(name)?;
        if found == shape {
            return Ok(numbers);
        }
        Err(damaged("model.safetensors", format!("`{name}` is {found:?}, and {shape:?} was expected")))
    }

    /// The numbers of a tensor that is one row.
    pub(super) fn numbers(&self, name: &str) -> Result<Vec<f32>> {
        match self.any_tensor(name)? {
            (shape, numbers) if shape.len() == 1 && shape[0] > 0 => Ok(numbers),
            (shape, _) => Err(unusable_weights(format!("`{name}` is {shape:?}"))),
        }
    }

    /// The numbers of a tensor with at least one row of this width.
    pub(super) fn tensor_of_rows(&self, name: &str, width: usize) -> Result<Vec<f32>> {
        match self.any_tensor(name)? {
            (shape, numbers) if shape.len() == 2 && shape[0] > 0 && shape[1] == width => Ok(numbers),
            (shape, _) => Err(damaged("model.safetensors", format!("`{name}` is {shape:?}"))),
        }
    }

    /// The width of a tensor's rows.
    pub(super) fn width_of(&self, name: &str) -> Result<usize> {
        match self.any_tensor(name)?.0[..] {
            [_, width] if width > 0 => Ok(width),
            _ => Err(damaged("model.safetensors", format!("`{name}` has no rows"))),
        }
    }

    /// The rows of a tensor.
    pub(super) fn outputs_of(&self, name: &str) -> Result<usize> {
        Ok(self.any_tensor(name)?.0.first().copied().unwrap_or(0))
    }

    fn any_tensor(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        let broken = |cause: safetensors::SafeTensorError| damaged("model.safetensors", cause);
        let all = SafeTensors::deserialize(&self.weights).map_err(broken)?;
        let tensor = all.tensor(name).or_else(|_| all.tensor(&format!("bert.{name}"))).map_err(broken)?;
        let numbers = single_precision(tensor.dtype(), tensor.data()).ok_or_else(|| {
            let message = format!("`{name}` is of {:?}, which is not understood", tensor.dtype());
            Error::new(codes::VALIDATION_ERROR, message)
        })?;
        if numbers.iter().any(|number| !number.is_finite()) {
            return Err(damaged("model.safetensors", format!("`{name}` has a weight that is not a number")));
        }
        Ok((tensor.shape().to_vec(), numbers))
    }
}

/// Numbers in the precision that is computed in. Whole ones are exact up to 2^24, which is more than there are tokens.
fn single_precision(kind: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    fn read<const BYTES: usize>(bytes: &[u8], number: impl Fn([u8; BYTES]) -> f32) -> Vec<f32> {
        bytes.as_chunks::<BYTES>().0.iter().map(|bytes| number(*bytes)).collect()
    }
    Some(match kind {
        Dtype::F32 => read(bytes, f32::from_le_bytes),
        Dtype::F16 => read(bytes, |bytes| half::f16::from_le_bytes(bytes).to_f32()),
        Dtype::BF16 => read(bytes, |bytes| half::bf16::from_le_bytes(bytes).to_f32()),
        Dtype::F64 => read(bytes, |bytes| f64::from_le_bytes(bytes) as f32),
        Dtype::I8 => read(bytes, |bytes| f32::from(i8::from_le_bytes(bytes))),
        Dtype::I32 => read(bytes, |bytes| i32::from_le_bytes(bytes) as f32),
        Dtype::I64 => read(bytes, |bytes| i64::from_le_bytes(bytes) as f32),
        _ => return None,
    })
}

/// Of weights that do not fit together.
pub(super) fn unusable_weights(cause: String) -> Error {
    damaged("model.safetensors", cause)
}

fn read(folder: &Path, name: &str) -> Result<Vec<u8>> {
    let path = folder.join(name);
    let missing = |cause: std::io::Error| {
        let message = format!("the model has no file {} that can be read", path.display());
        Error::new(codes::NOT_FOUND, message).with_source(cause)
    };
    let bytes = fs::metadata(&path).map_err(missing)?.len();
    if bytes > FILE_BYTES_MAX {
        let message = format!("{} has {bytes} bytes, {FILE_BYTES_MAX} at most are read", path.display());
        return Err(Error::new(codes::TOO_LARGE, message));
    }
    fs::read(&path).map_err(missing)
}

fn parse<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|cause| damaged(name, cause))
}

fn damaged(name: &str, cause: impl std::fmt::Display) -> Error {
    // Its text is told here; as the source it would be told twice.
    Error::new(codes::CORRUPTED, format!("the model's {name} cannot be used: {cause}"))
}
