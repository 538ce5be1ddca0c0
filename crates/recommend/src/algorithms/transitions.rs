//! Item transitions: what users did soon after an item, with a weight that fades by position and by time.
//!
//! A first-order Markov chain (Rendle, Freudenthaler, Schmidt-Thieme: "Factorizing Personalized Markov Chains for
//! Next-Basket Recommendation", WWW 2010) counted over a window, as in the sequential rules of Ludewig, Jannach:
//! "Evaluation of Session-based Recommendation Algorithms", UMUAI 2018. A pair that is `gap` positions apart counts
//! `gap^-gap_exponent`, halved for every `half_life_ms` between its times; pairs against the order count
//! `backward_weight` of that. The score of an item is the sum over the last items of the history of their
//! transitions, each item counting by how far back it is in the same manner.
//!
//! Refuses: negative weights, which are skipped. Repeats are transitions like any other.

use super::error::{AlgorithmError, require};
use super::interactions::{History, Interactions};
use super::item_weights::{ItemWeights, strongest_of};
use super::{Recommender, Scratch};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// How to train and apply [`Transitions`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TransitionsSettings {
    /// Positions between two items up to which they count as a transition.
    pub window: usize,
    /// A transition over `gap` positions counts `gap^-gap_exponent`.
    pub gap_exponent: f32,
    /// Time between two items that halves their transition; `None` to count positions only.
    pub half_life_ms: Option<f64>,
    /// Weight of a transition against the order of time, from 0 to 1.
    pub backward_weight: f32,
    /// Rows are divided by their sum to this power: 0 for counts, 1 for probabilities.
    pub source_exponent: f32,
    /// Columns are divided by their sum to this power: 0 for counts, 1 to remove popularity.
    pub target_exponent: f32,
    /// Items of the history that count, from the last.
    pub history_length: usize,
    /// The item `age` positions from the end counts `age^-age_exponent`; the last has age 1.
    pub age_exponent: f32,
    /// Transitions kept per item.
    pub row_length: usize,
}

impl Default for TransitionsSettings {
    fn default() -> Self {
        Self {
            window: 15,
            gap_exponent: 0.85,
            half_life_ms: None,
            backward_weight: 0.1,
            source_exponent: 0.8,
            target_exponent: 0.25,
            history_length: 40,
            age_exponent: 1.1,
            row_length: 500,
        }
    }
}

impl TransitionsSettings {
    /// # Errors
    /// [`AlgorithmError::Setting`] naming the field that is out of range.
    pub fn validate(&self) -> Result<(), AlgorithmError> {
        require(self.window > 0, "window", "must be positive")?;
        require(self.history_length > 0, "history_length", "must be positive")?;
        require(self.row_length > 0, "row_length", "must be positive")?;
        let half_life = self.half_life_ms.unwrap_or(1.0);
        require(half_life > 0.0 && half_life.is_finite(), "half_life_ms", "must be positive and finite")?;
        require((0.0..=1.0).contains(&self.backward_weight), "backward_weight", "must be from 0 to 1")?;
        let exponents = [
            (self.gap_exponent, "gap_exponent"),
            (self.source_exponent, "source_exponent"),
            (self.target_exponent, "target_exponent"),
            (self.age_exponent, "age_exponent"),
        ];
        for (exponent, name) in exponents {
            require((0.0..=8.0).contains(&exponent), name, "must be from 0 to 8")?;
        }
        Ok(())
    }

    /// What is left of a transition over this time.
    fn fade(&self, from_ms: Option<&i64>, to_ms: Option<&i64>) -> f32 {
        match (self.half_life_ms, from_ms, to_ms) {
            (Some(half_life_ms), Some(from_ms), Some(to_ms)) => {
                (-(to_ms.saturating_sub(*from_ms) as f64) / half_life_ms).exp2() as f32
            }
            _ => 1.0,
        }
    }
}

/// A trained model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transitions {
    /// How it was trained, and how histories are weighed.
    pub settings: TransitionsSettings,
    /// Transition weights: row = item in the history, column = item that follows.
    pub weights: ItemWeights,
}

