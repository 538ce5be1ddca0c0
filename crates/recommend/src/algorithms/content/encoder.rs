//! Learns from a catalogue what its attributes are, and turns the attributes of any entity into a vector.
//!
//! A date is a number of days. Any other text that repeats over entities is the name of a category, one that does not is to
//! be read. Each
//! attribute is a block of the vector with a weight of its own; the whole has length 1, so that a dot product
//! is a cosine. Attributes in which most entities agree say little and count for little. Attributes and terms
//! that the catalogue did not have are left out.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::ContentSettings;
use super::dates::days;
use super::numbers::{KNOTS, NumberScale, spread};
use super::text::{TextSettings, WordCounter, WordCounts};
use super::vector::ContentVector;
use crate::attributes::{AttributeValue, Attributes};

/// A text with more words than this is read, however often it repeats.
const CATEGORY_WORDS: usize = 6;

/// What an attribute is taken for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Kind {
    Number {
        scale: NumberScale,
        first_feature: u32,
    },
    Boolean {
        first_feature: u32,
        rarity: [f32; 2],
    },
    /// Categories and tags: the feature and the rarity of each term.
    Terms {
        terms: BTreeMap<String, (u32, f32)>,
    },
    Text,
}

/// What is known of an attribute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Known {
    kind: Kind,
    weight: f32,
}

/// The encoding of one catalogue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Encoder {
    settings: ContentSettings,
    attributes: BTreeMap<String, Known>,
    words: WordCounts,
    features: u32,
}

/// One contribution of an attribute to a vector, before the vector has length 1.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part<'a> {
    pub(super) attribute: &'a str,
    /// The term, word or value.
    pub(super) label: String,
    /// Whether the label is a number, so that another one can be near.
    pub(super) is_number: bool,
    pub(super) feature: u32,
    pub(super) weight: f32,
}

/// What the catalogue has under one name.
#[derive(Debug, Default)]
struct Column<'a> {
    numbers: Vec<f64>,
    booleans: [u32; 2],
    texts: Vec<&'a str>,
    tags: Vec<&'a [String]>,
}

impl Encoder {
    pub(super) fn fit(catalogue: &[Attributes], settings: ContentSettings) -> Self {
        let mut columns: BTreeMap<&str, Column<'_>> = BTreeMap::new();
        for (name, value) in catalogue.iter().flatten() {
            let column = columns.entry(name).or_default();
            match value {
                AttributeValue::Number(number) if number.is_finite() => column.numbers.push(*number),
                AttributeValue::Number(_) => {}
                AttributeValue::Boolean(flag) => column.booleans[usize::from(*flag)] += 1,
                AttributeValue::Text(text) => column.texts.push(text),
                AttributeValue::Tags(tags) => column.tags.push(tags),
            }
        }
        let mut features = settings.feature_vector_dimension;
        let mut words = WordCounter::default();
        let mut attributes = BTreeMap::new();
        for (name, column) in columns {
            if let Some(known) = column.learn(name, &settings, &mut features, &mut words) {
                attributes.insert(name.to_owned(), known);
            }
        }
        Self { settings, attributes, words: words.finish(), features }
    }

    pub(super) fn settings(&self) -> &ContentSettings {
        &self.settings
    }

    /// Features are below this.
    pub(super) fn features(&self) -> usize {
        self.features as usize
    }

    /// What each attribute gives to each feature.
    pub(super) fn parts<'a>(&self, attributes: &'a Attributes) -> Vec<Part<'a>> {
        let mut parts = Vec::new();
        for (name, value) in attributes {
            if let Some(known) = self.attributes.get(name) {
                self.add_parts(name, known, value, &mut parts);
            }
        }
        parts
    }

    fn add_parts<'a>(
        &self,
        attribute: &'a str,
        known: &Known,
        value: &AttributeValue,
        parts: &mut Vec<Part<'a>>,
    ) {
        let is_number = matches!(known.kind, Kind::Number { .. });
        let number = match value {
            AttributeValue::Number(number) => number.is_finite().then(|| (*number, number.to_string())),
            AttributeValue::Text(text) if is_number => days(text).map(|days| (days, text.clone())),
            _ => None,
        };
        let mut add = |label: String, feature: u32, weight: f32| {
            if weight != 0.0 {
                parts.push(Part { attribute, label, is_number, feature, weight: weight * known.weight });
            }
        };
        match (&known.kind, value) {
            (Kind::Number { scale, first_feature }, _) => {
                let Some((number, label)) = number else { return };
                let (knot, here, next) = spread(scale.place(number));
                let feature = first_feature + knot as u32;
                add(label.clone(), feature, here);
                add(label, feature + 1, next);
            }
            (Kind::Boolean { first_feature, rarity }, AttributeValue::Boolean(flag)) => {
                add(flag.to_string(), first_feature + u32::from(*flag), rarity[usize::from(*flag)]);
            }
            (Kind::Terms { terms }, AttributeValue::Text(text)) => {
                if let Some((feature, rarity)) = terms.get(text) {
                    add(text.clone(), *feature, *rarity);
                }
            }
            (Kind::Terms { terms }, AttributeValue::Tags(tags)) => {
                let tags: BTreeSet<&String> = tags.iter().collect();
                let share = 1.0 / (tags.len() as f32).sqrt();
                for tag in tags {
                    if let Some((feature, rarity)) = terms.get(tag) {
                        add(tag.clone(), *feature, rarity * share);
                    }
                }
            }
            (Kind::Text, AttributeValue::Text(text)) => {
                for (word, bucket, weight) in self.words.weigh(text, self.settings.text()) {
                    add(word, bucket, weight);
                }
            }
            // Another type than the catalogue mostly has under this name.
            _ => {}
        }
    }

    /// The vector of an entity; `embedding` is finite, or absent.
    pub(super) fn vector(&self, attributes: &Attributes, embedding: Option<&[f32]>) -> ContentVector {
        let entries = self.parts(attributes).into_iter().map(|part| (part.feature, part.weight)).collect();
        ContentVector::new(entries, embedding, self.settings.weights.embedding)
    }
}

