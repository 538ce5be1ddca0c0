//! The errors of training and loading. Serving has none: unknown items are ignored.

/// Why a sequence model could not be made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SequenceError {
    /// A setting is out of its range.
    #[error("sequence setting `{name}` is {value}; set it to {allowed}")]
    Setting {
        /// The field of the settings.
        name: &'static str,
        /// What it was.
        value: f64,
        /// What it may be.
        allowed: &'static str,
    },
    /// The offsets do not describe rows of the items.
    #[error("sequence offsets must begin at 0, never fall and end at the {items} items")]
    Offsets {
        /// The number of items in all rows.
        items: usize,
    },
    /// An item id is outside the catalogue.
    #[error("item {item} at event {event} is outside the catalogue of {item_count}; number items from 0")]
    Item {
        /// The item id.
        item: u32,
        /// Its index in the items of all rows.
        event: usize,
        /// The size of the catalogue.
        item_count: usize,
    },
    /// The catalogue does not fit the item ids.
    #[error("a catalogue of {item_count} items does not fit 32-bit ids; use fewer items")]
    Catalogue {
        /// The size of the catalogue.
        item_count: usize,
    },
    /// The progress callback asked to stop.
    #[error("sequence training was cancelled; train again for a model")]
    Cancelled,
    /// The loss is no longer a number.
    #[error("sequence training diverged in epoch {epoch}; lower `learning_rate`")]
    Diverged {
        /// From 0.
        epoch: usize,
    },
    /// A stored tensor is missing, misshapen or not finite.
    #[error("sequence tensor `{name}` {problem}; train the model again")]
    Tensor {
        /// The name of the tensor.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}