impl Transitions {
    /// Counts the transitions of `interactions`.
    ///
    /// # Errors
    /// Settings out of range.
    pub fn train(
        interactions: &Interactions,
        settings: &TransitionsSettings,
    ) -> Result<Self, AlgorithmError> {
        settings.validate()?;
        let counter = Counter::new(interactions, settings);
        let item_count = interactions.item_count();
        let column_factors = if settings.target_exponent > 0.0 {
            powers(&column_sums(&counter, item_count), settings.target_exponent)
        } else {
            vec![1.0; item_count]
        };
        let rows = (0..item_count as u32)
            .into_par_iter()
            .map_init(
                || Accumulator::new(item_count),
                |accumulator, item| {
                    counter.count(item, accumulator);
                    let row_factor = powers(&[accumulator.total], settings.source_exponent)[0];
                    let entries = accumulator.drain();
                    let scaled = entries
                        .map(|(other, sum)| (other, sum * row_factor * column_factors[other as usize]));
                    strongest_of(scaled, settings.row_length)
                },
            )
            .collect();
        Ok(Self { settings: settings.clone(), weights: ItemWeights::from_rows(rows) })
    }

    /// The entries of the history that count, with their strength.
    fn strengths<'a>(&'a self, history: History<'a>) -> impl Iterator<Item = (usize, u32, f32)> + 'a {
        let len = history.len();
        let now_ms = history.times.last();
        (len.saturating_sub(self.settings.history_length)..len).map(move |index| {
            let age = (len - index) as f32;
            let fade = self.settings.fade(history.times.get(index), now_ms);
            let strength = history.weights[index].max(0.0) * fade * age.powf(-self.settings.age_exponent);
            (index, history.items[index], strength)
        })
    }
}

/// `sum^-exponent`, and 0 for a sum of 0.
fn powers(sums: &[f32], exponent: f32) -> Vec<f32> {
    sums.iter().map(|&sum| if sum > 0.0 { sum.powf(-exponent) } else { 0.0 }).collect()
}

/// The sum of each column: what reaches an item from all others. Counting backwards from the item gives it without
/// the whole matrix.
fn column_sums(counter: &Counter<'_>, item_count: usize) -> Vec<f32> {
    (0..item_count as u32)
        .into_par_iter()
        .map(|item| {
            let occurrences = counter.occurrences(item).iter();
            occurrences
                .map(|&entry| counter.pairs_into(entry as usize).map(|(_, weight)| weight).sum::<f32>())
                .sum()
        })
        .collect()
}

/// Sums per item, of which few are touched at a time.
struct Accumulator {
    sums: Vec<f32>,
    touched: Vec<u32>,
    total: f32,
}

impl Accumulator {
    fn new(item_count: usize) -> Self {
        Self { sums: vec![0.0; item_count], touched: Vec::new(), total: 0.0 }
    }

    fn add(&mut self, item: u32, weight: f32) {
        let sum = &mut self.sums[item as usize];
        if *sum == 0.0 {
            self.touched.push(item);
        }
        *sum += weight;
        self.total += weight;
    }

    /// Takes the sums and leaves zeros.
    fn drain(&mut self) -> impl Iterator<Item = (u32, f32)> {
        self.total = 0.0;
        self.touched.drain(..).map(|item| (item, std::mem::take(&mut self.sums[item as usize])))
    }
}

/// The interactions with the places where each item occurs.
struct Counter<'a> {
    interactions: &'a Interactions,
    settings: &'a TransitionsSettings,
    /// `gap^-gap_exponent` at index `gap`; index 0 is not used.
    gap_factors: Vec<f32>,
    user_of_entry: Vec<u32>,
    occurrence_offsets: Vec<usize>,
    occurrences: Vec<u32>,
}

