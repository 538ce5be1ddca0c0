//! A graph of near neighbours in layers (HNSW; Malkov and Yashunin, 2018), over vectors as integers or as numbers.
//!
//! A change is planned while others read, and then only copied in, so that a search never waits for more than a copy. One
//! thread plans and applies; the same calls in the same order make the same graph on every machine. A node that is gone
//! stays as a way through until the next repair, which gives its neighbours each other (Singh et al., 2021, FreshDiskANN)
//! and frees its place.

use std::cmp::Reverse;
use std::fmt::{self, Debug};

use rustc_hash::FxHashMap;

use super::beam::{Beam, Bits, Candidate};
use super::coding::{Code, Coder};

/// Links that a new node gets on each layer.
const LINKS: usize = 16;
/// Links that a node has at most on an upper layer.
const MAX_UPPER: usize = LINKS;
/// Links that a node has at most on the lowest layer.
const MAX_BASE: usize = 2 * LINKS;
/// Candidates among which the links of a new node are chosen.
const BUILD_WIDTH: usize = 100;
/// With fewer links left after a repair, a node is searched for as if it were new.
const FEW_LINKS: usize = 4;
/// No node is on a higher layer.
const MAX_LAYER: u32 = 12;

/// The graph, whatever its vectors are kept as.
pub(super) trait Index: Send + Sync + Debug {
    /// Puts a vector into a place that nothing leads to; false where it cannot be told in codes.
    fn put(&mut self, node: u32, vector: &[f32]) -> bool;
    /// Works out how a node that was put in is linked, to none that are gone.
    fn plan(&self, node: u32, gone: &Bits, scratch: &mut Scratch);
    /// Works out the links that a node has without those that are gone.
    fn plan_repair(&self, node: u32, gone: &Bits, scratch: &mut Scratch);
    /// Does what was planned last.
    fn apply(&mut self, plan: &Plan);
    /// Begins every walk at one of the others, should it begin at a node that is gone.
    fn move_entry(&mut self, gone: &Bits, others: &[u32]);
    /// Empties the places of nodes that nothing leads to any more.
    fn free(&mut self, nodes: &[u32]);
    /// Leaves the `width` nearest in the scratch; false where the query cannot be told in codes.
    fn search(&self, query: &[f32], width: usize, scratch: &mut Scratch) -> bool;
}

/// New links of some nodes.
#[derive(Debug, Default)]
pub(super) struct Plan {
    node: u32,
    changes: Vec<Change>,
    links: Vec<u32>,
}

#[derive(Debug)]
struct Change {
    layer: u8,
    node: u32,
    end: usize,
}

impl Plan {
    /// Whether nothing changes.
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    fn clear(&mut self, node: u32) {
        self.node = node;
        self.changes.clear();
        self.links.clear();
    }

    fn add(&mut self, layer: u8, node: u32, links: impl Iterator<Item = u32>) {
        self.links.extend(links);
        self.changes.push(Change { layer, node, end: self.links.len() });
    }
}

/// What a walk works in.
#[derive(Debug, Default)]
struct Work {
    beam: Beam,
    seen: Bits,
    fresh: Vec<u32>,
    measured: Vec<Candidate>,
}

/// What one change or search after the other works in.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) plan: Plan,
    work: Work,
    starts: Vec<Candidate>,
    near: Vec<Candidate>,
    chosen: Vec<Candidate>,
    mine: Vec<u32>,
}

impl Scratch {
    /// What the last search found, nearest first.
    pub(super) fn found(&self) -> &[Candidate] {
        self.work.beam.candidates()
    }
}

/// See the module.
pub(super) struct Graph<C> {
    coder: Coder,
    codes: Vec<C>,
    // For each node: how many links, then the links.
    base: Vec<u32>,
    // Of the nodes that are above the lowest layer: the links on each layer from the second.
    upper: FxHashMap<u32, Vec<Vec<u32>>>,
    entry: Option<u32>,
    drawn: u64,
}

impl<C: Code> Debug for Graph<C> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Graph<{}> of {} places", std::any::type_name::<C>(), self.places())
    }
}

impl<C: Code> Graph<C> {
    pub(super) fn new(coder: Coder, seed: u64) -> Self {
        Self {
            coder,
            codes: Vec::new(),
            base: Vec::new(),
            upper: FxHashMap::default(),
            entry: None,
            drawn: seed,
        }
    }

    fn places(&self) -> usize {
        self.base.len() / (MAX_BASE + 1)
    }

    #[inline(always)]
    fn code(&self, node: u32) -> &[C] {
        let width = self.coder.width();
        &self.codes[node as usize * width..][..width]
    }

    #[inline(always)]
    fn links(&self, layer: u8, node: u32) -> &[u32] {
        if layer > 0 {
            let layers = self.upper.get(&node);
            return layers.and_then(|layers| layers.get(usize::from(layer) - 1)).map_or(&[], |links| links);
        }
        let block = &self.base[node as usize * (MAX_BASE + 1)..][..=MAX_BASE];
        &block[1..=block[0] as usize]
    }

