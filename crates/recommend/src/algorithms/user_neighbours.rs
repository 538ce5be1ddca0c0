//! User-based nearest neighbours: the users who chose most of the same items vote for what else they chose.
//!
//! Resnick, Iacovou, Suchak, Bergstrom, Riedl: "GroupLens: An Open Architecture for Collaborative Filtering of Netnews",
//! CSCW 1994, for choices instead of ratings; rare items count more towards the similarity (Breese, Heckerman, Kadie:
//! "Empirical Analysis of Predictive Algorithms for Collaborative Filtering", UAI 1998, inverse user frequency), and
//! shrinkage is that of Ferrari Dacrema, Cremonesi, Jannach: "Are We Really Making Much Progress?", RecSys 2019.
//!
//! A request costs as much as the items of the history have users, and the model is as large as the interactions: it is for
//! few users. Refuses: interactions that repel; a weight of 0 or below counts as none, in training and in a history.

use super::error::{AlgorithmError, require};
use super::interactions::{History, Interactions, Merge};
use super::topk::top_k_into;
use super::{Recommender, Scratch};
use serde::{Deserialize, Serialize};

/// How to train [`UserNeighbours`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UserNeighboursSettings {
    /// Users who vote.
    pub neighbour_count: usize,
    /// Added to the product of norms, so that similarity from little evidence is small.
    pub shrinkage: f32,
    /// An item that `n` of `users` users chose counts `ln(1 + users / n)^rarity_exponent` towards the similarity.
    pub rarity_exponent: f32,
    /// A vote of a user with `n` items counts `n^-length_exponent`.
    pub length_exponent: f32,
}

impl Default for UserNeighboursSettings {
    fn default() -> Self {
        Self { neighbour_count: 40, shrinkage: 10.0, rarity_exponent: 1.0, length_exponent: 0.5 }
    }
}

impl UserNeighboursSettings {
    /// # Errors
    /// [`AlgorithmError::Setting`] naming the field that is out of range.
    pub fn validate(&self) -> Result<(), AlgorithmError> {
        require(self.neighbour_count > 0, "neighbour_count", "must be positive")?;
        let is_shrinkage = self.shrinkage >= 0.0 && self.shrinkage.is_finite();
        require(is_shrinkage, "shrinkage", "must be finite, 0 or more")?;
        require((0.0..=4.0).contains(&self.rarity_exponent), "rarity_exponent", "must be from 0 to 4")?;
        require((0.0..=1.0).contains(&self.length_exponent), "length_exponent", "must be from 0 to 1")
    }
}

/// A trained model: the interactions, by user and by item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserNeighbours {
    /// What each user votes for, with the weight of the vote.
    votes: Interactions,
    /// Who chose each item, with what the choice counts towards a similarity.
    choosers: Interactions,
    /// The norm of each user.
    norms: Vec<f32>,
    neighbour_count: usize,
    shrinkage: f32,
}

/// A user who votes.
#[derive(Debug, Clone, Copy)]
struct Neighbour {
    user: u32,
    similarity: f32,
}

impl UserNeighbours {
    /// Trains on `interactions`; of repeated entries of a user and item the strongest counts.
    ///
    /// # Errors
    /// Settings out of range.
    pub fn train(
        interactions: &Interactions,
        settings: &UserNeighboursSettings,
    ) -> Result<Self, AlgorithmError> {
        settings.validate()?;
        let chosen = interactions.deduplicated(Merge::Max).positive();
        let users = chosen.user_count() as f32;
        let rarity =
            |frequency: u32| (users / frequency.max(1) as f32).ln_1p().powf(settings.rarity_exponent);
        let rarities: Vec<f32> = chosen.item_frequencies().into_iter().map(rarity).collect();
        let counted =
            chosen.map_weights(|row, entry| row.weights[entry] * rarities[row.items[entry] as usize]);
        let norm = |(chosen, counted): (History<'_>, History<'_>)| {
            chosen.weights.iter().zip(counted.weights).map(|(left, right)| left * right).sum::<f32>().sqrt()
        };
        let norms = chosen.rows().zip(counted.rows()).map(norm).collect();
        let votes = chosen.map_weights(|row, entry| {
            row.weights[entry] * (row.len() as f32).powf(-settings.length_exponent)
        });
        Ok(Self {
            votes,
            choosers: counted.transpose(),
            norms,
            neighbour_count: settings.neighbour_count,
            shrinkage: settings.shrinkage,
        })
    }

