//! Measures of one ranked list against what is relevant to one user.
//!
//! All formulas are those of `trec_eval`, except where the doc of the variant says otherwise; the golden test holds
//! them to its published output. A measure of a user with nothing relevant is 0: protocols hold no such users out.
//!
//! Refuses: means over users (see [`super::bootstrap`]), measures of all lists together (see [`super::exposure`]).
//! To add one more: a variant of [`Kind`], its name in [`Kind::NAMES`], its formula in [`Measure::of`], a row in the
//! tests.

use super::EvaluationError;
use serde::{Deserialize, Serialize};
use std::fmt::{self, Display};
use std::str::FromStr;

/// A ranked list seen through its user's judgements: the gain at each rank and the best gains possible.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Judged {
    at_rank: Vec<f32>,
    ideal: Vec<f32>,
}

impl Judged {
    /// Judges `ranked` (item indices, best first) by the `relevant` items and their gains, in parallel slices. An item
    /// counts where it first appears. A gain that is not positive and finite means not relevant.
    pub fn new(ranked: &[u32], relevant: &[u32], gains: &[f32]) -> Self {
        let is_gain = |gain: f32| gain > 0.0 && gain.is_finite();
        let mut wanted: Vec<(u32, f32)> = relevant.iter().copied().zip(gains.iter().copied()).collect();
        wanted.retain(|&(_, gain)| is_gain(gain));
        wanted.sort_by(|left, right| left.0.cmp(&right.0).then(right.1.total_cmp(&left.1)));
        wanted.dedup_by_key(|&mut (item, _)| item);
        let mut ideal: Vec<f32> = wanted.iter().map(|&(_, gain)| gain).collect();
        ideal.sort_by(|left, right| right.total_cmp(left));
        let mut take = |item: &u32| match wanted.binary_search_by_key(item, |&(item, _)| item) {
            Ok(position) => std::mem::take(&mut wanted[position].1),
            Err(_) => 0.0,
        };
        Self { at_rank: ranked.iter().map(&mut take).collect(), ideal }
    }

    /// The number of relevant items, ranked or not.
    pub fn relevant_count(&self) -> usize {
        self.ideal.len()
    }

    fn within(&self, cutoff: usize) -> &[f32] {
        &self.at_rank[..cutoff.min(self.at_rank.len())]
    }

    fn hits(&self, cutoff: usize) -> f64 {
        self.within(cutoff).iter().filter(|&&gain| gain > 0.0).count() as f64
    }

    fn reciprocal_rank(&self, cutoff: usize) -> f64 {
        self.within(cutoff).iter().position(|&gain| gain > 0.0).map_or(0.0, |rank| 1.0 / (rank as f64 + 1.0))
    }

    fn average_precision(&self, cutoff: usize) -> f64 {
        let mut hits = 0.0;
        let mut sum = 0.0;
        for (rank, _) in self.within(cutoff).iter().enumerate().filter(|&(_, &gain)| gain > 0.0) {
            hits += 1.0;
            sum += hits / (rank as f64 + 1.0);
        }
        share(sum, self.ideal.len())
    }

    fn ndcg(&self, cutoff: usize, gain_of: impl Fn(f32) -> f64) -> f64 {
        let discounted = |gains: &[f32]| -> f64 {
            gains.iter().enumerate().map(|(rank, &gain)| gain_of(gain) / (rank as f64 + 2.0).log2()).sum()
        };
        let best = discounted(&self.ideal[..cutoff.min(self.ideal.len())]);
        if best > 0.0 { discounted(self.within(cutoff)) / best } else { 0.0 }
    }
}

fn share(part: f64, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part / whole as f64 }
}

/// A formula; see [`Measure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Relevant items ranked, over all relevant items. A list of k cannot reach 1 where more than k are relevant.
    Recall,
    /// Relevant items ranked, over `min(k, relevant items)`, so that a perfect list has 1 (Liang et al. 2018). Not in
    /// `trec_eval`.
    RecallCapped,
    /// Relevant items ranked, over k, also where the list is shorter.
    Precision,
    /// 1 if any relevant item is ranked (`success` in `trec_eval`).
    HitRate,
    /// Normalised discounted cumulative gain, every relevant item worth 1 (Järvelin & Kekäläinen 2002, discount
    /// `log2(rank + 1)`).
    Ndcg,
    /// The same with the gains as given. For exponential gains pass `2^grade - 1`.
    NdcgGraded,
    /// 1 over the rank of the first relevant item.
    ReciprocalRank,
    /// Mean of the precision at each relevant item, over all relevant items.
    AveragePrecision,
}

