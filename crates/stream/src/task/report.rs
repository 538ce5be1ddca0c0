//! What a task can be asked.

use kernel::TenantId;

use crate::context::write_tenant;
use crate::operator::{Counts, OpenWindow, Part, State, encode};
use crate::task::changes::{Change, HELD};
use crate::task::delivery::Delivery;
use crate::task::head::Head;
use crate::task::{Progress, Task, Totals};

impl Task {
    /// The first offset that is not taken.
    #[must_use]
    pub fn next_offset(&self) -> u64 {
        self.head.next_offset
    }

    /// Which part of the topic it takes.
    pub(crate) fn partition(&self) -> u32 {
        self.partition
    }

    /// How often it was opened, by any process.
    pub(crate) fn epoch(&self) -> u64 {
        self.head.epoch
    }

    /// How far it came with what is delivered.
    pub(crate) fn delivered(&self) -> Progress {
        if matches!(self.delivery, Delivery::Done) { self.committed } else { self.delivered }
    }

    /// How far it came with what is committed.
    pub(crate) fn committed(&self) -> Progress {
        self.committed
    }

    /// What became of the events so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.head.totals
    }

    /// Events whose time is not believed yet.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// How far each tenant has come, in milliseconds since 1970.
    pub fn watermarks(&self) -> impl Iterator<Item = (&TenantId, i64)> {
        let rule = self.topology.event_time;
        self.head.tides.iter().map(move |(tenant, tide)| (tenant, tide.watermark_ms(rule)))
    }

    /// The watermark of a tenant at which something is to be done without another event of it; none where nothing waits
    /// for time.
    pub fn due_ms(&mut self, tenant: &TenantId) -> Option<i64> {
        if self.held.count(tenant) > 0 {
            return Some(i64::MIN);
        }
        let mut due_ms = None;
        self.program.visit(&mut |Part { state, .. }| {
            let of_state = state.and_then(|state| state.due_ms(tenant));
            due_ms = [due_ms, of_state].into_iter().flatten().min();
        });
        due_ms
    }

    /// By operator, what it counted and how many values it remembers.
    pub fn operators(&mut self) -> Vec<(&'static str, Counts, usize)> {
        let mut operators = Vec::new();
        self.program.visit(&mut |Part { site, state }| {
            operators.push((site.name, site.counts, state.map_or(0, |state| state.len())));
        });
        operators
    }

    /// The windows of a key that may still change, as they stand after the last step.
    pub fn windows(&mut self, operator: &str, tenant: &TenantId, key: &[u8]) -> Vec<OpenWindow> {
        let mut state_key = Vec::new();
        write_tenant(tenant, &mut state_key);
        state_key.extend_from_slice(key);
        let mut windows = Vec::new();
        self.program.visit(&mut |Part { site, state }| {
            if site.name == operator
                && let Some(state) = state
            {
                windows = state.windows(&state_key);
            }
        });
        windows
    }

    /// Everything that the task knows, as bytes: the same for the same events, whatever happened on the way.
    pub fn state(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let Head { next_offset, totals, tides, .. } = &self.head;
        encode(&(next_offset, totals, tides), &mut bytes);
        let mut part = 0;
        self.program.visit(&mut |Part { site, state }| {
            encode(&site.counts, &mut bytes);
            if let Some(state) = state {
                show(part, state, &mut bytes);
            }
            part += 1;
        });
        show(HELD, &self.held, &mut bytes);
        bytes
    }
}

fn show(part: u16, state: &dyn State, bytes: &mut Vec<u8>) {
    state.show(&mut |key, value| Change { part, key, value: Some(value) }.write(bytes));
}
