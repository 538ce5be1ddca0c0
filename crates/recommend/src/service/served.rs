//! What is served for one tenant: the snapshot, and the one before it for cursors.

use std::sync::Arc;

use kernel::Result;
use models::Live;
use parking_lot::Mutex;

use super::cursor::{self, Pin};
use crate::serving::Recommenders;

/// What is served for one tenant.
#[derive(Debug)]
pub struct Served {
    current: Live<Recommenders>,
    previous: Live<Recommenders>,
    /// Held by who changes them.
    turn: Mutex<()>,
}

impl Default for Served {
    fn default() -> Self {
        Self { current: Live::empty(), previous: Live::empty(), turn: Mutex::default() }
    }
}

impl Served {
    /// Serves another snapshot from now on.
    pub fn swap(&self, recommenders: Arc<Recommenders>) {
        let _turn = self.turn.lock();
        if let Some(before) = self.current.get() {
            before.forget_states();
            self.previous.swap(before);
        }
        self.current.swap(recommenders);
    }

    /// Serves the same version with a newer catalogue, unless another version came in between.
    pub(super) fn refresh(&self, recommenders: Arc<Recommenders>) {
        let _turn = self.turn.lock();
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
    pub(super) fn pinned(&self, pin: Option<Pin>) -> Result<Option<Arc<Recommenders>>> {
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
}
