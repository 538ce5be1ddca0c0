//! What the shop has: categories one after another, in each of them series of entities, and which category is
//! the accessory of which.

use super::GeneratorSettings;
use super::sampling::{CATEGORY, ENTITY, PowerLaw, Random, hash};
use super::words::{ADJECTIVES, MODIFIERS, NOUNS, TAGS, coined};
use crate::attributes::{AttributeValue, Attributes};

/// Of the entities, the share that is released within the time that is generated.
const RELEASED_SHARE: f64 = 0.25;
/// How many accessories an entity has.
pub(super) const ACCESSORIES: usize = 3;

#[derive(Debug)]
struct Category {
    first: u32,
    count: u32,
    /// Where entities stand among the ranks: a step through them that is coprime to their number.
    step: u32,
    /// Leads back from an entity to its place.
    inverse: u32,
    ranks: PowerLaw,
    /// The category of its accessories.
    accessories: u32,
}

#[derive(Debug)]
pub(super) struct Catalogue {
    seed: u64,
    year: i16,
    categories: Vec<Category>,
}

impl Catalogue {
    pub(super) fn new(settings: &GeneratorSettings, year: i16) -> Self {
        let count = settings.categories;
        let weight = |category: u32| 1.0 / f64::from(category + 1).sqrt();
        let total: f64 = (0..count).map(weight).sum();
        // One entity each, the rest by weight.
        let spare = f64::from(settings.entities - count);
        let mut cumulative = 0.0;
        let mut first = 0;
        let categories = (0..count).map(|category| {
            cumulative += weight(category);
            let is_last = category + 1 == count;
            let end =
                if is_last { settings.entities } else { category + 1 + (spare * cumulative / total) as u32 };
            let size = end - first;
            let mut random = Random::of(settings.seed, CATEGORY, u64::from(category));
            let made = Category {
                first,
                count: size,
                step: coprime_step(size),
                inverse: inverse(coprime_step(size), size),
                ranks: PowerLaw::new(size as usize),
                accessories: random.below(count as usize) as u32,
            };
            first = end;
            made
        });
        Self { seed: settings.seed, year, categories: categories.collect() }
    }

    pub(super) fn categories(&self) -> usize {
        self.categories.len()
    }

    pub(super) fn category_of(&self, entity: u32) -> usize {
        self.categories.partition_point(|category| category.first <= entity).saturating_sub(1)
    }

    /// An entity of a category as people take them at a time, `elapsed` from 0 to 1.
    pub(super) fn draw(&self, category: usize, elapsed: f64, random: &mut Random) -> u32 {
        let rank = self.categories[category].ranks.rank(random);
        self.at_rank(category, rank, elapsed)
    }

    fn at_rank(&self, category: usize, rank: usize, elapsed: f64) -> u32 {
        let category = &self.categories[category];
        // New releases come in at rank 0 and push the others down.
        let released = (f64::from(category.count) * RELEASED_SHARE * elapsed) as u32;
        let place = (rank as u32 + category.count - released) % category.count;
        let at = (u64::from(place) * u64::from(category.step) % u64::from(category.count)) as u32;
        category.first + at
    }

    /// The probability that [`Catalogue::draw`] gives each entity of a category.
    #[cfg(test)]
    pub(super) fn probabilities(&self, category: usize, elapsed: f64) -> Vec<(u32, f64)> {
        let ranks = 0..self.categories[category].count as usize;
        ranks
            .map(|rank| {
                (self.at_rank(category, rank, elapsed), self.categories[category].ranks.probability(rank))
            })
            .collect()
    }

    /// The next part of the series of an entity.
    pub(super) fn sequel(&self, entity: u32) -> Option<u32> {
        let category = &self.categories[self.category_of(entity)];
        let next = entity + 1;
        (next < category.first + category.count && self.is_sequel(next)).then_some(next)
    }

    fn is_sequel(&self, entity: u32) -> bool {
        hash(self.seed, u64::from(entity)) % 5 < 2
    }

    /// One of the accessories of an entity.
    pub(super) fn accessory(&self, entity: u32, choice: usize) -> u32 {
        let category = &self.categories[self.category_of(entity)];
        let accessories = &self.categories[category.accessories as usize];
        let at = hash(self.seed ^ 0xacce, u64::from(entity)) % u64::from(accessories.count);
        accessories.first + ((at + choice as u64) % u64::from(accessories.count)) as u32
    }

