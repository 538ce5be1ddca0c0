//! The vectors of one collection in memory, row by row, and what becomes of each in its graph.
//!
//! A row that was written is scored by every search until the indexer has linked it into the graph (`work` hands it out,
//! `settle` takes it back). A vector that is replaced gets a new row. A row that is deleted while the graph leads through it
//! is kept until a repair has led around it. Rows never move, so that a row is also its node.

use std::collections::HashMap;
use std::sync::Arc;

use kernel::{Error, Result, codes};
use parking_lot::{Mutex, RwLock};
use store::{Collection, Metric, VectorItem};

use super::beam::Bits;
use super::graph::{Index, Scratch};
use super::score::dot;
use super::tags::Tags;

/// Rows that are linked between two looks at what else there is to do.
const BATCH_ROWS: usize = 64;
/// Rows that the codes are learned from, at most.
const SAMPLE_ROWS: usize = 16_384;
/// With more rows gone than this and a quarter of those in the graph, it is repaired.
const GONE_ROWS: usize = 64;
/// With more rows that the codes cannot tell than this and a sixteenth of all, they are learned anew.
const STRAY_ROWS: usize = 256;
const NOWHERE: u32 = u32::MAX;

/// A graph that searches share with the indexer. Who holds its lock asks for no other.
pub(super) type SharedGraph = Arc<RwLock<Box<dyn Index>>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Free,
    /// For the indexer.
    Waiting,
    /// With the indexer.
    Taken,
    InGraph,
    /// Not to be told in the codes of the graph.
    Stray,
    /// Deleted, but the graph leads through it.
    Gone,
}

/// What the indexer has to do next.
#[derive(Debug)]
pub(super) enum Work {
    Nothing,
    Learn(Sample),
    Link(Batch),
    Repair(Repair),
}

/// Some vectors, to learn from what the codes have to tell.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) metric: Metric,
    pub(super) dimensions: usize,
    pub(super) longest: f32,
    pub(super) numbers: Vec<f32>,
}

/// Rows whose vectors are in the graph and to be linked.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) graph: SharedGraph,
    pub(super) rows: Vec<u32>,
    pub(super) gone: Bits,
}

/// Rows that are gone, and those that may lead to them.
#[derive(Debug)]
pub(super) struct Repair {
    pub(super) graph: SharedGraph,
    pub(super) gone: Vec<u32>,
    pub(super) others: Vec<u32>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Flat {
    pub(super) metric: Metric,
    pub(super) dimensions: usize,
    // Upserts that are under way and count on the dimensions.
    claims: usize,
    // Up to so many are searched without a graph.
    pub(super) exact_rows: usize,
    pub(super) numbers: Vec<f32>,
    pub(super) norms: Vec<f32>,
    pub(super) keys: Vec<String>,
    pub(super) tags_of: Vec<Vec<u32>>,
    pub(super) states: Vec<State>,
    rows: HashMap<String, u32>,
    free: Vec<u32>,
    pub(super) tags: Tags,
    pub(super) graph: Option<SharedGraph>,
    // Rows that searches score beside the graph, and where each of them is in the list.
    pub(super) apart: Vec<u32>,
    places: Vec<u32>,
    strays: usize,
    pub(super) in_graph: usize,
    pub(super) gone: usize,
    learned_from: usize,
    drawn: u64,
    pub(super) scratches: Mutex<Vec<Scratch>>,
}

impl Flat {
    /// No vectors. Up to `exact_rows` are searched without a graph.
    pub(super) fn new(metric: Metric, exact_rows: usize) -> Self {
        Self {
            metric,
            dimensions: 0,
            claims: 0,
            exact_rows,
            numbers: Vec::new(),
            norms: Vec::new(),
            keys: Vec::new(),
            tags_of: Vec::new(),
            states: Vec::new(),
            rows: HashMap::new(),
            free: Vec::new(),
            tags: Tags::default(),
            graph: None,
            apart: Vec::new(),
            places: Vec::new(),
            strays: 0,
            in_graph: 0,
            gone: 0,
            learned_from: 0,
            drawn: 0,
            scratches: Mutex::default(),
        }
    }

    /// How many vectors there are.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Checks that what is held has the collection's dimensions.
    pub(super) fn check_dimensions(&self, collection: Collection) -> Result<()> {
        let is_free = self.rows.is_empty() && self.claims == 0;
        if is_free || self.dimensions == collection.dimensions {
            return Ok(());
        }
        let message = format!("`{}` holds vectors of {} dimensions", collection.name, self.dimensions);
        Err(Error::new(codes::VALIDATION_ERROR, message).with_field("dimensions"))
    }

