//! How far the indexes of words are that are built again. What is told is of this process, whose index it is: another has its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kernel::{Error, Result, TenantId};
use parking_lot::Mutex;

/// What becomes of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RebuildState {
    /// It is being built; the one before answers.
    Building,
    /// It answers.
    Rebuilt,
    /// It was given up; the one before answers on.
    Failed,
}

/// An index that is built again, and how far it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Rebuild {
    /// What becomes of it.
    pub state: RebuildState,
    /// Changes of the tenant's items that are in it.
    pub changes: u64,
    /// The part of the log that was read, 0 to 1.
    pub progress: f64,
    /// Why it was given up.
    pub fault: Option<String>,
}

/// Counts what is read, while an index is built.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    read: AtomicU64,
    of: AtomicU64,
    changes: AtomicU64,
    /// How it ended.
    ended: Mutex<Option<Result<(), String>>>,
}

impl Gauge {
    /// So many events are there to be read.
    pub(crate) fn expect(&self, events: u64) {
        self.of.store(events, Ordering::Relaxed);
    }

    pub(crate) fn note(&self, events: u64, changes: u64) {
        self.read.fetch_add(events, Ordering::Relaxed);
        self.changes.fetch_add(changes, Ordering::Relaxed);
    }

    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    pub(crate) fn end(&self, ended: &Result<u64>) {
        // What a caller may be told; the log has the rest.
        *self.ended.lock() = Some(ended.as_ref().map(|_| ()).map_err(Error::to_string));
    }

    pub(crate) fn told(&self) -> Rebuild {
        let (read, of) = (self.read.load(Ordering::Relaxed), self.of.load(Ordering::Relaxed));
        let (state, fault) = match &*self.ended.lock() {
            None => (RebuildState::Building, None),
            Some(Ok(())) => (RebuildState::Rebuilt, None),
            Some(Err(fault)) => (RebuildState::Failed, Some(fault.clone())),
        };
        let progress = match state {
            RebuildState::Rebuilt => 1.0,
            _ if of == 0 => 0.0,
            // The rest of the log, which comes meanwhile, is more than was expected.
            _ => (read as f64 / of as f64).min(1.0),
        };
        Rebuild { state, changes: self.changes(), progress, fault }
    }
}

/// Ends a build that panicked, so that it is not told as going on for ever.
#[derive(Debug)]
pub(crate) struct Ending(pub(crate) Arc<Gauge>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.ended.lock().get_or_insert_with(|| Err("it broke off; the log says why".to_owned()));
    }
}

/// The last of each tenant.
#[derive(Debug, Default)]
pub(crate) struct Rebuilds(Mutex<BTreeMap<TenantId, Arc<Gauge>>>);

impl Rebuilds {
    pub(crate) fn of(&self, tenant: &TenantId) -> Option<Rebuild> {
        self.0.lock().get(tenant).map(|gauge| gauge.told())
    }

    /// This is the tenant's from now on.
    pub(crate) fn begin(&self, tenant: &TenantId, gauge: &Arc<Gauge>) {
        self.0.lock().insert(tenant.clone(), Arc::clone(gauge));
    }
}

#[cfg(test)]
mod tests {
    use kernel::codes;

    use super::*;

    #[test]
    fn progress_is_told_until_the_end() {
        let gauge = Gauge::default();
        let told = || (gauge.told().state, gauge.told().progress, gauge.told().changes);
        assert_eq!(told(), (RebuildState::Building, 0.0, 0));
        gauge.expect(10);
        gauge.note(4, 1);
        assert_eq!(told(), (RebuildState::Building, 0.4, 1));
        gauge.note(7, 0);
        assert_eq!(told(), (RebuildState::Building, 1.0, 1));
        gauge.end(&Err(Error::new(codes::STORAGE_FULL, "no room")));
        assert_eq!(
            (gauge.told().state, gauge.told().fault.as_deref()),
            (RebuildState::Failed, Some("no room"))
        );
        gauge.end(&Ok(1));
        assert_eq!((gauge.told().state, gauge.told().fault), (RebuildState::Rebuilt, None));
        let broken = Arc::new(Gauge::default());
        drop(Ending(Arc::clone(&broken)));
        assert_eq!(broken.told().state, RebuildState::Failed);
        let ending = Ending(Arc::new(gauge));
        let whole = Arc::clone(&ending.0);
        drop(ending);
        assert_eq!(whole.told().state, RebuildState::Rebuilt);
    }
}
