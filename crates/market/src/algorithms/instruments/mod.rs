//! What an instrument is, from its name: commodity, region and product tier, each with its reason.
//!
//! In this order: what somebody said about it (an override), the instrument that it is another name of (an alias), the
//! rules of a table ([`TaxonomyRules`]). Whole words are matched, never parts of them: `ENGLAND` is no gas (NG), and
//! `WESTERN` is a region of nothing. What no rule says is `unknown`, with that as its reason.
//!
//! Confidence is the guide's: 0.95 for what somebody said; else 0.5, and 0.2 more where the name has a market or a
//! benchmark, 0.1 for a hub or a node, 0.1 for a zone, 0.9 at most; 0.1 where no rule holds.
//!
//! To add an instrument: a rule, an alias or an override in configuration; no code.

mod rules;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use rustc_hash::FxHashMap;
use serde::Serialize;

pub use rules::{Evidence, Override, Rule, RulesFault, TaxonomyRules, Vocabulary};

/// The label of what no rule says.
pub const UNKNOWN: &str = "unknown";

const SAID: f64 = 0.95;
const FALLBACK: f64 = 0.1;
const BASE: f64 = 0.5;
const MARKET: f64 = 0.2;
const PLACE: f64 = 0.1;
const RULES_MOST: f64 = 0.9;

/// How an instrument was classified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Somebody said so.
    Override,
    /// By the words of its name.
    Rules,
    /// No rule holds.
    Fallback,
}

/// One label and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// From the vocabulary, or [`UNKNOWN`].
    pub label: String,
    /// For people.
    pub reason: String,
}

/// What an instrument is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Classification {
    /// What is traded.
    pub commodity: Decision,
    /// Where.
    pub region: Decision,
    /// How much it leads others.
    pub product_tier: Decision,
    /// From 0 to 1.
    pub confidence: f64,
    /// How it was found.
    pub method: Method,
    /// The instrument that it is another name of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias_of: Option<String>,
}

/// The rules made ready.
#[derive(Debug, Clone)]
pub struct Taxonomy {
    rules: TaxonomyRules,
    by_first_word: FxHashMap<String, Vec<usize>>,
    with_digits: Vec<usize>,
}

impl Taxonomy {
    /// Makes rules ready.
    ///
    /// # Errors
    /// See [`RulesFault`].
    pub fn new(rules: TaxonomyRules) -> Result<Self, RulesFault> {
        rules.check()?;
        let mut by_first_word: FxHashMap<String, Vec<usize>> = FxHashMap::default();
        let mut with_digits = Vec::new();
        for (number, rule) in rules.rules.iter().enumerate() {
            if rule.words[0].ends_with('*') {
                with_digits.push(number);
            } else {
                by_first_word.entry(rule.words[0].clone()).or_default().push(number);
            }
        }
        Ok(Self { rules, by_first_word, with_digits })
    }

    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &TaxonomyRules {
        &self.rules
    }

    /// What the instrument of that name is.
    #[must_use]
    pub fn classify(&self, name: &str) -> Classification {
        let alias_of = self.rules.aliases.get(name);
        let name = alias_of.map_or(name, String::as_str);
        let words = words(name);
        let held = self.held(&words);
        let said = self.rules.overrides.get(name);
        let decide = |own: Option<&String>, label: Label| match (own, said) {
            (Some(label), Some(said)) => Decision {
                label: label.clone(),
                reason: said.reason.clone().unwrap_or_else(|| "an override says so".to_owned()),
            },
            _ => decide(&held, label, name),
        };
        let method = match (said, held.is_empty()) {
            (Some(_), _) => Method::Override,
            (None, false) => Method::Rules,
            (None, true) => Method::Fallback,
        };
        Classification {
            commodity: decide(said.and_then(|said| said.commodity.as_ref()), |rule| {
                rule.commodity.as_deref()
            }),
            region: decide(said.and_then(|said| said.region.as_ref()), |rule| rule.region.as_deref()),
            product_tier: decide(said.and_then(|said| said.product_tier.as_ref()), |rule| {
                rule.product_tier.as_deref()
            }),
            confidence: confidence(method, &held),
            method,
            alias_of: alias_of.cloned(),
        }
    }

