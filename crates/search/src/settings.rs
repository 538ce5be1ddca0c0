//! The `search` section of the configuration.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use kernel::{Error, Result, codes};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::algorithms::bm25::Bm25;
use crate::algorithms::fusion::Fusion;
use crate::sources::{ModelSource, VersionName};

/// The longest time that a vector is remembered.
const CACHE_SECONDS_MAX: u64 = 365 * 24 * 3_600;
/// Servers look every half a second whose vectors to ask, and may be cut off for longer.
const FORMER_SECONDS_MIN: u64 = 600;
const FORMER_SECONDS_MAX: u64 = 365 * 24 * 3_600;

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
    /// The sentence encoder: a folder with `config.json`, `tokenizer.json` and `model.safetensors`; `models:/NAME/VERSION` or
    /// `models:/NAME@ALIAS` for a model of the registry, of the tenant `auth.tenant`; or `hf://OWNER/NAME@COMMIT` for one of the
    /// hub. Without one, search is by words alone and nothing is embedded.
    pub model_path: Option<PathBuf>,
    /// What callers know the encoder by.
    pub model_name: String,
    /// The encoder whose vectors answer until those of `model_path` are complete, named in the same way. Take it out when they
    /// are.
    pub previous_model_path: Option<PathBuf>,
    /// What callers know that encoder by; where missing, the name of its folder, or what follows `models:/` or `hf://`.
    pub previous_model_name: Option<String>,
    /// The cross-encoder that searches with `rerank` are ordered by, named in the same way; such searches are refused without
    /// one.
    pub rerank_model_path: Option<PathBuf>,
    /// What callers know the cross-encoder by.
    pub rerank_model_name: String,
    /// The address of the hub, or of a mirror of it. It says what files are, so it is one that you trust.
    pub hub_url: String,
    /// Where files of the hub are kept; `encoders` in `storage.data_dir` without it.
    pub hub_dir: Option<PathBuf>,
    /// Whether recommendations are trained on what the encoder makes of the texts and tags of entities. Train again after each
    /// change of this or of the model.
    pub item_embeddings: bool,
    /// Seconds after which the vectors of a former re-index job are removed, counted from when another answers in its place. A
    /// change back to its model is fast before that.
    pub former_vectors_keep_secs: u64,
    /// How long the vectors of texts and queries are remembered, in the engine of `storage.cache`. 0 remembers none.
    pub embedding_cache_ttl_secs: u64,
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
            previous_model_path: None,
            previous_model_name: None,
            rerank_model_path: None,
            rerank_model_name: "cross-encoder/ms-marco-MiniLM-L6-v2".to_owned(),
            hub_url: "https://huggingface.co".to_owned(),
            hub_dir: None,
            item_embeddings: false,
            former_vectors_keep_secs: 86_400,
            embedding_cache_ttl_secs: 3_600,
            threads: NonZeroUsize::MIN,
            batch_tokens: 1_024,
        }
    }
}

impl SearchSettings {
    /// The settings that name a model, and what they name.
    fn models(&self) -> [(&'static str, Option<&Path>); 3] {
        [
            ("search.model_path", self.model_path.as_deref()),
            ("search.previous_model_path", self.previous_model_path.as_deref()),
            ("search.rerank_model_path", self.rerank_model_path.as_deref()),
        ]
    }

    /// What callers know the encoder of before by, where there is one.
    pub(crate) fn previous_name(&self) -> Option<String> {
        let path = self.previous_model_path.as_deref()?;
        Some(self.previous_model_name.clone().unwrap_or_else(|| ModelSource::name_of(path)))
    }

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
        let is_name = |name: &String| (1..=200).contains(&name.len());
        if !is_name(&self.model_name) {
            return refuse("search.model_name", "must be 1 to 200 bytes");
        }
        if self.previous_model_name.as_ref().is_some_and(|name| !is_name(name)) {
            return refuse("search.previous_model_name", "must be 1 to 200 bytes");
        }
        if !is_name(&self.rerank_model_name) {
            return refuse("search.rerank_model_name", "must be 1 to 200 bytes");
        }
        for (field, name) in self.models() {
            if let Some(name) = name {
                ModelSource::read(name).map_err(|error| error.with_field(field))?;
            }
        }
        if !["https://", "http://"].iter().any(|scheme| self.hub_url.starts_with(scheme)) {
            return refuse(
                "search.hub_url",
                "must begin with https://, or with http:// for a mirror that is near",
            );
        }
        if self.hub_url.contains(['@', '?', '#']) {
            return refuse(
                "search.hub_url",
                "must not hold a user, a password or a query: it is shown in `/api/config` and in errors",
            );
        }
        if self.previous_model_path.is_some() && self.model_path.is_none() {
            return refuse(
                "search.previous_model_path",
                "needs search.model_path, which is to answer after it",
            );
        }
        if self.previous_name().as_ref() == Some(&self.model_name) {
            return refuse(
                "search.previous_model_name",
                "must not be that of search.model_name: who asks for vectors by a name means one model",
            );
        }
        if self.item_embeddings && self.model_path.is_none() {
            return refuse("search.item_embeddings", "needs search.model_path, which makes them");
        }
        let moves = |name: &PathBuf| {
            let source = ModelSource::read(name.as_path()).ok();
            matches!(source, Some(ModelSource::Registered { version: VersionName::Alias(_), .. }))
        };
        if self.item_embeddings && self.model_path.as_ref().is_some_and(moves) {
            return refuse(
                "search.item_embeddings",
                "needs an encoder that stays the same until the next training: name a version, not an alias",
            );
        }
        if !(FORMER_SECONDS_MIN..=FORMER_SECONDS_MAX).contains(&self.former_vectors_keep_secs) {
            return refuse(
                "search.former_vectors_keep_secs",
                "must be 600, ten minutes, to 31536000, a year",
            );
        }
        if self.embedding_cache_ttl_secs > CACHE_SECONDS_MAX {
            return refuse("search.embedding_cache_ttl_secs", "must be at most 31536000, a year");
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
        check(
            |settings| settings.previous_model_name = Some(String::new()),
            Some("search.previous_model_name"),
        );
        check(|settings| settings.previous_model_path = Some("x".into()), Some("search.previous_model_path"));
        for (name, field) in [("new", None), ("light", Some("search.previous_model_name"))] {
            let settings = SearchSettings {
                model_path: Some("new/light".into()),
                model_name: name.to_owned(),
                previous_model_path: Some("old/light".into()),
                ..SearchSettings::default()
            };
            let found = settings.validate().err().map(|error| error.field().unwrap_or_default().to_owned());
            assert_eq!(found.as_deref(), field, "{name}");
        }
        check(|settings| settings.model_path = Some("hf://a/b@main".into()), Some("search.model_path"));
        check(
            |settings| settings.rerank_model_path = Some("models:/x".into()),
            Some("search.rerank_model_path"),
        );
        check(|settings| settings.rerank_model_path = Some("models:/x/1".into()), None);
        check(|settings| settings.rerank_model_name.clear(), Some("search.rerank_model_name"));
        check(|settings| settings.hub_url = "hub.example".to_owned(), Some("search.hub_url"));
        check(
            |settings| settings.hub_url = "https://me:secret@hub.example".to_owned(),
            Some("search.hub_url"),
        );
        check(|settings| settings.item_embeddings = true, Some("search.item_embeddings"));
        check(|settings| settings.former_vectors_keep_secs = 599, Some("search.former_vectors_keep_secs"));
        check(
            |settings| settings.embedding_cache_ttl_secs = u64::MAX,
            Some("search.embedding_cache_ttl_secs"),
        );
    }
}