    /// How good it is, from -1 to 1.
    pub(super) fn quality(&self, entity: u32) -> f64 {
        (hash(self.seed ^ 0x900d, u64::from(entity)) % 2_001) as f64 / 1_000.0 - 1.0
    }

    /// `Vintage Camera`; few categories have no first word.
    pub(super) fn category_name(&self, category: usize) -> String {
        let noun = NOUNS[category % NOUNS.len()];
        let (round, modifier) = (category / NOUNS.len() / (MODIFIERS.len() + 1), category / NOUNS.len());
        let name = match modifier % (MODIFIERS.len() + 1) {
            0 => noun.to_owned(),
            modifier => format!("{} {noun}", MODIFIERS[modifier - 1]),
        };
        if round == 0 { name } else { format!("{name} {}", round + 1) }
    }

    pub(super) fn attributes(&self, entity: u32) -> Attributes {
        let index = self.category_of(entity);
        let category = &self.categories[index];
        let name = self.category_name(index);
        let mut random = Random::of(self.seed, ENTITY, u64::from(entity));
        let part = (category.first..=entity)
            .rev()
            .take_while(|&part| part > category.first && self.is_sequel(part))
            .count();
        let series = coined(hash(self.seed ^ 0x5e41, u64::from(entity) - part as u64));
        let brand = coined(hash(self.seed ^ 0xb4a2d, (index * 5 + random.below(5)) as u64));
        let adjective = ADJECTIVES[(hash(self.seed ^ 0xad1, u64::from(entity) - part as u64) % 16) as usize];
        let number = if part > 0 { format!(" {}", part + 1) } else { String::new() };
        // A category has six tags of its own choice, an entity two to four of them.
        let mut tags: Vec<String> = (0..2 + random.below(3))
            .map(|_| {
                TAGS[(hash(self.seed ^ 0x7a65, (index * 6 + random.below(6)) as u64) % 24) as usize]
                    .to_owned()
            })
            .collect();
        tags.sort();
        tags.dedup();
        let price = libm::exp(2.0 + 0.5 * (index % 7) as f64 + 0.4 * random.normal());
        let text = |text: String| AttributeValue::Text(text);
        Attributes::from([
            ("brand".to_owned(), text(brand)),
            ("category".to_owned(), text(name.clone())),
            ("in_stock".to_owned(), AttributeValue::Boolean(random.chance(0.95))),
            ("price".to_owned(), AttributeValue::Number((price * 100.0).round() / 100.0)),
            ("series".to_owned(), text(series.clone())),
            ("tags".to_owned(), AttributeValue::Tags(tags)),
            ("title".to_owned(), text(format!("{adjective} {name} {series}{number}"))),
            (
                "year".to_owned(),
                AttributeValue::Number(f64::from(self.release_year(category, entity, &mut random))),
            ),
        ])
    }

    fn release_year(&self, category: &Category, entity: u32, random: &mut Random) -> i16 {
        let released = (f64::from(category.count) * RELEASED_SHARE) as u32;
        let at = u64::from(entity - category.first);
        let place = at * u64::from(category.inverse) % u64::from(category.count);
        let is_new = place >= u64::from(category.count - released);
        if is_new { self.year } else { self.year.saturating_sub(1 + random.below(20) as i16) }
    }
}

/// A step near the golden section, so that neighbours in the catalogue are far apart in rank.
fn coprime_step(count: u32) -> u32 {
    let start = ((f64::from(count) * 0.618) as u32).max(1);
    (start..).find(|step| greatest_common_divisor(*step, count) == 1).unwrap_or(1)
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// The number that `step` times is 1, modulo `count`; the two are coprime.
fn inverse(step: u32, count: u32) -> u32 {
    let (mut remainders, mut factors) = ((i64::from(count), i64::from(step % count)), (0_i64, 1_i64));
    while remainders.1 > 1 {
        let quotient = remainders.0 / remainders.1;
        remainders = (remainders.1, remainders.0 % remainders.1);
        factors = (factors.1, factors.0 - quotient * factors.1);
    }
    u32::try_from(factors.1.rem_euclid(i64::from(count))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_have_inverses() {
        for count in 1..2_000_u64 {
            let step = coprime_step(count as u32);
            assert_eq!(
                u64::from(step) * u64::from(inverse(step, count as u32)) % count,
                1 % count,
                "{count}"
            );
        }
    }
}
