//! The rules of the taxonomy, as data: the built-in table of `rules.toml`, or an operator's own.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

const WORDS_MAX: usize = 8;

/// What a rule shows beside its labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// The name of a market or of a benchmark.
    Market,
    /// A hub.
    Hub,
    /// A node.
    Node,
    /// A zone or a region.
    Zone,
}

/// Labels that words in a name stand for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// In capitals, next to each other; a `*` at the end of one stands for digits.
    pub words: Vec<String>,
    /// The highest decides.
    pub rank: u32,
    /// What is traded.
    #[serde(default)]
    pub commodity: Option<String>,
    /// Where.
    #[serde(default)]
    pub region: Option<String>,
    /// How much it leads others.
    #[serde(default)]
    pub product_tier: Option<String>,
    /// What else the words show.
    #[serde(default)]
    pub evidence: Vec<Evidence>,
    /// For people.
    pub reason: String,
}

/// The labels that there are.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vocabulary {
    /// What is traded.
    pub commodity: Vec<String>,
    /// Where.
    pub region: Vec<String>,
    /// How much it leads others.
    pub product_tier: Vec<String>,
}

/// What somebody said about one instrument: it counts before every rule.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Override {
    /// What is traded.
    pub commodity: Option<String>,
    /// Where.
    pub region: Option<String>,
    /// How much it leads others.
    pub product_tier: Option<String>,
    /// For people.
    pub reason: Option<String>,
}

/// Everything that classification rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaxonomyRules {
    /// The labels that rules and overrides may use.
    pub vocabulary: Vocabulary,
    /// The rules.
    #[serde(rename = "rule", default)]
    pub rules: Vec<Rule>,
    /// Other names of instruments: from the other name to the one that is classified.
    #[serde(default)]
    pub aliases: BTreeMap<String, String>,
    /// What is known of single instruments.
    #[serde(default)]
    pub overrides: BTreeMap<String, Override>,
}

/// Why rules cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RulesFault {
    /// Not TOML of the shape of [`TaxonomyRules`].
    #[error("the rules cannot be read: {0}")]
    Unreadable(String),
    /// A rule without words, or with ones that no name can have.
    #[error("the words of `{0}` must be 1 to {WORDS_MAX}, of capitals and digits")]
    Words(String),
    /// A label that is not in the vocabulary.
    #[error("`{0}` is not in the vocabulary; add it there or mend it")]
    Label(String),
    /// An alias of an alias.
    #[error("the alias `{0}` leads to another alias; let it lead to the instrument")]
    Chain(String),
}

impl Default for TaxonomyRules {
    /// The built-in table.
    fn default() -> Self {
        toml::from_str(include_str!("rules.toml")).expect("the built-in rules are read by a test")
    }
}

impl TaxonomyRules {
    /// Reads rules from TOML.
    ///
    /// # Errors
    /// See [`RulesFault`].
    pub fn from_toml(text: &str) -> Result<Self, RulesFault> {
        let rules: Self =
            toml::from_str(text).map_err(|fault| RulesFault::Unreadable(fault.message().to_owned()))?;
        rules.check()?;
        Ok(rules)
    }

    pub(super) fn check(&self) -> Result<(), RulesFault> {
        let is_word = |word: &String| {
            let stem = word.strip_suffix('*').unwrap_or(word);
            !stem.is_empty() && stem.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
        };
        for rule in &self.rules {
            if rule.words.is_empty() || rule.words.len() > WORDS_MAX || !rule.words.iter().all(is_word) {
                return Err(RulesFault::Words(rule.reason.clone()));
            }
            self.check_labels(&rule.commodity, &rule.region, &rule.product_tier)?;
        }
        for known in self.overrides.values() {
            self.check_labels(&known.commodity, &known.region, &known.product_tier)?;
        }
        let chained = self.aliases.iter().find(|(_, target)| self.aliases.contains_key(*target));
        chained.map_or(Ok(()), |(alias, _)| Err(RulesFault::Chain(alias.clone())))
    }

    fn check_labels(
        &self,
        commodity: &Option<String>,
        region: &Option<String>,
        product_tier: &Option<String>,
    ) -> Result<(), RulesFault> {
        let known = &self.vocabulary;
        let all =
            [(commodity, &known.commodity), (region, &known.region), (product_tier, &known.product_tier)];
        for (label, vocabulary) in all {
            if let Some(label) = label
                && !vocabulary.contains(label)
            {
                return Err(RulesFault::Label(label.clone()));
            }
        }
        Ok(())
    }
}