impl Kind {
    /// Every kind with its name in settings and tables.
    pub const NAMES: [(Self, &'static str); 8] = [
        (Self::Recall, "recall"),
        (Self::RecallCapped, "recall_capped"),
        (Self::Precision, "precision"),
        (Self::HitRate, "hr"),
        (Self::Ndcg, "ndcg"),
        (Self::NdcgGraded, "ndcg_graded"),
        (Self::ReciprocalRank, "mrr"),
        (Self::AveragePrecision, "map"),
    ];
}

/// A formula and the length of list that it looks at. Written as `ndcg@10`, or `map` for the whole list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Measure {
    /// The formula.
    pub kind: Kind,
    /// The number of ranks that count; `None` is the whole list.
    pub cutoff: Option<usize>,
}

impl Measure {
    /// A measure of the first `cutoff` ranks.
    pub const fn at(kind: Kind, cutoff: usize) -> Self {
        Self { kind, cutoff: Some(cutoff) }
    }

    /// The value for one list, in 0..=1.
    pub fn of(&self, judged: &Judged) -> f64 {
        let whole = judged.at_rank.len().max(judged.ideal.len());
        let cutoff = self.cutoff.unwrap_or(whole);
        match self.kind {
            Kind::Recall => share(judged.hits(cutoff), judged.ideal.len()),
            Kind::RecallCapped => share(judged.hits(cutoff), judged.ideal.len().min(cutoff)),
            Kind::Precision => share(judged.hits(cutoff), self.cutoff.unwrap_or(judged.at_rank.len())),
            Kind::HitRate => judged.hits(cutoff).min(1.0),
            Kind::Ndcg => judged.ndcg(cutoff, |gain| f64::from(u8::from(gain > 0.0))),
            Kind::NdcgGraded => judged.ndcg(cutoff, f64::from),
            Kind::ReciprocalRank => judged.reciprocal_rank(cutoff),
            Kind::AveragePrecision => judged.average_precision(cutoff),
        }
    }
}

impl Display for Measure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Kind::NAMES.iter().find(|(kind, _)| *kind == self.kind).map_or("", |(_, name)| name);
        match self.cutoff {
            Some(cutoff) => write!(formatter, "{name}@{cutoff}"),
            None => write!(formatter, "{name}"),
        }
    }
}

impl From<Measure> for String {
    fn from(measure: Measure) -> Self {
        measure.to_string()
    }
}

impl TryFrom<String> for Measure {
    type Error = EvaluationError;

    fn try_from(text: String) -> Result<Self, EvaluationError> {
        text.parse()
    }
}

impl FromStr for Measure {
    type Err = EvaluationError;