    /// Holds on to the collection's dimensions for an upsert to come.
    pub(super) fn claim(&mut self, collection: Collection) -> Result<()> {
        self.check_dimensions(collection)?;
        if self.rows.is_empty() && self.claims == 0 {
            *self = Self::new(collection.metric, self.exact_rows);
        }
        self.dimensions = collection.dimensions;
        self.claims += 1;
        Ok(())
    }

    /// Lets go of them.
    pub(super) fn release(&mut self) {
        self.claims = self.claims.saturating_sub(1);
    }

    /// The vector of a row.
    pub(super) fn vector(&self, row: u32) -> &[f32] {
        &self.numbers[row as usize * self.dimensions..][..self.dimensions]
    }

    /// Adds or replaces.
    ///
    /// # Errors
    /// `CORRUPTED` when the vector has other dimensions than those that are held.
    pub(super) fn upsert(&mut self, item: VectorItem) -> Result<()> {
        if self.states.is_empty() {
            self.dimensions = item.vector.len();
        } else if item.vector.len() != self.dimensions {
            let message =
                format!("vector `{}` has other dimensions than its collection", item.key.escape_debug());
            return Err(Error::new(codes::CORRUPTED, message));
        }
        if let Some(&row) = self.rows.get(&item.key)
            && self.vector(row) == item.vector
        {
            let place = row as usize;
            self.tags.remove(row, &self.tags_of[place]);
            self.tags_of[place] = self.tags.add(row, item.tags);
            return Ok(());
        }
        self.remove(&item.key);
        let row = self.free.pop().unwrap_or_else(|| self.add_row());
        let place = row as usize;
        self.numbers[place * self.dimensions..][..self.dimensions].copy_from_slice(&item.vector);
        self.norms[place] = dot(&item.vector, &item.vector).sqrt();
        self.tags_of[place] = self.tags.add(row, item.tags);
        self.keys[place].clone_from(&item.key);
        self.rows.insert(item.key, row);
        self.states[place] = State::Waiting;
        self.put_apart(row);
        Ok(())
    }

    fn add_row(&mut self) -> u32 {
        self.numbers.resize(self.numbers.len() + self.dimensions, 0.0);
        self.norms.push(0.0);
        self.keys.push(String::new());
        self.tags_of.push(Vec::new());
        self.states.push(State::Free);
        self.places.push(NOWHERE);
        u32::try_from(self.states.len() - 1).expect("fewer than 2 billion vectors")
    }

    /// Removes.
    pub(super) fn remove(&mut self, key: &str) {
        let Some(row) = self.rows.remove(key) else { return };
        let place = row as usize;
        self.tags.remove(row, &std::mem::take(&mut self.tags_of[place]));
        self.keys[place] = String::new();
        self.take_from_apart(row);
        self.states[place] = match self.states[place] {
            State::InGraph | State::Taken => {
                self.in_graph -= usize::from(self.states[place] == State::InGraph);
                self.gone += 1;
                State::Gone
            }
            state => {
                self.strays -= usize::from(state == State::Stray);
                self.free.push(row);
                State::Free
            }
        };
    }

    fn put_apart(&mut self, row: u32) {
        self.places[row as usize] = u32::try_from(self.apart.len()).expect("fewer than 2 billion vectors");
        self.apart.push(row);
    }

    fn take_from_apart(&mut self, row: u32) {
        let place = std::mem::replace(&mut self.places[row as usize], NOWHERE);
        if place != NOWHERE {
            self.apart.swap_remove(place as usize);
            if let Some(moved) = self.apart.get(place as usize) {
                self.places[*moved as usize] = place;
            }
        }
    }

    /// How many vectors are for the indexer.
    pub(super) fn waiting(&self) -> usize {
        if self.is_large() { self.apart.len() - self.strays } else { 0 }
    }

    /// Whether there is something for the indexer to do.
    pub(super) fn has_work(&self) -> bool {
        self.waiting() > 0 || self.is_worn()
    }

    /// Whether walks meet many rows that are gone.
    fn is_worn(&self) -> bool {
        self.gone > GONE_ROWS + self.in_graph / 4
    }

    fn is_large(&self) -> bool {
        self.graph.is_some() || self.len() > self.exact_rows
    }

