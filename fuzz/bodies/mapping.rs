//! The column mapping: any text is refused or understood.

use recommend::import::{Mapping, TimeUnit};

/// # Panics
/// Never, where the reader is right.
pub(crate) fn mapping(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = text.parse::<Mapping>();
    let _ = text.parse::<TimeUnit>();
}