    fn layer_of(&self, node: u32) -> u8 {
        #[expect(clippy::cast_possible_truncation, reason = "there are few layers")]
        self.upper.get(&node).map_or(0, |layers| layers.len() as u8)
    }

    #[inline(always)]
    fn distance(&self, code: &[C], node: u32) -> u32 {
        C::distance(code, self.code(node))
    }

    /// One in sixteen is a layer higher. The bits come from a counter (Steele et al., 2014, SplitMix).
    fn draw_layer(&mut self) -> usize {
        self.drawn = self.drawn.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.drawn ^ (self.drawn >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).trailing_zeros().div_euclid(LINKS.ilog2()).min(MAX_LAYER) as usize
    }

    /// Goes down to the layer, always to the nearest neighbour.
    #[inline(always)]
    fn descend(&self, code: &[C], entry: u32, to: u8) -> Candidate {
        let mut best = Candidate::new(self.distance(code, entry), entry);
        for layer in (to + 1..=self.layer_of(entry)).rev() {
            let mut from = None;
            while from != Some(best) {
                from = Some(best);
                for &node in self.links(layer, best.node()) {
                    best = best.min(Candidate::new(self.distance(code, node), node));
                }
            }
        }
        best
    }

    /// Widens the beam from its starts until nothing nearer is found.
    #[inline(always)]
    fn walk(&self, code: &[C], layer: u8, width: usize, starts: &[Candidate], work: &mut Work) {
        let Work { beam, seen, fresh, measured } = work;
        beam.clear(width);
        seen.clear(self.places());
        for start in starts {
            seen.set(start.node());
            beam.offer(*start);
        }
        while let Some(node) = beam.expand() {
            fresh.clear();
            for &link in self.links(layer, node) {
                if !seen.set(link) {
                    fresh.push(link);
                }
            }
            // All are measured before the first is compared, so that the memory works on several at once.
            measured.clear();
            for &node in &*fresh {
                measured.push(Candidate::new(self.distance(code, node), node));
            }
            for candidate in &*measured {
                beam.offer(*candidate);
            }
        }
    }

    /// Chooses from candidates in order those that are nearer than to each other, so that links lead into all directions
    /// (algorithm 4 of the paper). Equal ones get half of the places, so that they do not shut themselves off.
    #[inline(always)]
    fn choose(&self, near: &[Candidate], count: usize, chosen: &mut Vec<Candidate>) {
        chosen.clear();
        for candidate in near {
            if chosen.len() == count {
                break;
            }
            let code = self.code(candidate.node());
            let mut is_apart = candidate.distance() > 0 || chosen.len() < count / 2;
            for other in &*chosen {
                is_apart = is_apart && self.distance(code, other.node()) >= candidate.distance();
            }
            if is_apart {
                chosen.push(*candidate);
            }
        }
    }

    #[inline(always)]
    fn plan_layer(&self, node: u32, layer: u8, gone: &Bits, scratch: &mut Scratch) {
        let Scratch { plan, near, chosen, mine, starts, .. } = scratch;
        let most = if layer == 0 { MAX_BASE } else { MAX_UPPER };
        near.clear();
        near.extend(starts.iter().filter(|start| start.node() != node && !gone.has(start.node())));
        self.choose(near, LINKS, chosen);
        mine.clear();
        mine.extend(chosen.iter().map(|candidate| candidate.node()));
        plan.add(layer, node, mine.iter().copied());
        for &other in &*mine {
            let links = self.links(layer, other);
            if links.contains(&node) {
                continue;
            }
            if links.len() < most {
                plan.add(layer, other, links.iter().copied().chain([node]));
                continue;
            }
            self.sort(other, links.iter().copied().chain([node]), near);
            self.choose(near, most, chosen);
            plan.add(layer, other, chosen.iter().map(|candidate| candidate.node()));
        }
    }

    #[inline(always)]
    fn sort(&self, node: u32, others: impl Iterator<Item = u32>, near: &mut Vec<Candidate>) {
        let code = self.code(node);
        near.clear();
        for other in others {
            near.push(Candidate::new(self.distance(code, other), other));
        }
        near.sort_unstable();
    }

    #[inline(always)]
    fn plan_with(&self, node: u32, gone: &Bits, scratch: &mut Scratch) {
        scratch.plan.clear(node);
        let Some(entry) = self.entry else { return };
        let (code, lowest) = (self.code(node), self.layer_of(node).min(self.layer_of(entry)));
        scratch.starts.clear();
        scratch.starts.push(self.descend(code, entry, lowest));
        for layer in (0..=lowest).rev() {
            let Scratch { work, starts, .. } = scratch;
            self.walk(code, layer, BUILD_WIDTH, starts, work);
            work.beam.drain_into(starts);
            self.plan_layer(node, layer, gone, scratch);
        }
    }