    /// What is to be done, until it is given back.
    pub(super) fn work(&mut self) -> Work {
        if !self.is_large() {
            return Work::Nothing;
        }
        if self.strays > STRAY_ROWS + self.len() / 16 && self.len() >= 2 * self.learned_from {
            self.forget_graph();
        }
        let Some(graph) = self.graph.clone() else { return Work::Learn(self.sample()) };
        if self.is_worn() {
            let gone = self.rows_that(|state| state == State::Gone).collect();
            let others = self.rows_that(|state| state == State::InGraph).collect();
            return Work::Repair(Repair { graph, gone, others });
        }
        let rows = self.take_batch(&graph);
        if rows.is_empty() {
            Work::Nothing
        } else {
            Work::Link(Batch { graph, rows, gone: self.gone_bits() })
        }
    }

    fn gone_bits(&self) -> Bits {
        let mut gone = Bits::default();
        if self.gone > 0 {
            gone.clear(self.states.len());
            self.rows_that(|state| state == State::Gone).for_each(|row| _ = gone.set(row));
        }
        gone
    }

    /// Waiting rows, drawn at random: in the order of their keys a graph comes out worse.
    fn take_batch(&mut self, graph: &SharedGraph) -> Vec<u32> {
        let mut rows = Vec::new();
        let mut graph = graph.write();
        while rows.len() < BATCH_ROWS && self.apart.len() > self.strays + rows.len() {
            self.drawn = self.drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let start = usize::try_from(self.drawn >> 33).unwrap_or(0) % self.apart.len();
            let (before, after) = self.apart.split_at(start);
            let mut drawn = after.iter().chain(before).copied();
            let Some(row) = drawn.find(|row| self.states[*row as usize] == State::Waiting) else { break };
            let vector = &self.numbers[row as usize * self.dimensions..][..self.dimensions];
            self.states[row as usize] = if graph.put(row, vector) {
                rows.push(row);
                State::Taken
            } else {
                self.strays += 1;
                State::Stray
            };
        }
        rows
    }

    fn sample(&self) -> Sample {
        let held: Vec<u32> = self.rows_that(|state| !matches!(state, State::Free | State::Gone)).collect();
        let longest = held.iter().map(|row| self.norms[*row as usize]).fold(0.0, f32::max);
        let step = held.len().div_ceil(SAMPLE_ROWS).max(1);
        let numbers = held.iter().step_by(step).flat_map(|row| self.vector(*row)).copied().collect();
        Sample { metric: self.metric, dimensions: self.dimensions, longest, numbers }
    }

    /// The rows in a state.
    pub(super) fn rows_that(&self, wanted: fn(State) -> bool) -> impl Iterator<Item = u32> {
        (0_u32..).zip(&self.states).filter(move |(_, state)| wanted(**state)).map(|(row, _)| row)
    }

    /// Begins with a graph that was made for a sample of what is held.
    pub(super) fn begin(&mut self, sample: &Sample, graph: Box<dyn Index>) {
        if self.metric == sample.metric && self.dimensions == sample.dimensions {
            self.forget_graph();
            self.learned_from = self.len();
            self.graph = Some(Arc::new(RwLock::new(graph)));
        }
    }

    fn forget_graph(&mut self) {
        self.graph = None;
        (self.in_graph, self.gone, self.strays) = (0, 0, 0);
        for row in 0..u32::try_from(self.states.len()).expect("fewer than 2 billion vectors") {
            let state = &mut self.states[row as usize];
            match *state {
                State::Free | State::Waiting => {}
                State::Gone => {
                    *state = State::Free;
                    self.free.push(row);
                }
                State::InGraph => {
                    *state = State::Waiting;
                    self.put_apart(row);
                }
                State::Taken | State::Stray => *state = State::Waiting,
            }
        }
    }

    /// Takes back rows that were linked.
    pub(super) fn settle(&mut self, batch: &Batch) {
        if !self.is_mine(&batch.graph) {
            return;
        }
        for row in &batch.rows {
            if self.states[*row as usize] == State::Taken {
                self.states[*row as usize] = State::InGraph;
                self.in_graph += 1;
                self.take_from_apart(*row);
            }
        }
    }

    /// Takes back rows that nothing leads to any more.
    pub(super) fn repaired(&mut self, repair: &Repair) {
        if !self.is_mine(&repair.graph) {
            return;
        }
        repair.graph.write().free(&repair.gone);
        for row in &repair.gone {
            self.states[*row as usize] = State::Free;
            self.free.push(*row);
            self.gone -= 1;
        }
    }

    fn is_mine(&self, graph: &SharedGraph) -> bool {
        self.graph.as_ref().is_some_and(|mine| Arc::ptr_eq(mine, graph))
    }
}
