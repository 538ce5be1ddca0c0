//! Vectors as the graph compares them: placed so that the nearest by the metric is the nearest by distance, and rounded to
//! eight bits where that is fine enough.
//!
//! A cosine is a distance of vectors of length 1. An inner product is a distance once every vector is filled up to the
//! same length in dimensions that a query does not have (Bachrach et al., 2014). What does not fit in is refused, and
//! scored exactly by the caller: vectors that have no direction, are longer than all that were looked at, or lie far
//! outside of them.

use std::fmt::Debug;

use store::Metric;

use super::flat::Sample;
use super::graph::{Graph, Index};

/// A row of codes is a multiple of this long.
const ROUND: usize = 32;
/// Dimensions that fill an inner product up, so that none of them is much larger than the others.
const FILLING: usize = 16;
/// How far beyond the range of the codes a number may lie before its vector is refused, as a part of the range.
const BEYOND: f32 = 0.25;
/// The part of the numbers looked at that lie within the range.
const WITHIN: f64 = 0.9999;
const LARGEST: f32 = 127.0;
/// Vectors of a sample that are searched for to see whether codes tell their neighbours.
const TRIED: usize = 64;
const NEAREST: usize = 10;
/// The part of the nearest that must be among twice as many by their codes.
const MIN_TOLD: f64 = 0.98;
/// Fixed, so that the same vectors in the same order make the same graph.
const SEED: u64 = 1;

/// How vectors of one collection are placed and rounded.
#[derive(Debug, Clone)]
pub(super) struct Coder {
    metric: Metric,
    // As long as a row, without what fills it to a whole number of registers.
    means: Vec<f32>,
    step: f32,
    longest: f32,
}

impl Coder {
    /// Learns the range from some vectors; `longest` is the length of the longest of all.
    pub(super) fn learn<'a>(
        metric: Metric,
        dimensions: usize,
        longest: f32,
        vectors: impl Iterator<Item = &'a [f32]>,
    ) -> Self {
        let filling = if metric == Metric::Dot { FILLING } else { 0 };
        let mut coder = Self { metric, means: vec![0.0; dimensions + filling], step: 1.0, longest };
        let mut placed = vec![0.0; coder.means.len()];
        let mut rows: Vec<f32> = Vec::new();
        for vector in vectors {
            if coder.place(vector, &mut placed) {
                rows.extend_from_slice(&placed);
            }
        }
        let width = coder.means.len();
        let count = rows.len() / width;
        for row in rows.chunks_exact(width) {
            coder.means.iter_mut().zip(row).for_each(|(mean, value)| *mean += value / count as f32);
        }
        for row in rows.chunks_exact_mut(width) {
            row.iter_mut().zip(&coder.means).for_each(|(value, mean)| *value = (*value - mean).abs());
        }
        if !rows.is_empty() {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place")]
            let place = ((rows.len() - 1) as f64 * WITHIN) as usize;
            let range = *rows.select_nth_unstable_by(place, f32::total_cmp).1;
            coder.step = range / LARGEST;
        }
        if !coder.step.is_normal() {
            coder.step = 1.0;
        }
        coder
    }

    /// Codes of one vector.
    pub(super) fn width(&self) -> usize {
        self.means.len().next_multiple_of(ROUND)
    }

    /// Places a vector that is searched among.
    fn place(&self, vector: &[f32], placed: &mut [f32]) -> bool {
        let (direct, filling) = placed.split_at_mut(vector.len());
        direct.copy_from_slice(vector);
        let length = length_of(vector);
        if !length.is_finite() {
            return false;
        }
        match self.metric {
            Metric::Euclidean => true,
            Metric::Cosine => scale(direct, 1.0 / length),
            Metric::Dot => {
                let rest = self.longest * self.longest - length * length;
                filling.fill((rest.max(0.0) / FILLING as f32).sqrt());
                length <= self.longest
            }
        }
    }

    /// Places a vector that is searched for. Its length changes no order of inner products.
    fn place_query(&self, query: &[f32], placed: &mut [f32]) -> bool {
        let (direct, filling) = placed.split_at_mut(query.len());
        direct.copy_from_slice(query);
        filling.fill(0.0);
        let length = length_of(query);
        match self.metric {
            Metric::Euclidean => length.is_finite(),
            Metric::Cosine => scale(direct, 1.0 / length),
            Metric::Dot => scale(direct, self.longest / length),
        }
    }

    fn round(&self, placed: &[f32], codes: &mut [i8]) -> bool {
        let mut is_within = true;
        for ((code, value), mean) in codes.iter_mut().zip(placed).zip(&self.means) {
            let steps = (value - mean) / self.step;
            is_within &= steps.abs() <= LARGEST * (1.0 + BEYOND);
            #[expect(clippy::cast_possible_truncation, reason = "it is clamped")]
            let rounded = steps.clamp(-LARGEST, LARGEST).round_ties_even() as i8;
            *code = rounded;
        }
        is_within
    }
}

/// An empty graph for vectors like those of a sample: of codes in eight bits where they tell the neighbours in it apart,
/// of single-precision numbers where they do not.
pub(super) fn learned(sample: &Sample) -> Box<dyn Index> {
    let rows = || sample.numbers.chunks_exact(sample.dimensions);
    let coder = Coder::learn(sample.metric, sample.dimensions, sample.longest, rows());
    if tells_neighbours(&coder, sample) {
        Box::new(Graph::<i8>::new(coder, SEED))
    } else {
        Box::new(Graph::<f32>::new(coder, SEED))
    }
}