    #[inline(always)]
    fn plan_repair_with(&self, node: u32, gone: &Bits, scratch: &mut Scratch) {
        scratch.plan.clear(node);
        for layer in 0..=self.layer_of(node) {
            let links = self.links(layer, node);
            if !links.iter().any(|link| gone.has(*link)) {
                continue;
            }
            let Scratch { plan, near, chosen, mine, .. } = scratch;
            let of_gone = links.iter().filter(|link| gone.has(**link));
            let of_gone = of_gone.flat_map(|link| self.links(layer, *link));
            mine.clear();
            mine.extend(links.iter().chain(of_gone).filter(|other| **other != node && !gone.has(**other)));
            mine.sort_unstable();
            mine.dedup();
            let most = if layer == 0 { MAX_BASE } else { MAX_UPPER };
            self.sort(node, mine.iter().copied(), near);
            self.choose(near, most, chosen);
            plan.add(layer, node, chosen.iter().map(|candidate| candidate.node()));
        }
    }
}

/// What runs with the widest registers of the machine. All of it must be inlined for that, which the closures of iterators
/// are not: distances are taken in plain loops.
struct Planning<'a, C>(&'a Graph<C>, u32, &'a Bits, &'a mut Scratch);

impl<C: Code> pulp::NullaryFnOnce for Planning<'_, C> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.0.plan_with(self.1, self.2, self.3);
    }
}

struct Repairing<'a, C>(&'a Graph<C>, u32, &'a Bits, &'a mut Scratch);

impl<C: Code> pulp::NullaryFnOnce for Repairing<'_, C> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.0.plan_repair_with(self.1, self.2, self.3);
    }
}

struct Searching<'a, C>(&'a Graph<C>, &'a [C], usize, &'a mut Scratch);

impl<C: Code> pulp::NullaryFnOnce for Searching<'_, C> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self(graph, query, width, scratch) = self;
        scratch.work.beam.clear(width);
        if let Some(entry) = graph.entry {
            let start = graph.descend(query, entry, 0);
            graph.walk(query, 0, width, &[start], &mut scratch.work);
        }
    }
}

impl<C: Code> Index for Graph<C> {
    fn put(&mut self, node: u32, vector: &[f32]) -> bool {
        let width = self.coder.width();
        let mut code = vec![C::default(); width];
        if !C::encode(&self.coder, vector, &mut code) {
            return false;
        }
        let place = node as usize;
        if place >= self.places() {
            self.codes.resize((place + 1) * width, C::default());
            self.base.resize((place + 1) * (MAX_BASE + 1), 0);
        }
        self.codes[place * width..][..width].copy_from_slice(&code);
        let layer = self.draw_layer();
        if layer > 0 {
            self.upper.insert(node, vec![Vec::new(); layer]);
        }
        true
    }

    fn plan(&self, node: u32, gone: &Bits, scratch: &mut Scratch) {
        pulp::Arch::new().dispatch(Planning(self, node, gone, scratch));
    }

    fn plan_repair(&self, node: u32, gone: &Bits, scratch: &mut Scratch) {
        pulp::Arch::new().dispatch(Repairing(self, node, gone, scratch));
        let left = scratch.plan.changes.first().filter(|change| change.layer == 0);
        if left.is_some_and(|change| change.end < FEW_LINKS) {
            self.plan(node, gone, scratch);
        }
    }

    fn apply(&mut self, plan: &Plan) {
        let mut start = 0;
        for change in &plan.changes {
            let links = &plan.links[start..change.end];
            start = change.end;
            if change.layer == 0 {
                let block = &mut self.base[change.node as usize * (MAX_BASE + 1)..][..=MAX_BASE];
                block[0] = u32::try_from(links.len()).expect("few links");
                block[1..=links.len()].copy_from_slice(links);
            } else if let Some(layers) = self.upper.get_mut(&change.node)
                && let Some(layer) = layers.get_mut(usize::from(change.layer) - 1)
            {
                layer.clear();
                layer.extend_from_slice(links);
            }
        }
        if self.entry.is_none_or(|entry| self.layer_of(plan.node) > self.layer_of(entry)) {
            self.entry = Some(plan.node);
        }
    }

    fn move_entry(&mut self, gone: &Bits, others: &[u32]) {
        if self.entry.is_some_and(|entry| gone.has(entry)) {
            let highest = others.iter().copied().max_by_key(|node| (self.layer_of(*node), Reverse(*node)));
            self.entry = highest;
        }
    }

    fn free(&mut self, nodes: &[u32]) {
        for node in nodes {
            self.base[*node as usize * (MAX_BASE + 1)] = 0;
            self.upper.remove(node);
        }
    }

    fn search(&self, query: &[f32], width: usize, scratch: &mut Scratch) -> bool {
        let mut code = vec![C::default(); self.coder.width()];
        if !C::encode_query(&self.coder, query, &mut code) {
            return false;
        }
        pulp::Arch::new().dispatch(Searching(self, &code, width, scratch));
        true
    }
}