impl<'a> Counter<'a> {
    fn new(interactions: &'a Interactions, settings: &'a TransitionsSettings) -> Self {
        let longest = interactions.rows().map(|row| row.len()).max().unwrap_or(0);
        let gaps = 0..settings.window.min(longest) + 1;
        let gap_factors = gaps.map(|gap| (gap.max(1) as f32).powf(-settings.gap_exponent)).collect();
        let mut user_of_entry = Vec::with_capacity(interactions.len());
        for (user, row) in interactions.rows().enumerate() {
            user_of_entry.extend(std::iter::repeat_n(user as u32, row.len()));
        }
        let mut occurrence_offsets = vec![0; interactions.item_count() + 1];
        for &item in interactions.items() {
            occurrence_offsets[item as usize + 1] += 1;
        }
        for item in 0..interactions.item_count() {
            occurrence_offsets[item + 1] += occurrence_offsets[item];
        }
        let mut next = occurrence_offsets.clone();
        let mut occurrences = vec![0_u32; interactions.len()];
        for (entry, &item) in interactions.items().iter().enumerate() {
            occurrences[next[item as usize]] = entry as u32;
            next[item as usize] += 1;
        }
        Self { interactions, settings, gap_factors, user_of_entry, occurrence_offsets, occurrences }
    }

    /// The entries that are `item`.
    fn occurrences(&self, item: u32) -> &[u32] {
        let item = item as usize;
        &self.occurrences[self.occurrence_offsets[item]..self.occurrence_offsets[item + 1]]
    }

    /// Adds all transitions from `item`.
    fn count(&self, item: u32, accumulator: &mut Accumulator) {
        for &entry in self.occurrences(item) {
            for (other, weight) in self.pairs(entry as usize, 1.0, self.settings.backward_weight) {
                accumulator.add(other, weight);
            }
        }
    }

    /// The transitions that end at an entry.
    fn pairs_into(&self, entry: usize) -> impl Iterator<Item = (u32, f32)> {
        self.pairs(entry, self.settings.backward_weight, 1.0)
    }

    /// The entries near `entry` and what each pair counts, times `later` for those after and `earlier` for before.
    fn pairs(&self, entry: usize, later: f32, earlier: f32) -> impl Iterator<Item = (u32, f32)> {
        let offsets = self.interactions.user_offsets();
        let user = self.user_of_entry[entry] as usize;
        let (start, end) = (offsets[user], offsets[user + 1]);
        let reach = self.gap_factors.len() - 1;
        let row = self.interactions.row(user);
        let own = row.weights[entry - start];
        let pair = move |other: usize, direction: f32| {
            let (near, far) = (entry.min(other) - start, entry.max(other) - start);
            let fade = self.settings.fade(row.times.get(near), row.times.get(far));
            let strength = own.max(0.0) * row.weights[other - start].max(0.0);
            (row.items[other - start], direction * strength * fade * self.gap_factors[far - near])
        };
        let after = entry + 1..end.min(entry + 1 + if later > 0.0 { reach } else { 0 });
        let before = start.max(entry.saturating_sub(if earlier > 0.0 { reach } else { 0 }))..entry;
        after.map(move |other| pair(other, later)).chain(before.map(move |other| pair(other, earlier)))
    }
}

