//! The one record that says what a task's state is: written by every commit, and by it alone.

use std::collections::BTreeMap;

use kernel::{Error, Result, TenantId, codes};
use serde::{Deserialize, Serialize};

use crate::event_time::Tide;
use crate::operator::{Counts, decode, encode};
use crate::{EventTime, Repeats, Topology};

const LAYOUT: u32 = 1;

/// What a task did with the events that it took:
/// `taken = passed + duplicates + dead_lettered + filtered` and those that are held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Events that came, without punctuations.
    pub taken: u64,
    /// Events that became part of a state or an output.
    pub passed: u64,
    /// Events that were seen before.
    pub duplicates: u64,
    /// Events that an operator refused. Each has a letter for every operator that refused it.
    pub dead_lettered: u64,
    /// Events that a filter left out.
    pub filtered: u64,
    /// Punctuations of any partition.
    pub punctuations: u64,
    /// Outputs that were made, dead letters among them.
    pub outputs: u64,
}

impl Totals {
    /// Adds those of another task.
    pub fn add(&mut self, more: &Self) {
        self.taken += more.taken;
        self.passed += more.passed;
        self.duplicates += more.duplicates;
        self.dead_lettered += more.dead_lettered;
        self.filtered += more.filtered;
        self.punctuations += more.punctuations;
        self.outputs += more.outputs;
    }

    /// What was added to those of the same task.
    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            taken: self.taken.saturating_sub(before.taken),
            passed: self.passed.saturating_sub(before.passed),
            duplicates: self.duplicates.saturating_sub(before.duplicates),
            dead_lettered: self.dead_lettered.saturating_sub(before.dead_lettered),
            filtered: self.filtered.saturating_sub(before.filtered),
            punctuations: self.punctuations.saturating_sub(before.punctuations),
            outputs: self.outputs.saturating_sub(before.outputs),
        }
    }
}

/// Some pages of records that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pages {
    pub(crate) sequence: u64,
    pub(crate) count: u32,
    pub(crate) bytes: u64,
}

/// What a task's state is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    layout: u32,
    format: u32,
    operators: Vec<String>,
    event_time: EventTime,
    /// Grows by one each time a task is opened.
    pub(crate) epoch: u64,
    /// Grows by one with each commit.
    pub(crate) commits: u64,
    pub(crate) next_offset: u64,
    /// The changes of the state, oldest first.
    pub(crate) segments: Vec<Pages>,
    /// Outputs that may not have been delivered.
    pub(crate) outbox: Option<Pages>,
    pub(crate) totals: Totals,
    pub(crate) counts: Vec<Counts>,
    pub(crate) tides: BTreeMap<TenantId, Tide>,
    /// Stands behind the rest, where there is anything: releases before this one wrote none.
    #[serde(skip)]
    pub(crate) repeats: Repeats,
}

impl Head {
    pub(crate) fn new(topology: &Topology, next_offset: u64) -> Self {
        Self {
            layout: LAYOUT,
            format: topology.format,
            operators: topology.operators().iter().map(|name| (*name).to_owned()).collect(),
            event_time: topology.event_time,
            epoch: 1,
            commits: 0,
            next_offset,
            segments: Vec::new(),
            outbox: None,
            totals: Totals::default(),
            counts: vec![Counts::default(); topology.operators().len()],
            tides: BTreeMap::new(),
            repeats: Repeats::default(),
        }
    }

    /// The head as whoever opens the task next writes it.
    pub(crate) fn taken_over(self) -> Self {
        Self { epoch: self.epoch + 1, ..self }
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(self, &mut bytes);
        if !self.repeats.is_empty() {
            encode(&self.repeats, &mut bytes);
        }
        bytes
    }

    /// Reads a head that `topology` can go on from.
    pub(crate) fn read(bytes: &[u8], topology: &Topology) -> Result<Self> {
        // The first field tells whether the others are what they are thought to be.
        let (layout, _) = postcard::take_from_bytes::<u32>(bytes).map_err(|cause| {
            Error::new(codes::CORRUPTED, "a task's head cannot be read").with_source(cause)
        })?;
        if layout != LAYOUT {
            let message = format!("the state of `{}` has layout {layout}, not {LAYOUT}", topology.name());
            return Err(Error::new(codes::CONFLICT, message));
        }
        let (mut head, rest) = postcard::take_from_bytes::<Self>(bytes).map_err(|cause| {
            Error::new(codes::CORRUPTED, "a task's head cannot be read").with_source(cause)
        })?;
        if !rest.is_empty() {
            head.repeats = decode(rest)?;
        }
        if head.format != topology.format || head.operators != topology.operators() {
            let message = format!(
                "the state of `{}` is of format {} with operators {:?}, not of format {} with {:?}; give the new one a \
                 namespace of its own, and backfill it",
                topology.name(),
                head.format,
                head.operators,
                topology.format,
                topology.operators()
            );
            return Err(Error::new(codes::CONFLICT, message).with_field("format"));
        }
        Ok(Self { event_time: topology.event_time, ..head })
    }
}
