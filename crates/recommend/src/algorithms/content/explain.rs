//! Says which attributes made two entities alike.

use std::collections::BTreeMap;

use super::ContentModel;
use super::encoder::Part;
use super::vector::dense_dot;
use crate::attributes::Attributes;

/// What one attribute gave to a cosine.
#[derive(Debug, Clone, PartialEq)]
pub struct AttributeMatch {
    /// The name of the attribute of the first entity; `embedding` for what an embedder gave.
    pub attribute: String,
    /// The terms, words or values that both have; of numbers, both where they differ, as `1995 and 1996`.
    pub shared: Vec<String>,
    /// Its part of the cosine; all parts add up to it. May be negative where words collide in a bucket.
    pub contribution: f32,
}

impl ContentModel {
    /// Which attributes make `first` like `second`, the largest contribution first. `embeddings` are the
    /// dense parts of their vectors, empty where there are none.
    #[must_use]
    pub fn explain(
        &self,
        first: (&Attributes, &super::ContentVector),
        second: (&Attributes, &super::ContentVector),
    ) -> Vec<AttributeMatch> {
        let (first_parts, second_parts) = (self.encoder.parts(first.0), self.encoder.parts(second.0));
        let mut other: BTreeMap<u32, Vec<&Part<'_>>> = BTreeMap::new();
        for part in &second_parts {
            other.entry(part.feature).or_default().push(part);
        }
        let scale = scale(&first_parts, first.1) * scale(&second_parts, second.1);
        let mut matches: BTreeMap<&str, AttributeMatch> = BTreeMap::new();
        for part in &first_parts {
            let Some(others) = other.get(&part.feature) else { continue };
            let found = matches.entry(part.attribute).or_insert_with(|| AttributeMatch {
                attribute: part.attribute.to_owned(),
                shared: Vec::new(),
                contribution: 0.0,
            });
            for other in others {
                found.contribution += scale * part.weight * other.weight;
                if let Some(label) = shared_label(part, other)
                    && !found.shared.contains(&label)
                {
                    found.shared.push(label);
                }
            }
        }
        let mut matches: Vec<AttributeMatch> = matches.into_values().collect();
        let embedding = dense_dot(first.1.embedding(), second.1.embedding());
        if embedding != 0.0 {
            let attribute = "embedding".to_owned();
            matches.push(AttributeMatch { attribute, shared: Vec::new(), contribution: embedding });
        }
        matches.sort_by(|a, b| {
            b.contribution.total_cmp(&a.contribution).then_with(|| a.attribute.cmp(&b.attribute))
        });
        matches
    }
}

/// What the weights of an entity's parts are multiplied by in its vector.
fn scale(parts: &[Part<'_>], vector: &super::ContentVector) -> f32 {
    let mut sums: BTreeMap<u32, f32> = BTreeMap::new();
    for part in parts {
        *sums.entry(part.feature).or_default() += part.weight;
    }
    // The feature with the largest sum, so that little is lost by dividing.
    let largest = sums.into_iter().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()));
    let Some((feature, sum)) = largest.filter(|entry| entry.1 != 0.0) else { return 0.0 };
    let stored = vector.entries().binary_search_by_key(&feature, |entry| entry.0);
    stored.map_or(0.0, |at| vector.entries()[at].1 / sum)
}

fn shared_label(part: &Part<'_>, other: &Part<'_>) -> Option<String> {
    if part.label == other.label {
        return Some(part.label.clone());
    }
    let are_near = part.is_number && other.is_number && part.attribute == other.attribute;
    are_near.then(|| format!("{} and {}", part.label, other.label))
}