impl Recommender for Transitions {
    fn name(&self) -> &'static str {
        "transitions"
    }

    fn item_count(&self) -> usize {
        self.weights.item_count()
    }

    fn score(&self, history: History<'_>, _scratch: &mut Scratch, scores: &mut [f32]) {
        scores.fill(0.0);
        let rows = self.strengths(history).map(|(_, item, strength)| (item, strength));
        self.weights.add_rows(rows, scores);
    }

    fn contributions(&self, history: History<'_>, item: u32) -> Vec<(usize, f32)> {
        self.strengths(history)
            .map(|(index, from, strength)| (index, strength * self.weights.weight(from, item)))
            .filter(|&(_, contribution)| contribution != 0.0)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithms::testing::{check_contributions, check_threads_agree, scores_of};
    use proptest::prelude::*;

    /// The matrix straight from its definition.
    fn oracle(interactions: &Interactions, settings: &TransitionsSettings) -> Vec<f64> {
        let count = interactions.item_count();
        let mut matrix = vec![0.0_f64; count * count];
        for row in interactions.rows() {
            for from in 0..row.len() {
                for to in from + 1..row.len().min(from + 1 + settings.window) {
                    let mut weight = ((to - from) as f64).powf(-f64::from(settings.gap_exponent));
                    weight *= f64::from(row.weights[from] * row.weights[to]);
                    if let Some(half_life_ms) = settings.half_life_ms {
                        weight *= (-((row.times[to] - row.times[from]) as f64) / half_life_ms).exp2();
                    }
                    let (from, to) = (row.items[from] as usize, row.items[to] as usize);
                    matrix[from * count + to] += weight;
                    matrix[to * count + from] += weight * f64::from(settings.backward_weight);
                }
            }
        }
        let row_sums: Vec<f64> = matrix.chunks(count.max(1)).map(|row| row.iter().sum()).collect();
        let column_sums: Vec<f64> =
            (0..count).map(|column| (0..count).map(|row| matrix[row * count + column]).sum()).collect();
        for (entry, weight) in matrix.iter_mut().enumerate().filter(|(_, weight)| **weight > 0.0) {
            *weight /= row_sums[entry / count].powf(f64::from(settings.source_exponent));
            *weight /= column_sums[entry % count].powf(f64::from(settings.target_exponent));
        }
        matrix
    }

    fn sequences() -> impl Strategy<Value = Interactions> {
        let event = (0_u32..6, 0_u32..7, 0.5_f32..2.0, 0_i64..10_000);
        prop::collection::vec(event, 0..60)
            .prop_map(|events| Interactions::from_events(6, 7, &events).unwrap())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn agrees_with_the_definition(
            interactions in sequences(), window in 1_usize..8, exponent in 0.0_f32..1.5, backward in 0.0_f32..1.0,
            timed in any::<bool>(),
        ) {
            let settings = TransitionsSettings {
                window, gap_exponent: exponent, backward_weight: backward, source_exponent: exponent * 0.5,
                target_exponent: backward, half_life_ms: timed.then_some(700.0), ..TransitionsSettings::default()
            };
            let model = Transitions::train(&interactions, &settings).unwrap();
            for (entry, expected) in oracle(&interactions, &settings).into_iter().enumerate() {
                let weight = f64::from(model.weights.weight(entry as u32 / 7, entry as u32 % 7));
                prop_assert!((weight - expected).abs() <= 1e-6 + 1e-3 * expected, "{weight} for {expected}");
            }
            for row in interactions.rows() {
                check_contributions(&model, row, 1e-5);
            }
        }
    }

    #[test]
    fn the_last_item_counts_most() {
        let interactions = Interactions::from_rows(&[[0, 1], [2, 3]], 4).unwrap();
        let settings = TransitionsSettings { backward_weight: 0.0, ..TransitionsSettings::default() };
        let model = Transitions::train(&interactions, &settings).unwrap();
        let scores = scores_of(&model, History { items: &[0, 2], weights: &[1.0; 2], times: &[] });
        assert!(scores[3] > scores[1] && scores[1] > 0.0, "{scores:?}");
        let short = TransitionsSettings { history_length: 1, ..settings };
        let model = Transitions::train(&interactions, &short).unwrap();
        assert_eq!(scores_of(&model, History { items: &[0, 2], weights: &[1.0; 2], times: &[] })[1], 0.0);
    }

    #[test]
    fn empty_data_trains_and_bad_settings_are_refused() {
        let empty = Interactions::from_rows::<Vec<u32>>(&[], 0).unwrap();
        let good = TransitionsSettings::default();
        Transitions::train(&empty, &good).unwrap();
        let cases = [
            TransitionsSettings { window: 0, ..good.clone() },
            TransitionsSettings { history_length: 0, ..good.clone() },
            TransitionsSettings { row_length: 0, ..good.clone() },
            TransitionsSettings { half_life_ms: Some(0.0), ..good.clone() },
            TransitionsSettings { backward_weight: 2.0, ..good.clone() },
            TransitionsSettings { gap_exponent: f32::NAN, ..good },
        ];
        for settings in cases {
            assert!(matches!(Transitions::train(&empty, &settings), Err(AlgorithmError::Setting { .. })));
        }
    }

    #[test]
    fn threads_do_not_change_the_model() {
        let rows: Vec<Vec<u32>> =
            (0..60).map(|user| (0..20).map(|step| (user * 7 + step * step) % 40).collect()).collect();
        let interactions = Interactions::from_rows(&rows, 40).unwrap();
        check_threads_agree(|| Transitions::train(&interactions, &TransitionsSettings::default()).unwrap());
    }
}
