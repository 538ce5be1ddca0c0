//! Windows by key, with the times at which they close and are forgotten.
//!
//! A window closes when the watermark reaches its end, and is forgotten when the watermark is past its end by the
//! allowed lateness. Each has one timer, which is looked at again when it fires: a window that grew meanwhile gets
//! another. So the order of what happens depends on the windows alone, and timers need not be stored.

use std::collections::BTreeSet;
use std::fmt::{self, Debug};

use kernel::{Error, Result, TenantId, codes};
use rustc_hash::FxHashMap;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::context::split_tenant;
use crate::operator::{Changed, OpenWindow, State, decode, encode, is_encoded};

const START_BYTES: usize = 8;

/// One window of one key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Window<A> {
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
    /// The newest revision that was passed on.
    pub(crate) revision: Option<u32>,
    /// Whether it changed since then.
    pub(crate) is_pending: bool,
    pub(crate) partial: A,
    #[serde(skip)]
    is_changed: bool,
}

impl<A> Window<A> {
    pub(crate) fn new(start_ms: i64, end_ms: i64, partial: A) -> Self {
        Self { start_ms, end_ms, revision: None, is_pending: true, partial, is_changed: false }
    }

    /// Gives the window, as it is now, its next revision.
    pub(crate) fn next_revision(&mut self) -> u32 {
        let revision = self.revision.map_or(0, |revision| revision + 1);
        self.revision = Some(revision);
        self.is_pending = false;
        revision
    }

    fn timer_ms(&self, lateness_ms: i64) -> i64 {
        if self.is_pending { self.end_ms } else { self.end_ms.saturating_add(lateness_ms) }
    }
}

type Timer = (i64, Box<[u8]>, i64);

/// The windows of every key.
pub(crate) struct Panes<A> {
    lateness_ms: i64,
    windows: FxHashMap<Box<[u8]>, Vec<Window<A>>>,
    timers: FxHashMap<TenantId, BTreeSet<Timer>>,
    changed: Vec<(Box<[u8]>, i64)>,
    count: usize,
}

impl<A> Debug for Panes<A> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Panes").field("windows", &self.count).finish_non_exhaustive()
    }
}

/// What a window that fired wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// To be passed on.
    Close,
    /// To be forgotten.
    Forget,
}

impl<A> Panes<A> {
    pub(crate) fn new(lateness_ms: i64) -> Self {
        Self {
            lateness_ms,
            windows: FxHashMap::default(),
            timers: FxHashMap::default(),
            changed: Vec::new(),
            count: 0,
        }
    }

    /// Whether nothing may change a window with this end any more.
    pub(crate) fn is_settled(&self, end_ms: i64, watermark_ms: i64) -> bool {
        self.settles_at_ms(end_ms) <= watermark_ms
    }

    /// The watermark from which on nothing changes a window with this end.
    pub(crate) fn settles_at_ms(&self, end_ms: i64) -> i64 {
        end_ms.saturating_add(self.lateness_ms)
    }

    /// The windows of a key, oldest first.
    pub(crate) fn of(&self, key: &[u8]) -> &[Window<A>] {
        self.windows.get(key).map_or(&[], Vec::as_slice)
    }

    /// The window of a key that begins then, to be changed.
    pub(crate) fn get(&mut self, key: &[u8], start_ms: i64) -> Option<&mut Window<A>> {
        let windows = self.windows.get_mut(key)?;
        let place = windows.binary_search_by_key(&start_ms, |window| window.start_ms).ok()?;
        let window = &mut windows[place];
        if !window.is_changed {
            window.is_changed = true;
            self.changed.push((key.into(), start_ms));
        }
        Some(window)
    }

    /// Adds a window, which has no other with its start beside it.
    pub(crate) fn add(&mut self, tenant: &TenantId, key: &[u8], mut window: Window<A>) {
        window.is_changed = true;
        let start_ms = window.start_ms;
        self.changed.push((key.into(), start_ms));
        self.arm(tenant, key, &window);
        let windows = match self.windows.get_mut(key) {
            Some(windows) => windows,
            None => self.windows.entry(key.into()).or_default(),
        };
        let place = windows.partition_point(|other| other.start_ms < start_ms);
        windows.insert(place, window);
        self.count += 1;
    }

    /// Takes a window out.
    pub(crate) fn remove(&mut self, key: &[u8], start_ms: i64) -> Option<Window<A>> {
        let windows = self.windows.get_mut(key)?;
        let place = windows.binary_search_by_key(&start_ms, |window| window.start_ms).ok()?;
        let window = windows.remove(place);
        if windows.is_empty() {
            self.windows.remove(key);
        }
        if !window.is_changed {
            self.changed.push((key.into(), start_ms));
        }
        self.count -= 1;
        Some(window)
    }

