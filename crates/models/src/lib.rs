//! Models: how they were made, which versions there are, which one serves, and the artifact that is loaded.
//!
//! - [`tracking`]: experiments, runs with parameters, metrics, tags and data; models that runs made.
//! - [`registered`]: models by name, immutable versions, aliases, stages as a view on them, history, promotion, rollback.
//! - [`features`]: features of entities as of a time.
//! - [`files`]: artifacts of runs and versions, in parts, each with its checksum.
//! - [`search`]: filters, orders and pages over any of them, in MLflow's grammar.
//! - [`Artifact`]: named tensors and metadata in the safetensors format. The [`Registry`] gives each published artifact
//!   of a part of Watershed the next version, and moves its alias atomically; each appears among the registered models.
//!   A [`Live`] holds the snapshot that requests read, and swaps it without making one wait.
//!
//! It refuses formats that run code when they are read (pickle), and a version whose bytes do not match its
//! checksum. It knows no protocol: MLflow's REST API stands in the crate `registry`.

mod artifact;
pub mod features;
pub mod files;
mod limits;
mod live;
pub mod registered;
mod registry;
pub mod search;
pub mod tracking;

pub use artifact::{Artifact, Tensor};
pub use limits::{ALREADY_EXISTS, INVALID_STATE};
pub use live::Live;
pub use registry::{Alias, ModelVersion, Registry};