impl Column<'_> {
    fn learn(
        mut self,
        name: &str,
        settings: &ContentSettings,
        features: &mut u32,
        words: &mut WordCounter,
    ) -> Option<Known> {
        self.read_dates();
        let flags = self.booleans[0] + self.booleans[1];
        let most = self.numbers.len().max(flags as usize).max(self.texts.len()).max(self.tags.len());
        let family = &settings.weights;
        let (kind, family_weight) = if most == 0 {
            return None;
        } else if most == self.tags.len() || (most == self.texts.len() && self.are_categories()) {
            let (terms, scale) = self.terms(features);
            let is_tags = most == self.tags.len();
            (Kind::Terms { terms }, scale * if is_tags { family.tags } else { family.categories })
        } else if most == self.texts.len() {
            self.texts.iter().for_each(|text| words.add(text, settings.use_bigrams));
            (Kind::Text, family.text)
        } else if most == self.numbers.len() {
            let scale = NumberScale::fit(&mut self.numbers, settings.normalize_numerical_features);
            let knots = self.numbers.iter().map(|&number| spread(scale.place(number)).0);
            let mut counts = [0; KNOTS];
            knots.for_each(|knot| counts[knot] += 1);
            let difference = difference(&counts);
            (Kind::Number { scale, first_feature: take(features, KNOTS) }, family.numbers * difference)
        } else {
            let rarity = self.booleans.map(|count| rarity(count, flags));
            let scale =
                scale_of(self.booleans.iter().zip(rarity).map(|(&count, rarity)| (count, rarity * rarity)));
            let scale = scale * difference(&self.booleans);
            (Kind::Boolean { first_feature: take(features, 2), rarity }, family.booleans * scale)
        };
        let weight = family_weight * settings.attribute_weights.get(name).copied().unwrap_or(1.0);
        (weight != 0.0).then_some(Known { kind, weight })
    }

    /// Where every text is a date, they are numbers.
    fn read_dates(&mut self) {
        if let Some(dates) = self.texts.iter().map(|text| days(text)).collect::<Option<Vec<f64>>>() {
            self.numbers.extend(dates);
            self.texts.clear();
        }
    }

    fn are_categories(&self) -> bool {
        let distinct: BTreeSet<&str> = self.texts.iter().copied().collect();
        let is_short = |text: &&str| text.split_whitespace().nth(CATEGORY_WORDS).is_none();
        distinct.len() * 2 <= self.texts.len() && distinct.iter().all(is_short)
    }

    /// The terms with their rarities, and the scale that gives the block of an average entity the length 1,
    /// less where entities agree.
    fn terms(&self, features: &mut u32) -> (BTreeMap<String, (u32, f32)>, f32) {
        let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
        let lists = self.tags.iter().map(|tags| tags.iter().map(String::as_str).collect::<BTreeSet<_>>());
        let lists: Vec<BTreeSet<&str>> =
            lists.chain(self.texts.iter().map(|text| BTreeSet::from([*text]))).collect();
        lists.iter().flatten().for_each(|term| *counts.entry(term).or_default() += 1);
        let total = lists.len() as u32;
        let square = |list: &BTreeSet<&str>| {
            let sum: f32 = list.iter().map(|term| rarity(counts[term], total).powi(2)).sum();
            (1, sum / (list.len().max(1) as f32))
        };
        let scale =
            scale_of(lists.iter().map(square)) * difference(&counts.values().copied().collect::<Vec<_>>());
        let terms = counts
            .iter()
            .map(|(term, &count)| ((*term).to_owned(), (take(features, 1), rarity(count, total))));
        (terms.collect(), scale)
    }
}

fn take(features: &mut u32, count: usize) -> u32 {
    let first = *features;
    *features += count as u32;
    first
}

/// `ln((total + 1) / (count + 1/2))`: near 0 for what all have, highest for what one has.
fn rarity(count: u32, total: u32) -> f32 {
    ((total as f32 + 1.0) / (count as f32 + 0.5)).ln().max(0.0)
}

/// One over the root of the mean square; 0 where that is 0. `squares` are (how many, of which square).
fn scale_of(squares: impl Iterator<Item = (u32, f32)>) -> f32 {
    let (count, sum) = squares.fold((0.0, 0.0), |(count, sum), (times, square)| {
        (count + times as f32, sum + times as f32 * square)
    });
    if sum > 0.0 { (count / sum).sqrt() } else { 0.0 }
}

/// The probability that two occurrences differ (Simpson 1949), with one pair that does and one that does not
/// put in, so that a tiny catalogue is not taken at its word.
fn difference(counts: &[u32]) -> f32 {
    let pairs = |count: f64| count * (count - 1.0) / 2.0;
    let same: f64 = counts.iter().map(|&count| pairs(f64::from(count))).sum();
    let all = pairs(counts.iter().map(|&count| f64::from(count)).sum());
    (1.0 - (same + 1.0) / (all + 2.0)) as f32
}

impl ContentSettings {
    fn text(&self) -> TextSettings {
        TextSettings {
            tf_idf: self.use_tfidf_for_text,
            bigrams: self.use_bigrams,
            buckets: self.feature_vector_dimension,
        }
    }
}
