//! Exact search over one collection in memory.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

use kernel::{Error, Result, codes};
use store::{Collection, Match, Metric, VectorFilter, VectorItem};

/// Sums run in this many lanes, added in one order, so that every machine gets the same score.
const LANES: usize = 16;

/// The vectors of a collection, row by row.
#[derive(Debug, Default)]
pub(super) struct Flat {
    dimensions: usize,
    // Upserts that are under way and count on the dimensions.
    claims: usize,
    numbers: Vec<f32>,
    norms: Vec<f32>,
    keys: Vec<String>,
    tags: Vec<Vec<u32>>,
    rows: HashMap<String, usize>,
    tag_numbers: HashMap<(String, String), u32>,
}

impl Flat {
    /// How many vectors there are.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// How many numbers there are in all of them.
    pub(super) fn numbers(&self) -> usize {
        self.numbers.len()
    }

    /// Checks that what is held has the collection's dimensions.
    pub(super) fn check_dimensions(&self, collection: Collection) -> Result<()> {
        let is_free = self.keys.is_empty() && self.claims == 0;
        if is_free || self.dimensions == collection.dimensions {
            return Ok(());
        }
        let message = format!("`{}` holds vectors of {} dimensions", collection.name, self.dimensions);
        Err(Error::new(codes::VALIDATION_ERROR, message).with_field("dimensions"))
    }

    /// Holds on to the collection's dimensions for an upsert to come.
    pub(super) fn claim(&mut self, collection: Collection) -> Result<()> {
        self.check_dimensions(collection)?;
        self.dimensions = collection.dimensions;
        self.claims += 1;
        Ok(())
    }

    /// Lets go of them.
    pub(super) fn release(&mut self) {
        self.claims = self.claims.saturating_sub(1);
    }

    /// Adds or replaces.
    ///
    /// # Errors
    /// `CORRUPTED` when the vector has other dimensions than those that are held.
    pub(super) fn upsert(&mut self, item: VectorItem) -> Result<()> {
        if !self.keys.is_empty() && item.vector.len() != self.dimensions {
            let message =
                format!("vector `{}` has other dimensions than its collection", item.key.escape_debug());
            return Err(Error::new(codes::CORRUPTED, message));
        }
        let tags = self.number_tags(item.tags);
        let norm = dot(&item.vector, &item.vector).sqrt();
        if let Some(row) = self.rows.get(&item.key) {
            self.numbers[row * self.dimensions..][..self.dimensions].copy_from_slice(&item.vector);
            self.norms[*row] = norm;
            self.tags[*row] = tags;
            return Ok(());
        }
        self.dimensions = item.vector.len();
        self.rows.insert(item.key.clone(), self.keys.len());
        self.numbers.extend_from_slice(&item.vector);
        self.norms.push(norm);
        self.tags.push(tags);
        self.keys.push(item.key);
        Ok(())
    }

    /// Removes; the last row moves into the gap.
    pub(super) fn remove(&mut self, key: &str) {
        let Some(row) = self.rows.remove(key) else { return };
        let last = self.keys.len() - 1;
        self.keys.swap_remove(row);
        self.norms.swap_remove(row);
        self.tags.swap_remove(row);
        self.numbers.copy_within(last * self.dimensions.., row * self.dimensions);
        self.numbers.truncate(last * self.dimensions);
        if let Some(moved) = self.keys.get(row) {
            self.rows.insert(moved.clone(), row);
        }
    }

    fn number_tags(&mut self, tags: BTreeMap<String, String>) -> Vec<u32> {
        let mut numbers: Vec<u32> = Vec::with_capacity(tags.len());
        for tag in tags {
            let next = u32::try_from(self.tag_numbers.len()).expect("fewer than 4 billion tags");
            numbers.push(*self.tag_numbers.entry(tag).or_insert(next));
        }
        numbers.sort_unstable();
        numbers
    }

    /// The nearest rows that pass the filter, best first, ties by key.
    pub(super) fn search(
        &self,
        metric: Metric,
        query: &[f32],
        count: usize,
        filter: &VectorFilter,
    ) -> Vec<Match> {
        let wanted =
            |(name, value): (&String, &String)| self.tag_numbers.get(&(name.clone(), value.clone())).copied();
        let Some(wanted) = filter.iter().map(wanted).collect::<Option<Vec<u32>>>() else { return Vec::new() };
        if count == 0 {
            return Vec::new();
        }
        let passes = |row: &usize| wanted.iter().all(|tag| self.tags[*row].binary_search(tag).is_ok());
        let rows: Vec<usize> = (0..self.keys.len()).filter(passes).collect();
        let scores = pulp::Arch::new().dispatch(Scoring { flat: self, metric, query, rows: &rows });
        // The worst of the best is on top.
        let mut best: BinaryHeap<Candidate<'_>> = BinaryHeap::new();
        for (row, score) in rows.into_iter().zip(scores) {
            let candidate = Candidate { score, key: &self.keys[row] };
            if best.len() < count {
                best.push(candidate);
            } else if best.peek().is_some_and(|worst| candidate < *worst) {
                best.pop();
                best.push(candidate);
            }
        }
        let found = best.into_sorted_vec();
        found.into_iter().map(|found| Match { key: found.key.to_owned(), score: found.score }).collect()
    }
}

/// The part that runs with the widest registers of the machine. All of it must be inlined for that.
struct Scoring<'a> {
    flat: &'a Flat,
    metric: Metric,
    query: &'a [f32],
    rows: &'a [usize],
}

impl pulp::NullaryFnOnce for Scoring<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn call(self) -> Vec<f32> {
        let Self { flat, metric, query, rows } = self;
        let query_norm = dot(query, query).sqrt();
        let mut scores = Vec::with_capacity(rows.len());
        for row in rows {
            let vector = &flat.numbers[row * flat.dimensions..][..flat.dimensions];
            scores.push(match metric {
                Metric::Dot => dot(query, vector),
                Metric::Euclidean => -squared_distance(query, vector),
                Metric::Cosine => {
                    let norm = query_norm * flat.norms[*row];
                    if norm > 0.0 { (dot(query, vector) / norm).clamp(-1.0, 1.0) } else { 0.0 }
                }
            });
        }
        scores
    }
}

/// Ordered from best to worst.
#[derive(Debug)]
struct Candidate<'a> {
    score: f32,
    key: &'a str,
}

impl Ord for Candidate<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then_with(|| self.key.cmp(other.key))
    }
}

impl PartialOrd for Candidate<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate<'_> {}

#[inline(always)]
fn sum_of(left: &[f32], right: &[f32], part: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let (left, left_rest) = left.as_chunks::<LANES>();
    let (right, right_rest) = right.as_chunks::<LANES>();
    for (left, right) in left.iter().zip(right) {
        for lane in 0..LANES {
            lanes[lane] += part(left[lane], right[lane]);
        }
    }
    for (lane, (left, right)) in left_rest.iter().zip(right_rest).enumerate() {
        lanes[lane] += part(*left, *right);
    }
    lanes.iter().sum()
}

#[inline(always)]
fn dot(left: &[f32], right: &[f32]) -> f32 {
    sum_of(left, right, |left, right| left * right)
}

#[inline(always)]
fn squared_distance(left: &[f32], right: &[f32]) -> f32 {
    sum_of(left, right, |left, right| (left - right) * (left - right))
}
