//! How much each entity is used: in total, and day by day for the last weeks.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Days that are kept apart; the longest window of `trending`.
pub const DAYS_KEPT: usize = 32;
const MS_PER_DAY: i64 = 86_400_000;

/// The day since 1970 of a time (UTC).
pub(crate) fn day_of(time_ms: i64) -> i64 {
    time_ms.div_euclid(MS_PER_DAY)
}

/// Usage by entity index: what was said for an entity less what was said against it.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Activity {
    totals: Vec<f64>,
    counts: Vec<u32>,
    interactions: u64,
    /// Oldest day first, each with a weight by entity index; the last is the latest day seen.
    days: VecDeque<(i64, Vec<f32>)>,
}

impl Activity {
    /// The sum of weights by entity index, below 0 where more was said against an entity than for it; may be shorter
    /// than the catalogue.
    #[must_use]
    pub fn totals(&self) -> &[f64] {
        &self.totals
    }

    /// Choices of the entity: its interactions of positive weight.
    #[must_use]
    pub fn count(&self, entity: u32) -> u32 {
        self.counts.get(entity as usize).copied().unwrap_or(0)
    }

    /// Interactions of all entities, of any weight.
    #[must_use]
    pub fn interactions(&self) -> u64 {
        self.interactions
    }

    /// Adds what trended in the `window_days` up to `now_ms` to `scores`, by entity index. A weight counts half
    /// after each `half_life_days`, in whole days (UTC), so that a list keeps its order from page to page. Below 0 where
    /// more was said against an entity than for it.
    pub fn trending(&self, now_ms: i64, window_days: usize, half_life_days: f64, scores: &mut [f32]) {
        let today = day_of(now_ms);
        for (day, weights) in &self.days {
            let age = today - day;
            if age < 0 || age >= window_days as i64 {
                continue;
            }
            let decay = (-(age as f64) / half_life_days).exp2() as f32;
            for (score, weight) in scores.iter_mut().zip(weights) {
                *score += weight * decay;
            }
        }
    }

    pub(super) fn record(&mut self, entity: u32, weight: f32, time_ms: i64) {
        self.add(entity, weight, day_of(time_ms));
    }

    fn add(&mut self, entity: u32, weight: f32, day: i64) {
        let entity = entity as usize;
        if self.counts.len() <= entity {
            self.counts.resize(entity + 1, 0);
            self.totals.resize(entity + 1, 0.0);
        }
        self.interactions += 1;
        self.counts[entity] += u32::from(weight > 0.0);
        // Sums below 0 are kept: the order in which events come must not change what they add up to.
        if weight != 0.0 {
            self.totals[entity] += f64::from(weight);
            if let Some(weights) = self.day(day) {
                if weights.len() <= entity {
                    weights.resize(entity + 1, 0.0);
                }
                weights[entity] += weight;
            }
        }
    }

    /// Counts anew: by entity, the weight and the day of each interaction in log order. Days that went stay away.
    pub(super) fn count_again(&mut self, by_entity: impl Iterator<Item = impl Iterator<Item = (f32, i64)>>) {
        self.totals.fill(0.0);
        self.counts.fill(0);
        self.days.iter_mut().for_each(|(_, weights)| weights.fill(0.0));
        self.interactions = 0;
        for (entity, interactions) in by_entity.enumerate() {
            for (weight, day) in interactions {
                self.add(entity as u32, weight, day);
            }
        }
    }

    /// The weights of a day; none when it is older than what is kept.
    fn day(&mut self, day: i64) -> Option<&mut Vec<f32>> {
        let latest = self.days.back().map_or(day, |(latest, _)| *latest).max(day);
        while self.days.front().is_some_and(|(oldest, _)| latest - oldest >= DAYS_KEPT as i64) {
            self.days.pop_front();
        }
        if latest - day >= DAYS_KEPT as i64 {
            return None;
        }
        let place = self.days.partition_point(|(earlier, _)| *earlier < day);
        if self.days.get(place).is_none_or(|(found, _)| *found != day) {
            self.days.insert(place, (day, Vec::new()));
        }
        self.days.get_mut(place).map(|(_, weights)| weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recent_use_outweighs_old_use_and_old_days_go() {
        let mut activity = Activity::default();
        let day = |days: i64| days * MS_PER_DAY;
        activity.record(0, 4.0, day(1));
        activity.record(1, 3.0, day(7));
        activity.record(2, -2.0, day(7));
        let mut scores = vec![0.0; 3];
        activity.trending(day(8) - 1, 7, 3.0, &mut scores);
        assert!(scores[1] > scores[0] && scores[0] > 0.0, "{scores:?}");
        assert!(scores[2] < 0.0 && activity.totals()[2] == -2.0, "{scores:?}");
        assert_eq!((activity.count(2), activity.count(1), activity.interactions()), (0, 1, 3));
        activity.record(1, -3.0, day(7));
        assert_eq!(
            (activity.count(1), activity.totals()[1]),
            (1, 0.0),
            "a no undoes a yes of the same weight"
        );
        activity.record(1, 3.0, day(7));
        activity.record(1, 1.0, day(100));
        activity.record(0, 1.0, day(2));
        assert_eq!(activity.days.len(), 1, "a late event does not bring an old day back");
        assert_eq!(activity.totals()[0], 5.0, "the total counts it all the same");
    }
}
