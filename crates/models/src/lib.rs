//! Model artifacts and their registry.
//!
//! An [`Artifact`] is named tensors and metadata in the safetensors format. The [`Registry`] gives each published
//! artifact of a model the next version, keeps its checksum, and moves aliases (`production`) atomically. A
//! [`Live`] holds the snapshot that requests read, and swaps it without making one wait.
//!
//! It refuses formats that run code when they are read (pickle), and a version whose bytes do not match its
//! checksum.

mod artifact;
mod live;
mod registry;

pub use artifact::{Artifact, Tensor};
pub use live::Live;
pub use registry::{Alias, ModelVersion, Registry};