    fn arm(&mut self, tenant: &TenantId, key: &[u8], window: &Window<A>) {
        let timer = (window.timer_ms(self.lateness_ms), key.into(), window.start_ms);
        match self.timers.get_mut(tenant) {
            Some(timers) => drop(timers.insert(timer)),
            None => drop(self.timers.entry(tenant.clone()).or_default().insert(timer)),
        }
    }

    /// The next window of a tenant that wants something at this watermark. It is armed again by
    /// [`Panes::rearm`] after a close.
    pub(crate) fn fire(&mut self, tenant: &TenantId, watermark_ms: i64) -> Option<(Box<[u8]>, i64, Due)> {
        let timers = self.timers.get_mut(tenant)?;
        while timers.first().is_some_and(|(at_ms, ..)| *at_ms <= watermark_ms) {
            let (at_ms, key, start_ms) = timers.pop_first()?;
            let windows = self.windows.get(&key).map_or(&[][..], Vec::as_slice);
            let found = windows.binary_search_by_key(&start_ms, |window| window.start_ms);
            let Ok(place) = found else { continue };
            let window = &windows[place];
            let due_ms = window.timer_ms(self.lateness_ms);
            if due_ms > at_ms {
                timers.insert((due_ms, key, start_ms));
                continue;
            }
            let due = if window.is_pending { Due::Close } else { Due::Forget };
            return Some((key, start_ms, due));
        }
        None
    }

    /// Sets the timer of a window that was passed on.
    pub(crate) fn rearm(&mut self, tenant: &TenantId, key: &[u8], start_ms: i64) {
        let timer = self.of(key).iter().find(|window| window.start_ms == start_ms);
        let Some(at_ms) = timer.map(|window| window.timer_ms(self.lateness_ms)) else { return };
        if let Some(timers) = self.timers.get_mut(tenant) {
            timers.insert((at_ms, key.into(), start_ms));
        }
    }
}

fn stored_key(key: &[u8], start_ms: i64) -> Vec<u8> {
    let ordered = start_ms.cast_unsigned() ^ (1 << 63);
    [key, &ordered.to_be_bytes()].concat()
}

fn read_key(stored: &[u8]) -> Option<(&[u8], i64)> {
    let (key, start) = stored.split_at_checked(stored.len().checked_sub(START_BYTES)?)?;
    let ordered = u64::from_be_bytes(start.try_into().ok()?) ^ (1 << 63);
    Some((key, ordered.cast_signed()))
}

impl<A: Serialize + DeserializeOwned> State for Panes<A> {
    fn drain(&mut self, see: &mut Changed<'_>) {
        let mut bytes = Vec::new();
        for (key, start_ms) in std::mem::take(&mut self.changed) {
            let stored = stored_key(&key, start_ms);
            let windows = self.windows.get_mut(&key).map_or(&mut [][..], Vec::as_mut_slice);
            let Ok(place) = windows.binary_search_by_key(&start_ms, |window| window.start_ms) else {
                see(&stored, None);
                continue;
            };
            windows[place].is_changed = false;
            bytes.clear();
            encode(&windows[place], &mut bytes);
            see(&stored, Some(&bytes));
        }
    }

    fn holds(&self, key: &[u8], value: &[u8]) -> bool {
        let Some((key, start_ms)) = read_key(key) else { return false };
        let found = self.of(key).iter().find(|window| window.start_ms == start_ms);
        found.is_some_and(|window| is_encoded(window, value))
    }

    fn load(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        let damaged = || Error::new(codes::CORRUPTED, "the key of a stored window cannot be read");
        let (key, start_ms) = read_key(key).ok_or_else(damaged)?;
        let (tenant, _) = split_tenant(key).ok_or_else(damaged)?;
        self.remove(key, start_ms);
        if let Some(value) = value {
            self.add(&tenant, key, decode(value)?);
        }
        self.changed.clear();
        let windows = self.windows.get_mut(key).into_iter().flatten();
        windows.for_each(|window| window.is_changed = false);
        Ok(())
    }

    fn show(&self, see: &mut dyn FnMut(&[u8], &[u8])) {
        let mut keys: Vec<_> = self.windows.iter().collect();
        keys.sort_unstable_by_key(|(key, _)| *key);
        let mut bytes = Vec::new();
        for (key, windows) in keys {
            for window in windows {
                bytes.clear();
                encode(window, &mut bytes);
                see(&stored_key(key, window.start_ms), &bytes);
            }
        }
    }

    fn len(&self) -> usize {
        self.count
    }

    fn due_ms(&self, tenant: &TenantId) -> Option<i64> {
        let (at_ms, ..) = self.timers.get(tenant)?.first()?;
        Some(*at_ms)
    }

    fn windows(&self, key: &[u8]) -> Vec<OpenWindow> {
        let open = |window: &Window<A>| {
            let mut partial = Vec::new();
            encode(&window.partial, &mut partial);
            let Window { start_ms, end_ms, revision, .. } = *window;
            OpenWindow { start_ms, end_ms, revision, partial }
        };
        self.of(key).iter().map(open).collect()
    }
}
