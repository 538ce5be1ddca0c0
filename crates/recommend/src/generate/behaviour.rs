//! What users do: sessions of visits, each a view that may lead to a like, a cart, a purchase and a rating.

use kernel::{Error, Result, Timestamp, codes};
use rustc_hash::FxHashSet;

use super::GeneratorSettings;
use super::catalogue::{ACCESSORIES, Catalogue};
use super::sampling::{PowerLaw, Random, SEGMENT, USER_BEHAVIOUR, hash};

const SECONDS_PER_DAY: i64 = 86_400;
/// The categories of a segment.
const SEGMENT_CATEGORIES: usize = 8;
/// After an entity whose series goes on.
pub(super) const SEQUEL_SHARE: f64 = 0.45;
/// After a purchase.
pub(super) const ACCESSORY_SHARE: f64 = 0.4;
/// Of the rest, visits to what everybody visits.
pub(super) const CROWD_SHARE: f64 = 0.15;
/// Of the rest, visits in the user's main segment, and in the other.
pub(super) const MAIN_SHARE: f64 = 0.8;

/// What happened, as an index into [`super::INTERACTION_TYPES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    View = 0,
    Like = 1,
    Cart = 2,
    Purchase = 3,
    Rating = 4,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Event {
    pub(super) entity: u32,
    pub(super) kind: Kind,
    pub(super) rating: Option<f64>,
    pub(super) unix_seconds: i64,
}

#[derive(Debug)]
pub(super) struct Behaviour {
    seed: u64,
    start_seconds: i64,
    span_seconds: i64,
    segments: Vec<Vec<u32>>,
    by_interest: PowerLaw,
}

/// One user at work.
#[derive(Debug)]
pub(super) struct Visitor {
    random: Random,
    segments: [usize; 2],
    /// Where in their segments this user's interest is highest.
    focus: usize,
    seen: FxHashSet<u32>,
    last: Option<(u32, bool)>,
    joined_seconds: i64,
}

impl Visitor {
    pub(super) fn segment(&self) -> usize {
        self.segments[0]
    }

    #[cfg(test)]
    pub(super) fn segments(&self) -> ([usize; 2], usize) {
        (self.segments, self.focus)
    }
}

