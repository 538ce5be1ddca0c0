//! The `search` section of the configuration.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use kernel::{Error, Result, codes};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::algorithms::bm25::Bm25;
use crate::algorithms::fusion::Fusion;

/// Search by words and by meaning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SearchSettings {
    /// The parameters of the scores by words.
    pub bm25: Bm25,
    /// How rankings by words and by meaning become one, where a request does not say.
    pub fusion: Fusion,
    /// Groups of single words that mean the same.
    pub synonyms: Vec<Vec<String>>,
    /// Where this server keeps its indexes of words. Without it they are in `storage.data_dir` where an embedded engine keeps
    /// something there, and else in memory, made again from the log at each start.
    pub index_dir: Option<PathBuf>,
    /// The folder of the sentence encoder: `config.json`, `tokenizer.json`, `model.safetensors`. Without one, search is by
    /// words alone and nothing is embedded.
    pub model_path: Option<PathBuf>,
    /// What callers know the encoder by.
    pub model_name: String,
    /// Threads of one call of the encoder.
    pub threads: NonZeroUsize,
    /// Tokens that are encoded together.
    pub batch_tokens: usize,
}

impl Default for SearchSettings {
    fn default() -> Self {
        Self {
            bm25: Bm25::default(),
            fusion: Fusion::Rrf,
            synonyms: Vec::new(),
            index_dir: None,
            model_path: None,
            model_name: "sentence-transformers/all-MiniLM-L6-v2".to_owned(),
            threads: NonZeroUsize::MIN,
            batch_tokens: 1_024,
        }
    }
}

impl SearchSettings {
    /// Checks every value.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` naming the setting.
    pub fn validate(&self) -> Result<()> {
        let refuse =
            |field: &str, message: &str| Err(Error::new(codes::VALIDATION_ERROR, message).with_field(field));
        self.bm25.validate().map_err(|error| {
            let field = format!("search.bm25.{}", error.field().unwrap_or_default());
            error.with_field(field)
        })?;
        if let Fusion::Learned(weight) = self.fusion
            && !(0.0..=1.0).contains(&weight)
        {
            return refuse("search.fusion", "the share for meaning must be 0 to 1");
        }
        if !(16..=65_536).contains(&self.batch_tokens) {
            return refuse("search.batch_tokens", "must be 16 to 65536");
        }
        if self.threads.get() > 256 {
            return refuse("search.threads", "must be 1 to 256");
        }
        if self.model_name.is_empty() || self.model_name.len() > 200 {
            return refuse("search.model_name", "must be 1 to 200 bytes");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked() {
        let check = |change: fn(&mut SearchSettings), field: Option<&str>| {
            let mut settings = SearchSettings::default();
            change(&mut settings);
            let found = settings.validate().err().map(|error| error.field().unwrap_or_default().to_owned());
            assert_eq!(found.as_deref(), field);
        };
        check(|_| (), None);
        check(|settings| settings.bm25.b = 2.0, Some("search.bm25.b"));
        check(|settings| settings.fusion = Fusion::Learned(f64::NAN), Some("search.fusion"));
        check(|settings| settings.batch_tokens = 0, Some("search.batch_tokens"));
        check(|settings| settings.model_name.clear(), Some("search.model_name"));
    }
}
