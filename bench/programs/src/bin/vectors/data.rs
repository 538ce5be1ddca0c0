//! Clustered vectors of tenants of very different size, and what is truly nearest among them.

use std::collections::BTreeMap;

use kernel::{Scope, TenantId};
use rand::{Rng, RngExt};
use store::{Collection, Metric, VectorFilter, VectorItem};

/// Each has one hundredth of the vectors.
const TOPICS: usize = 100;
const TENANTS: usize = 20;
const SMALLEST: usize = 50;
const LARGEST_SHARE: f64 = 0.9;
/// How far a vector is from the centre of its topic, beside the centres' own width of 1.
const SPREAD: f32 = 0.7;
const RARE: usize = 100;

/// What a search is narrowed to beside its tenant.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Narrowed {
    Tenant,
    Rare,
    Topic(usize),
}

/// Where vectors lie: each near the centre of its topic, as embeddings do.
#[derive(Debug)]
pub(crate) struct Space {
    dimensions: usize,
    centres: Vec<Vec<f32>>,
}

impl Space {
    pub(crate) fn new(dimensions: usize, random: &mut impl Rng) -> Self {
        let mut centre = || (0..dimensions).map(|_| random.random_range(-1.0..1.0)).collect();
        Self { dimensions, centres: (0..TOPICS).map(|_| centre()).collect() }
    }

    pub(crate) fn collection(&self) -> Collection {
        Collection { name: "items", dimensions: self.dimensions, metric: Metric::Cosine }
    }

    /// A vector and its topic.
    pub(crate) fn vector(&self, random: &mut impl Rng) -> (Vec<f32>, usize) {
        let topic = random.random_range(0..TOPICS);
        let near = |centre: &f32| centre + random.random_range(-SPREAD..SPREAD);
        (self.centres[topic].iter().map(near).collect(), topic)
    }

    /// One that is not `topic`.
    pub(crate) fn other_topic(&self, topic: usize) -> usize {
        (topic + TOPICS / 2) % self.centres.len()
    }

    /// The smallest, the largest, and between them those whose sizes fall like 1, 1/2, 1/3.
    pub(crate) fn tenants(&self, vectors: usize, random: &mut impl Rng) -> Vec<Tenant> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count")]
        let share = |part: f64| (part * vectors as f64) as usize;
        let largest = share(LARGEST_SHARE);
        let others = TENANTS - 2;
        let whole: f64 = (1..=others).map(|place| 1.0 / place as f64).sum();
        let rest = vectors.saturating_sub(largest + SMALLEST) as f64 / vectors as f64;
        let mut sizes = vec![largest];
        sizes.extend((1..=others).map(|place| share(rest / whole / place as f64)));
        sizes.push(SMALLEST);
        sizes.into_iter().enumerate().map(|(place, size)| self.tenant(place, size, random)).collect()
    }

    fn tenant(&self, place: usize, size: usize, random: &mut impl Rng) -> Tenant {
        let id = TenantId::new(format!("tenant-{place:02}")).expect("a lawful name");
        let item = |number: usize| {
            let (vector, topic) = self.vector(random);
            Item { key: number.to_string(), vector, topic, is_rare: number % RARE == 7 }
        };
        Tenant { scope: Scope::system(id, "bench"), items: (0..size).map(item).collect() }
    }
}

/// One vector and what a filter may ask of it.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) key: String,
    pub(crate) vector: Vec<f32>,
    pub(crate) topic: usize,
    pub(crate) is_rare: bool,
}

impl Item {
    pub(crate) fn kind(&self) -> &'static str {
        if self.is_rare { "rare" } else { "common" }
    }

    pub(crate) fn tagged(&self) -> VectorItem {
        let tags = [("kind", self.kind().to_owned()), ("topic", self.topic.to_string())];
        VectorItem {
            key: self.key.clone(),
            vector: self.vector.clone(),
            tags: tags.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        }
    }
}

/// A tenant and all its vectors.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) scope: Scope,
    pub(crate) items: Vec<Item>,
}

impl Tenant {
    /// The keys of the `count` nearest that pass, by the angle.
    pub(crate) fn nearest(&self, query: &[f32], narrowed: Narrowed, count: usize) -> Vec<String> {
        let mut scored: Vec<(f64, &str)> = self
            .items
            .iter()
            .filter(|item| narrowed.passes(item))
            .map(|item| (cosine(query, &item.vector), &*item.key))
            .collect();
        scored.sort_by(|left, right| right.0.total_cmp(&left.0));
        scored.iter().take(count).map(|(_, key)| (*key).to_owned()).collect()
    }
}

impl Narrowed {
    fn passes(self, item: &Item) -> bool {
        match self {
            Self::Tenant => true,
            Self::Rare => item.is_rare,
            Self::Topic(topic) => item.topic == topic,
        }
    }

    /// As the port has it.
    pub(crate) fn filter(self) -> VectorFilter {
        match self {
            Self::Tenant => BTreeMap::new(),
            Self::Rare => BTreeMap::from([("kind".to_owned(), "rare".to_owned())]),
            Self::Topic(topic) => BTreeMap::from([("topic".to_owned(), topic.to_string())]),
        }
    }
}

fn cosine(left: &[f32], right: &[f32]) -> f64 {
    let sum =
        |l: &[f32], r: &[f32]| -> f64 { l.iter().zip(r).map(|(l, r)| f64::from(*l) * f64::from(*r)).sum() };
    sum(left, right) / (sum(left, left) * sum(right, right)).sqrt()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn tenants_are_of_very_different_size_and_the_nearest_pass() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let space = Space::new(64, &mut random);
        let tenants = space.tenants(20_000, &mut random);
        let sizes: Vec<usize> = tenants.iter().map(|tenant| tenant.items.len()).collect();
        assert_eq!((tenants.len(), sizes[0], sizes[TENANTS - 1]), (20, 18_000, 50));
        assert!((19_900..=20_000).contains(&sizes.iter().sum::<usize>()), "{sizes:?}");
        let (query, topic) = space.vector(&mut random);
        let nearest = tenants[0].nearest(&query, Narrowed::Tenant, 5);
        let of_topic = |key: &String| tenants[0].items[key.parse::<usize>().unwrap()].topic == topic;
        assert!(nearest.len() == 5 && nearest.iter().all(of_topic), "{nearest:?}");
        assert_eq!(tenants[19].nearest(&query, Narrowed::Rare, 5), ["7"]);
        let far = Narrowed::Topic(space.other_topic(topic));
        assert!(!tenants[0].nearest(&query, far, 5).iter().any(of_topic));
    }
}
