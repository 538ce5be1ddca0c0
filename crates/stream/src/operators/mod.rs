//! The operators, one file each. What they need of each other is in [`keyed_map`] (values by key) and [`panes`]
//! (windows by key, with their timers).

pub(crate) mod deduplicate;
mod hashes;
pub(crate) mod keyed;
mod keyed_map;
pub(crate) mod output;
mod panes;
mod ranges;
pub(crate) mod session;
pub(crate) mod stateless;
pub(crate) mod window;