    /// The rules that hold for the words of a name.
    fn held(&self, words: &[Cow<'_, str>]) -> Vec<&Rule> {
        let mut numbers: Vec<usize> = Vec::new();
        for (place, word) in words.iter().enumerate() {
            let named = self.by_first_word.get(word.as_ref()).into_iter().flatten();
            let holds = |number: &usize| {
                let rule = &self.rules.rules[*number];
                words[place..].len() >= rule.words.len()
                    && rule.words.iter().zip(&words[place..]).all(|(wanted, word)| fits(wanted, word))
            };
            numbers.extend(named.chain(&self.with_digits).copied().filter(holds));
        }
        numbers.sort_unstable();
        numbers.dedup();
        numbers.into_iter().map(|number| &self.rules.rules[number]).collect()
    }
}

impl Method {
    /// Its name, as it is serialised.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Override => "override",
            Self::Rules => "rules",
            Self::Fallback => "fallback",
        }
    }
}

impl Default for Taxonomy {
    /// The built-in rules.
    fn default() -> Self {
        Self::new(TaxonomyRules::default()).expect("the built-in rules are checked by a test")
    }
}

type Label = fn(&Rule) -> Option<&str>;

/// The words of a name in capitals.
fn words(name: &str) -> Vec<Cow<'_, str>> {
    let parts = name.split(|character: char| !character.is_alphanumeric()).filter(|word| !word.is_empty());
    parts
        .map(|word| {
            let is_upper = !word.chars().any(char::is_lowercase);
            if is_upper { Cow::Borrowed(word) } else { Cow::Owned(word.to_uppercase()) }
        })
        .collect()
}

fn fits(wanted: &str, word: &str) -> bool {
    match wanted.strip_suffix('*') {
        None => wanted == word,
        Some(stem) => word
            .strip_prefix(stem)
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit())),
    }
}

fn decide(held: &[&Rule], label: Label, name: &str) -> Decision {
    let strength = |rule: &Rule| (rule.rank, rule.words.len());
    let speaking: Vec<&Rule> = held.iter().copied().filter(|rule| label(rule).is_some()).collect();
    let unknown = |reason: String| Decision { label: UNKNOWN.to_owned(), reason };
    let Some(strongest) = speaking.iter().map(|rule| strength(rule)).max() else {
        return unknown(format!("no rule has words of `{}` that say it", name.escape_debug()));
    };
    let mut deciding = speaking.into_iter().filter(|rule| strength(rule) == strongest);
    let first = deciding.next().expect("the strongest is one of them");
    let first_label = label(first).unwrap_or(UNKNOWN);
    match deciding.find(|rule| label(rule) != Some(first_label)) {
        Some(other) => {
            let other_label = label(other).unwrap_or(UNKNOWN);
            let (one, two) = (&first.reason, &other.reason);
            unknown(format!("rules disagree: {first_label} ({one}) or {other_label} ({two})"))
        }
        None => Decision {
            label: first_label.to_owned(),
            reason: format!("{}: {}", first.words.join(" "), first.reason),
        },
    }
}

fn confidence(method: Method, held: &[&Rule]) -> f64 {
    let shows = |wanted: &[Evidence]| {
        held.iter().flat_map(|rule| &rule.evidence).any(|evidence| wanted.contains(evidence))
    };
    let extra = |wanted: &[Evidence], worth: f64| if shows(wanted) { worth } else { 0.0 };
    match method {
        Method::Override => SAID,
        Method::Fallback => FALLBACK,
        Method::Rules => {
            let market = extra(&[Evidence::Market], MARKET);
            let place = extra(&[Evidence::Hub, Evidence::Node], PLACE) + extra(&[Evidence::Zone], PLACE);
            (BASE + market + place).min(RULES_MOST)
        }
    }
}