    /// Who chose the item, and what of a history's entry counts; nobody where it is unknown or of no weight.
    fn choosers(&self, item: u32, weight: f32) -> History<'_> {
        let is_known = (item as usize) < self.choosers.user_count() && weight > 0.0;
        if is_known { self.choosers.row(item as usize) } else { History::EMPTY }
    }

    /// What a common choice is divided by. An item counts in the history's norm as for one who chose it with weight 1.
    fn divisor(&self, user: u32, norm: f32) -> f32 {
        self.norms[user as usize] * norm + self.shrinkage
    }

    /// The nearest users, the nearest first, and the norm of the history.
    fn nearest(&self, history: History<'_>, scratch: &mut Scratch) -> (Vec<Neighbour>, f32) {
        let mut similarities = scratch.floats(self.votes.user_count());
        let mut squares = 0.0;
        for (&item, &weight) in history.items.iter().zip(history.weights) {
            let choosers = self.choosers(item, weight);
            squares += weight * weight * if choosers.is_empty() { 0.0 } else { 1.0 };
            for (&user, &counted) in choosers.items.iter().zip(choosers.weights) {
                similarities[user as usize] += weight * counted;
            }
        }
        let norm = squares.sqrt();
        for (user, similarity) in similarities.iter_mut().enumerate().filter(|(_, common)| **common > 0.0) {
            *similarity /= self.divisor(user as u32, norm);
        }
        let mut best = Vec::new();
        let is_stranger = |user: u32| similarities[user as usize] <= 0.0;
        top_k_into(&similarities, is_stranger, self.neighbour_count, &mut best);
        let neighbours =
            best.iter().map(|scored| Neighbour { user: scored.item, similarity: scored.score }).collect();
        scratch.give_back(similarities);
        (neighbours, norm)
    }
}

