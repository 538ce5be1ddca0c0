//! The words every other crate shares: ids, [`Scope`], the [`Event`] envelope, time, randomness, errors.
//!
//! It does no I/O, knows no engine and no protocol, and stays under 1,500 lines by rule (a test holds it).
//! A word moves in here only when two crates on different floors need the same one; everything else lives
//! with its owner.

mod clock;
mod entropy;
mod error;
mod event;
mod hex;
mod id;
pub mod json;
mod payload;
mod scope;

pub use clock::{Clock, ManualClock, SystemClock};
pub use entropy::{Entropy, SeededEntropy, SystemEntropy};
pub use error::{Error, ErrorCode, ErrorKind, Result, codes};
pub use event::{Event, EventDraft, Extensions, MAX_EVENT_BYTES, MAX_EXTENSIONS, SPEC_VERSION};
pub use hex::hex;
pub use id::{Id, TenantId};
pub use jiff::Timestamp;
pub use payload::Payload;
pub use scope::{Actor, Permission, Scope};