    fn from_str(text: &str) -> Result<Self, EvaluationError> {
        let unreadable =
            || EvaluationError::Unreadable(format!("measure `{text}`: write it like `ndcg@10` or `map`"));
        let (name, cutoff) = match text.split_once('@') {
            Some((name, cutoff)) => {
                (name, Some(cutoff.parse().ok().filter(|&k| k > 0).ok_or_else(unreadable)?))
            }
            None => (text, None),
        };
        let kind = Kind::NAMES.iter().find(|(_, known)| *known == name).ok_or_else(unreadable)?.0;
        Ok(Self { kind, cutoff })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Judges `ranked` with gains 3, 2, 1, 1, … for `relevant` and compares `measure` with `expected`.
    fn check(measure: &str, ranked: &[u32], relevant: &[u32], expected: f64) {
        let gains: Vec<f32> = (0..relevant.len()).map(|index| (3 - index.min(2)) as f32).collect();
        let value = measure.parse::<Measure>().unwrap().of(&Judged::new(ranked, relevant, &gains));
        assert!(
            (value - expected).abs() < 1e-9,
            "{measure} of {ranked:?} for {relevant:?}: {value}, not {expected}"
        );
    }

    #[test]
    fn agrees_with_values_computed_by_hand() {
        let log3 = 3_f64.log2();
        let cases: &[(&str, &[u32], &[u32], f64)] = &[
            ("recall@2", &[7, 1, 2], &[1, 2, 3], 1.0 / 3.0),
            ("recall_capped@2", &[7, 1, 2], &[1, 2, 3], 0.5),
            ("recall_capped@5", &[7, 1, 2], &[1, 2, 3], 2.0 / 3.0),
            ("recall", &[7, 1, 2], &[1, 2, 3], 2.0 / 3.0),
            ("precision@2", &[7, 1, 2], &[1, 2, 3], 0.5),
            ("precision@10", &[7, 1, 2], &[1, 2, 3], 0.2),
            ("precision", &[7, 1, 2], &[1, 2, 3], 2.0 / 3.0),
            ("hr@1", &[7, 1, 2], &[1], 0.0),
            ("hr@2", &[7, 1, 2], &[1], 1.0),
            ("hr@3", &[7, 1, 2], &[1, 2], 1.0),
            ("mrr@1", &[7, 1, 2], &[1], 0.0),
            ("mrr", &[7, 8, 2], &[1, 2], 1.0 / 3.0),
            ("map", &[1, 7, 2], &[1, 2, 3], (1.0 + 2.0 / 3.0) / 3.0),
            ("map@2", &[1, 7, 2], &[1, 2, 3], 1.0 / 3.0),
            ("ndcg@2", &[7, 1], &[1], 1.0 / log3),
            ("ndcg@2", &[7, 1], &[1, 2], (1.0 / log3) / (1.0 + 1.0 / log3)),
            ("ndcg_graded@2", &[2, 1], &[1, 2], (2.0 + 3.0 / log3) / (3.0 + 2.0 / log3)),
            ("ndcg_graded@1", &[3], &[1, 2, 3], 1.0 / 3.0),
            ("ndcg", &[], &[1], 0.0),
            ("ndcg", &[1], &[], 0.0),
            ("map", &[1], &[], 0.0),
            ("recall@3", &[1, 1, 1], &[1, 2], 0.5),
        ];
        for &(measure, ranked, relevant, expected) in cases {
            check(measure, ranked, relevant, expected);
        }
    }

    #[test]
    fn gains_that_are_not_positive_numbers_are_not_relevant() {
        let judged = Judged::new(&[0, 1, 2, 3], &[0, 1, 2, 3], &[f32::NAN, -1.0, 0.0, f32::INFINITY]);
        assert_eq!(judged.relevant_count(), 0);
        assert_eq!(Measure::at(Kind::NdcgGraded, 3).of(&judged), 0.0);
    }

    #[test]
    fn names_are_read_back_and_nonsense_is_refused() {
        for (kind, _) in Kind::NAMES {
            for cutoff in [None, Some(1), Some(20)] {
                let measure = Measure { kind, cutoff };
                assert_eq!(measure.to_string().parse::<Measure>().unwrap(), measure);
            }
        }
        for text in ["", "ndcg@", "ndcg@0", "ndcg@-1", "auc@10", "ndcg@10@10"] {
            assert!(text.parse::<Measure>().unwrap_err().to_string().contains("ndcg@10"), "{text}");
        }
    }

    fn measures() -> impl Iterator<Item = Measure> {
        Kind::NAMES.into_iter().flat_map(|(kind, _)| {
            [None, Some(1), Some(3), Some(50)].into_iter().map(move |cutoff| Measure { kind, cutoff })
        })
    }

    proptest! {
        #[test]
        fn every_value_is_a_share(
            ranked in prop::collection::vec(0_u32..40, 0..30),
            relevant in prop::collection::btree_map(0_u32..40, 0.1_f32..9.0, 0..30),
        ) {
            let (items, gains): (Vec<u32>, Vec<f32>) = relevant.into_iter().unzip();
            let judged = Judged::new(&ranked, &items, &gains);
            for measure in measures() {
                let value = measure.of(&judged);
                prop_assert!((0.0..=1.0 + 1e-12).contains(&value), "{measure} {value}");
            }
        }

        #[test]
        fn the_best_order_has_one_and_is_never_beaten(
            relevant in prop::collection::btree_map(0_u32..40, 0.1_f32..9.0, 1..20),
            noise in prop::collection::vec(0_u32..60, 0..30),
        ) {
            let (items, gains): (Vec<u32>, Vec<f32>) = relevant.iter().map(|(&item, &gain)| (item, gain)).unzip();
            let mut best = items.clone();
            best.sort_by(|left, right| relevant[right].total_cmp(&relevant[left]));
            let perfect = Judged::new(&best, &items, &gains);
            let other = Judged::new(&[noise, best].concat(), &items, &gains);
            for measure in measures() {
                let value = measure.of(&perfect);
                let reaches_one = match measure.kind {
                    Kind::Recall | Kind::AveragePrecision => measure.cutoff.is_none_or(|k| k >= items.len()),
                    Kind::Precision => measure.cutoff.is_none_or(|k| k <= items.len()),
                    _ => true,
                };
                prop_assert!(!reaches_one || (value - 1.0).abs() < 1e-9, "{measure} {value}");
                prop_assert!(measure.of(&other) <= value + 1e-9, "{measure}");
            }
        }

        #[test]
        fn the_order_of_judgements_does_not_matter(
            ranked in prop::collection::vec(0_u32..40, 0..30),
            relevant in prop::collection::vec((0_u32..40, 0.1_f32..9.0), 0..20),
        ) {
            let (items, gains): (Vec<u32>, Vec<f32>) = relevant.iter().copied().unzip();
            let (back_items, back_gains): (Vec<u32>, Vec<f32>) = relevant.iter().rev().copied().unzip();
            prop_assert_eq!(Judged::new(&ranked, &items, &gains), Judged::new(&ranked, &back_items, &back_gains));
        }
    }
}