impl Recommender for UserNeighbours {
    fn name(&self) -> &'static str {
        "user_neighbours"
    }

    fn item_count(&self) -> usize {
        self.votes.item_count()
    }

    fn score(&self, history: History<'_>, scratch: &mut Scratch, scores: &mut [f32]) {
        assert_eq!(scores.len(), self.item_count(), "one score per item");
        scores.fill(0.0);
        for Neighbour { user, similarity } in self.nearest(history, scratch).0 {
            let votes = self.votes.row(user as usize);
            for (&item, &vote) in votes.items.iter().zip(votes.weights) {
                scores[item as usize] += similarity * vote;
            }
        }
    }

    fn contributions(&self, history: History<'_>, item: u32) -> Vec<(usize, f32)> {
        self.contributions_to(history, &[item]).pop().unwrap_or_default()
    }

    fn contributions_to(&self, history: History<'_>, items: &[u32]) -> Vec<Vec<(usize, f32)>> {
        let (neighbours, norm) = self.nearest(history, &mut Scratch::default());
        let vote = |user: u32, item: u32| {
            let votes = self.votes.row(user as usize);
            votes.items.iter().position(|&voted| voted == item).map(|place| votes.weights[place])
        };
        let of = |&item: &u32| {
            let voters: Vec<(u32, f32)> = neighbours
                .iter()
                .filter_map(|neighbour| {
                    let vote = vote(neighbour.user, item)?;
                    Some((neighbour.user, vote / self.divisor(neighbour.user, norm)))
                })
                .collect();
            let entries = history.items.iter().zip(history.weights).enumerate();
            entries
                .filter_map(|(index, (&chosen, &weight))| {
                    let choosers = self.choosers(chosen, weight);
                    let share = |&(user, vote): &(u32, f32)| {
                        let place = choosers.items.binary_search(&user).ok()?;
                        Some(weight * choosers.weights[place] * vote)
                    };
                    let sum: f32 = voters.iter().filter_map(share).sum();
                    (sum != 0.0).then_some((index, sum))
                })
                .collect()
        };
        items.iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithms::testing::{check_contributions, random_sets, scores_of, weighted_sets};
    use proptest::prelude::*;

    /// The scores straight from the definitions, over dense rows.
    fn oracle(
        interactions: &Interactions,
        settings: &UserNeighboursSettings,
        history: History<'_>,
    ) -> Vec<f32> {
        let weight = |row: &History<'_>, item: u32| {
            let of_item = row.items.iter().zip(row.weights).filter(|(other, _)| **other == item);
            of_item.map(|(_, weight)| *weight).fold(0.0, f32::max)
        };
        let rows: Vec<_> = interactions.rows().collect();
        let items = 0..interactions.item_count() as u32;
        let rarity = |item: u32| {
            let frequency = rows.iter().filter(|row| weight(row, item) > 0.0).count().max(1) as f32;
            (1.0 + rows.len() as f32 / frequency).ln().powf(settings.rarity_exponent)
        };
        let similarity = |row: &History<'_>| {
            let common: f32 =
                items.clone().map(|item| weight(&history, item) * weight(row, item) * rarity(item)).sum();
            let norm: f32 =
                items.clone().map(|item| weight(row, item).powi(2) * rarity(item)).sum::<f32>().sqrt();
            let used = |item: &u32| rows.iter().any(|row| weight(row, *item) > 0.0);
            let own =
                items.clone().filter(used).map(|item| weight(&history, item).powi(2)).sum::<f32>().sqrt();
            if common > 0.0 { common / (norm * own + settings.shrinkage) } else { 0.0 }
        };
        let mut order: Vec<(f32, usize)> =
            rows.iter().map(similarity).enumerate().map(|(user, value)| (value, user)).collect();
        order.sort_by(|left, right| right.0.total_cmp(&left.0).then(left.1.cmp(&right.1)));
        let mut scores = vec![0.0; interactions.item_count()];
        for &(similarity, user) in order.iter().take(settings.neighbour_count) {
            let length = items.clone().filter(|item| weight(&rows[user], *item) > 0.0).count() as f32;
            for item in items.clone() {
                let vote = weight(&rows[user], item) * length.max(1.0).powf(-settings.length_exponent);
                scores[item as usize] += similarity * vote;
            }
        }
        scores
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn agrees_with_the_definitions(
            interactions in weighted_sets(),
            shrinkage in 0.0_f32..3.0,
            rarity_exponent in 0.0_f32..2.0,
        ) {
            // All users vote: which of two equally near ones is left out depends on rounding.
            let settings = UserNeighboursSettings {
                neighbour_count: 99, shrinkage, rarity_exponent, ..UserNeighboursSettings::default()
            };
            let model = UserNeighbours::train(&interactions, &settings).unwrap();
            for history in interactions.rows() {
                let expected = oracle(&interactions, &settings, history);
                for (score, expected) in scores_of(&model, history).into_iter().zip(expected) {
                    prop_assert!((score - expected).abs() < 1e-4 * expected.abs().max(1.0));
                }
            }
            check_contributions(&model, interactions.row(0), 1e-4);
        }
    }

    #[test]
    fn the_nearest_alone_vote() {
        let rows = [vec![0, 1, 2, 5], vec![0, 1, 3], vec![2, 4]];
        let interactions = Interactions::from_rows(&rows, 6).unwrap();
        let settings = UserNeighboursSettings { neighbour_count: 1, ..UserNeighboursSettings::default() };
        let model = UserNeighbours::train(&interactions, &settings).unwrap();
        let history = History { items: &[0, 1], weights: &[1.0; 2], times: &[] };
        let scores = scores_of(&model, history);
        assert!(scores[3] > 0.0, "{scores:?}");
        assert_eq!((scores[5], scores[4]), (0.0, 0.0));
        check_contributions(&model, history, 1e-5);
    }

    #[test]
    fn what_repels_counts_as_nothing() {
        let interactions = Interactions::from_rows(&[[0, 1], [1, 2]], 3).unwrap();
        let model = UserNeighbours::train(&interactions, &UserNeighboursSettings::default()).unwrap();
        let history = History { items: &[0], weights: &[-1.0], times: &[] };
        assert!(scores_of(&model, history).iter().all(|&score| score == 0.0));
        assert!(model.contributions(history, 1).is_empty());
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let sets = random_sets(1, 5, 5, 0.5);
        let defaults = UserNeighboursSettings::default;
        let cases = [
            UserNeighboursSettings { neighbour_count: 0, ..defaults() },
            UserNeighboursSettings { shrinkage: f32::NAN, ..defaults() },
            UserNeighboursSettings { rarity_exponent: -1.0, ..defaults() },
            UserNeighboursSettings { length_exponent: 1.5, ..defaults() },
        ];
        for settings in cases {
            assert!(matches!(UserNeighbours::train(&sets, &settings), Err(AlgorithmError::Setting { .. })));
        }
    }

    #[test]
    fn tiny_and_empty_data_train() {
        for rows in [vec![], vec![vec![]], vec![vec![0]]] {
            let interactions = Interactions::from_rows(&rows, rows.len()).unwrap();
            let model = UserNeighbours::train(&interactions, &UserNeighboursSettings::default()).unwrap();
            check_contributions(&model, History::EMPTY, 0.0);
        }
    }
}
