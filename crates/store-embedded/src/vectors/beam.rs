//! What a walk through the graph works with: the nearest nodes so far, and which were seen.

/// A node and its distance, in one word that orders by distance, then by node. The lowest bit tells whether its
/// neighbours were looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Candidate(u64);

impl Candidate {
    #[inline(always)]
    pub(super) fn new(distance: u32, node: u32) -> Self {
        Self(u64::from(distance) << 32 | u64::from(node) << 1)
    }

    #[inline(always)]
    pub(super) fn distance(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
    pub(super) fn node(self) -> u32 {
        self.0 as u32 >> 1
    }

    #[inline(always)]
    fn is_expanded(self) -> bool {
        self.0 & 1 == 1
    }
}

/// The nearest candidates, at most so many, in order.
#[derive(Debug, Default)]
pub(super) struct Beam {
    nearest: Vec<Candidate>,
    width: usize,
    // All before it are expanded.
    next: usize,
}

impl Beam {
    #[inline(always)]
    pub(super) fn clear(&mut self, width: usize) {
        self.nearest.clear();
        self.width = width;
        self.next = 0;
    }

    pub(super) fn candidates(&self) -> &[Candidate] {
        &self.nearest
    }

    /// Adds a candidate where it is near enough.
    #[inline(always)]
    pub(super) fn offer(&mut self, candidate: Candidate) {
        if self.nearest.len() == self.width {
            if self.nearest.last().is_none_or(|last| candidate >= *last) {
                return;
            }
            self.nearest.pop();
        }
        let place = self.nearest.partition_point(|other| *other < candidate);
        self.nearest.insert(place, candidate);
        self.next = self.next.min(place);
    }

    /// The nearest one that is not expanded, which it is from now on.
    #[inline(always)]
    pub(super) fn expand(&mut self) -> Option<u32> {
        while let Some(candidate) = self.nearest.get_mut(self.next) {
            self.next += 1;
            if !candidate.is_expanded() {
                candidate.0 |= 1;
                return Some(candidate.node());
            }
        }
        None
    }

    /// Takes all out as fresh ones, to start the next walk from.
    pub(super) fn drain_into(&mut self, starts: &mut Vec<Candidate>) {
        starts.clear();
        starts.extend(self.nearest.drain(..).map(|candidate| Candidate(candidate.0 & !1)));
    }
}

/// One bit for each node.
#[derive(Debug, Default, Clone)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    #[inline(always)]
    pub(super) fn clear(&mut self, nodes: usize) {
        self.0.clear();
        self.0.resize(nodes.div_ceil(64), 0);
    }

    /// Sets the bit of a node; tells whether it was set.
    #[inline(always)]
    pub(super) fn set(&mut self, node: u32) -> bool {
        let word = &mut self.0[node as usize / 64];
        let bit = 1 << (node % 64);
        let was = *word & bit != 0;
        *word |= bit;
        was
    }

    pub(super) fn has(&self, node: u32) -> bool {
        self.0.get(node as usize / 64).is_some_and(|word| word & (1 << (node % 64)) != 0)
    }
}
