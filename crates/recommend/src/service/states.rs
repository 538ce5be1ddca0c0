//! What is served for one tenant: the snapshot, the one before it (for cursors), and what is kept of each user so
//! that a request need not begin at the start of a history.

use std::sync::Arc;

use kernel::Result;
use models::Live;
use moka::sync::Cache;

use super::context::Context;
use super::cursor::{self, Cursor};
use crate::serving::{Recommenders, UserState};

/// Memory for users' states.
const STATE_BYTES: u64 = 128 << 20;

/// What is served for one tenant.
#[derive(Debug)]
pub struct Served {
    current: Live<Recommenders>,
    previous: Live<Recommenders>,
    states: Cache<u32, Arc<UserState>>,
}

impl Default for Served {
    fn default() -> Self {
        let weigh = |_: &u32, state: &Arc<UserState>| u32::try_from(state.size_bytes()).unwrap_or(u32::MAX);
        let states = Cache::builder().max_capacity(STATE_BYTES).weigher(weigh).build();
        Self { current: Live::empty(), previous: Live::empty(), states }
    }
}

impl Served {
    /// Serves another snapshot from now on.
    pub fn swap(&self, recommenders: Arc<Recommenders>) {
        if let Some(before) = self.current.get() {
            self.previous.swap(before);
        }
        self.current.swap(recommenders);
    }

    /// Serves the same version with a newer catalogue, unless another version came in between.
    pub(super) fn refresh(&self, recommenders: Arc<Recommenders>) {
        if self.current.get().is_some_and(|current| current.version == recommenders.version) {
            self.current.swap(recommenders);
        }
    }

    /// The snapshot that is served now.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Recommenders>> {
        self.current.get()
    }

    /// The snapshot that a cursor was made with; the current one without a cursor.
    ///
    /// # Errors
    /// `CURSOR_EXPIRED` when it is no longer held.
    pub(super) fn pinned(&self, pin: Option<Cursor>) -> Result<Option<Arc<Recommenders>>> {
        let current = self.current.get();
        let Some(pin) = pin else { return Ok(current) };
        let wanted = |model: &Arc<Recommenders>| model.version == pin.model_version;
        match (current, self.previous.get()) {
            // The list needed no model, whether or not there is one.
            _ if pin.model_version == 0 => Ok(None),
            (Some(model), _) if wanted(&model) => Ok(Some(model)),
            (_, Some(model)) if wanted(&model) => Ok(Some(model)),
            _ => Err(cursor::expired()),
        }
    }

    /// The state of a user under this snapshot: the kept one where it is current, moved on where the history only
    /// grew, made anew otherwise.
    pub(super) fn state(&self, user: u32, model: &Recommenders, context: &Context) -> Option<Arc<UserState>> {
        if context.entities.is_empty() {
            return None;
        }
        let kept = self.states.get(&user);
        if let Some(kept) = &kept
            && kept.is_current(model, context)
        {
            return Some(Arc::clone(kept));
        }
        let state = Arc::new(model.state_after(kept.as_deref(), context));
        self.states.insert(user, Arc::clone(&state));
        Some(state)
    }
}
