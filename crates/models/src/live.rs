//! The snapshot that is served now.

use std::fmt::{self, Debug};
use std::sync::Arc;

use arc_swap::ArcSwapOption;

/// A snapshot that many requests read while another is put in its place. A request keeps the one it began with.
pub struct Live<T>(ArcSwapOption<T>);

impl<T> Live<T> {
    /// Nothing is served yet.
    #[must_use]
    pub fn empty() -> Self {
        Self(ArcSwapOption::empty())
    }

    /// What is served now.
    #[must_use]
    pub fn get(&self) -> Option<Arc<T>> {
        self.0.load_full()
    }

    /// Serves `snapshot` from now on.
    pub fn swap(&self, snapshot: Arc<T>) {
        self.0.store(Some(snapshot));
    }
}

impl<T> Debug for Live<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Live").field("serving", &self.0.load().is_some()).finish()
    }
}