impl Behaviour {
    pub(super) fn new(settings: &GeneratorSettings, catalogue: &Catalogue, now: Timestamp) -> Result<Self> {
        let span_seconds = i64::from(settings.days) * SECONDS_PER_DAY;
        let start_seconds = now.as_second().saturating_sub(span_seconds);
        if Timestamp::from_second(start_seconds).is_err() {
            let message = "the days reach back before the beginning of time";
            return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("days"));
        }
        let categories = catalogue.categories();
        let per_segment = SEGMENT_CATEGORIES.min(categories.div_ceil(2));
        let count = (categories / 3).clamp(2, 64);
        let segments: Vec<Vec<u32>> = (0..count)
            .map(|segment| {
                let mut random = Random::of(settings.seed, SEGMENT, segment as u64);
                (0..per_segment).map(|_| random.below(categories) as u32).collect()
            })
            .collect();
        Ok(Self {
            seed: settings.seed,
            start_seconds,
            span_seconds,
            segments,
            by_interest: PowerLaw::new(per_segment),
        })
    }

    /// How much a user does, relative to others: most do little, a few do much.
    pub(super) fn activity(&self, user: u32) -> f64 {
        let uniform = (hash(self.seed ^ 0xac71, u64::from(user)) >> 11) as f64 / (1_u64 << 53) as f64;
        // From 0.4 to about 12 times that.
        0.4 / libm::pow(1.0 - 0.92 * uniform, 0.95)
    }

    pub(super) fn visitor(&self, user: u32) -> Visitor {
        let mut random = Random::of(self.seed, USER_BEHAVIOUR, u64::from(user));
        let segments = [random.below(self.segments.len()), random.below(self.segments.len())];
        let focus = random.below(SEGMENT_CATEGORIES);
        // Most were there before the first day; the others join as time goes by.
        let joined = if random.chance(0.6) { 0.0 } else { 0.9 * random.unit() };
        Visitor {
            segments,
            focus,
            seen: FxHashSet::default(),
            last: None,
            joined_seconds: self.start_seconds + (self.span_seconds as f64 * joined) as i64,
            random,
        }
    }

    /// Hands `count` events to `each`, in the order of time.
    pub(super) fn walk(
        &self,
        visitor: &mut Visitor,
        catalogue: &Catalogue,
        count: u64,
        mut each: impl FnMut(Event),
    ) {
        let end_seconds = self.start_seconds + self.span_seconds;
        let span = (end_seconds - visitor.joined_seconds) as f64;
        let mut seconds = visitor.joined_seconds;
        let (mut done, mut session_ends) = (0, 0);
        while done < count {
            if done >= session_ends {
                session_ends = done + 2 + visitor.random.below(8) as u64;
                let share = (done as f64 + visitor.random.unit()) / count as f64;
                seconds = seconds.max(visitor.joined_seconds + (span * share) as i64);
            }
            let elapsed = (seconds - self.start_seconds) as f64 / self.span_seconds as f64;
            let entity = self.choose(visitor, catalogue, elapsed.min(1.0));
            for (kind, rating) in self.funnel(visitor, catalogue, entity).into_iter().flatten() {
                if done == count {
                    break;
                }
                done += 1;
                seconds = (seconds + 5 + visitor.random.below(120) as i64).min(end_seconds);
                each(Event { entity, kind, rating, unix_seconds: seconds });
            }
        }
    }

    fn choose(&self, visitor: &mut Visitor, catalogue: &Catalogue, elapsed: f64) -> u32 {
        if let Some((last, was_purchased)) = visitor.last {
            if let Some(sequel) = catalogue.sequel(last)
                && visitor.random.chance(SEQUEL_SHARE)
                && !visitor.seen.contains(&sequel)
            {
                return sequel;
            }
            if was_purchased && visitor.random.chance(ACCESSORY_SHARE) {
                let choice = visitor.random.below(ACCESSORIES);
                let accessory = catalogue.accessory(last, choice);
                if !visitor.seen.contains(&accessory) {
                    return accessory;
                }
            }
        }
        // A few tries for something new; whoever has seen all of it sees some of it again.
        for _ in 0..8 {
            let category = self.category(visitor, catalogue);
            let entity = catalogue.draw(category, elapsed, &mut visitor.random);
            if !visitor.seen.contains(&entity) {
                return entity;
            }
        }
        let category = self.category(visitor, catalogue);
        catalogue.draw(category, elapsed, &mut visitor.random)
    }

    fn category(&self, visitor: &mut Visitor, catalogue: &Catalogue) -> usize {
        if visitor.random.chance(CROWD_SHARE) {
            // The first categories are the largest, and the crowd knows them.
            return visitor.random.below(catalogue.categories().min(6));
        }
        let segment = visitor.segments[usize::from(!visitor.random.chance(MAIN_SHARE))];
        let interest = self.by_interest.rank(&mut visitor.random);
        self.category_at(segment, visitor.focus, interest)
    }

    fn category_at(&self, segment: usize, focus: usize, interest: usize) -> usize {
        let categories = &self.segments[segment];
        categories[(focus + interest) % categories.len()] as usize
    }

    /// The probability of each category for a user, where neither series nor accessories decide.
    #[cfg(test)]
    pub(super) fn category_probabilities(&self, visitor: &Visitor, catalogue: &Catalogue) -> Vec<f64> {
        let mut probabilities = vec![0.0; catalogue.categories()];
        let crowd = catalogue.categories().min(6);
        probabilities[..crowd].iter_mut().for_each(|probability| *probability += CROWD_SHARE / crowd as f64);
        let (segments, focus) = visitor.segments();
        for (segment, share) in segments.into_iter().zip([MAIN_SHARE, 1.0 - MAIN_SHARE]) {
            for interest in 0..self.segments[segment].len() {
                let category = self.category_at(segment, focus, interest);
                probabilities[category] +=
                    (1.0 - CROWD_SHARE) * share * self.by_interest.probability(interest);
            }
        }
        probabilities
    }

    fn funnel(
        &self,
        visitor: &mut Visitor,
        catalogue: &Catalogue,
        entity: u32,
    ) -> [Option<(Kind, Option<f64>)>; 5] {
        visitor.seen.insert(entity);
        let quality = catalogue.quality(entity);
        let category = catalogue.category_of(entity) as u32;
        let is_to_taste = self.segments[visitor.segments[0]].contains(&category);
        let random = &mut visitor.random;
        let likes = random.chance(0.12 + 0.08 * quality);
        let takes = random.chance(if is_to_taste { 0.25 } else { 0.1 });
        let buys = takes && random.chance(0.6);
        let rates = buys && random.chance(0.4);
        let stars = 3.2 + 0.5 * f64::from(u8::from(is_to_taste)) + quality + 0.7 * random.normal();
        visitor.last = Some((entity, buys));
        [
            Some((Kind::View, None)),
            likes.then_some((Kind::Like, None)),
            takes.then_some((Kind::Cart, None)),
            buys.then_some((Kind::Purchase, None)),
            rates.then_some((Kind::Rating, Some((stars * 2.0).round().clamp(1.0, 10.0) / 2.0))),
        ]
    }
}