/// Whether the nearest of some vectors are among twice as many by their codes.
fn tells_neighbours(coder: &Coder, sample: &Sample) -> bool {
    let rows: Vec<&[f32]> = sample.numbers.chunks_exact(sample.dimensions).collect();
    let codes = |vector: &&[f32]| encoded::<i8>(coder, vector);
    let numbers = |vector: &&[f32]| encoded::<f32>(coder, vector);
    let (codes, numbers): (Vec<_>, Vec<_>) = rows.iter().map(|row| (codes(row), numbers(row))).unzip();
    let (mut told, mut tried) = (0, 0);
    for row in rows.iter().step_by(rows.len().div_ceil(TRIED).max(1)) {
        let mut code = vec![0_i8; coder.width()];
        let mut number = vec![0.0_f32; coder.width()];
        if !f32::encode_query(coder, row, &mut number) {
            continue;
        }
        tried += NEAREST.min(rows.len());
        if i8::encode_query(coder, row, &mut code) {
            let by_codes = nearest(&codes, &code, 2 * NEAREST);
            told += nearest(&numbers, &number, NEAREST).iter().filter(|row| by_codes.contains(row)).count();
        }
    }
    told as f64 >= MIN_TOLD * f64::from(u32::try_from(tried).unwrap_or(u32::MAX))
}

fn encoded<C: Code>(coder: &Coder, vector: &[f32]) -> Option<Vec<C>> {
    let mut codes = vec![C::default(); coder.width()];
    C::encode(coder, vector, &mut codes).then_some(codes)
}

/// The places of the nearest.
fn nearest<C: Code>(rows: &[Option<Vec<C>>], query: &[C], count: usize) -> Vec<usize> {
    struct Measuring<'a, C>(&'a [Option<Vec<C>>], &'a [C]);
    impl<C: Code> pulp::NullaryFnOnce for Measuring<'_, C> {
        type Output = Vec<(u32, usize)>;
        #[inline(always)]
        fn call(self) -> Self::Output {
            let mut measured = Vec::with_capacity(self.0.len());
            for (place, row) in self.0.iter().enumerate() {
                if let Some(row) = row {
                    measured.push((C::distance(row, self.1), place));
                }
            }
            measured
        }
    }
    let mut measured = pulp::Arch::new().dispatch(Measuring(rows, query));
    let count = count.min(measured.len());
    if count < measured.len() {
        measured.select_nth_unstable(count);
    }
    measured[..count].iter().map(|(_, place)| *place).collect()
}

fn length_of(vector: &[f32]) -> f32 {
    vector.iter().map(|value| value * value).sum::<f32>().sqrt()
}

fn scale(values: &mut [f32], by: f32) -> bool {
    values.iter_mut().for_each(|value| *value *= by);
    by.is_normal()
}

/// One number of a vector, as it is kept in the graph.
pub(super) trait Code: Copy + Default + Send + Sync + Debug + 'static {
    /// The squared distance, or what orders as it does. Rows are a multiple of `ROUND` long.
    fn distance(left: &[Self], right: &[Self]) -> u32;

    /// Writes the codes of a vector; false where they cannot tell it.
    fn encode(coder: &Coder, vector: &[f32], codes: &mut [Self]) -> bool;

    /// Writes the codes of a query; false where they cannot tell it.
    fn encode_query(coder: &Coder, query: &[f32], codes: &mut [Self]) -> bool;
}

impl Code for i8 {
    // Whole numbers, so that no order of the sum changes it. At most 4,112 · 255² fits.
    #[inline(always)]
    fn distance(left: &[Self], right: &[Self]) -> u32 {
        let mut sum = 0_i32;
        for (left, right) in left.iter().zip(right) {
            let difference = i16::from(*left) - i16::from(*right);
            sum += i32::from(difference) * i32::from(difference);
        }
        sum.cast_unsigned()
    }

    fn encode(coder: &Coder, vector: &[f32], codes: &mut [Self]) -> bool {
        let mut placed = vec![0.0; coder.means.len()];
        coder.place(vector, &mut placed) && coder.round(&placed, codes)
    }

    fn encode_query(coder: &Coder, query: &[f32], codes: &mut [Self]) -> bool {
        let mut placed = vec![0.0; coder.means.len()];
        coder.place_query(query, &mut placed) && coder.round(&placed, codes)
    }
}

impl Code for f32 {
    // In lanes that are added in one order, so that every machine gets the same. The bits of what is not negative order
    // as the numbers do.
    #[inline(always)]
    fn distance(left: &[Self], right: &[Self]) -> u32 {
        let mut sums = [0.0_f32; ROUND];
        let (left, right) = (left.as_chunks::<ROUND>().0, right.as_chunks::<ROUND>().0);
        for (left, right) in left.iter().zip(right) {
            for lane in 0..ROUND {
                let difference = left[lane] - right[lane];
                sums[lane] += difference * difference;
            }
        }
        let mut lanes = ROUND / 2;
        while lanes > 0 {
            for lane in 0..lanes {
                sums[lane] += sums[lane + lanes];
            }
            lanes /= 2;
        }
        sums[0].to_bits()
    }

    fn encode(coder: &Coder, vector: &[f32], codes: &mut [Self]) -> bool {
        coder.place(vector, &mut codes[..coder.means.len()])
    }

    fn encode_query(coder: &Coder, query: &[f32], codes: &mut [Self]) -> bool {
        coder.place_query(query, &mut codes[..coder.means.len()])
    }
}
