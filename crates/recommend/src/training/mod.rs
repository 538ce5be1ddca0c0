//! From the view to a model: what is trained, on what, and how the blend is learned.
//!
//! Each user's latest choice is held out, up to a bound of users. The parts are trained without it, and the blend of
//! them is learned on it. Then the parts that train quickly are trained again on everything; the sequence model is
//! not, because its state takes the held-out choice in anyway.
//!
//! Training is pure: the same set, settings and seed give the same model. It refuses to look at the view: a
//! [`TrainingSet`] is a copy.

mod artifact;
mod compare;
mod dataset;
mod fit;
mod kind;
mod parameters;
mod report;
mod set;
mod settings;
mod tune;

pub(crate) use artifact::ERASURES;
pub use artifact::{MODEL, from_artifact, to_artifact};
pub use compare::{Comparison, EVALUATION_FAILED, compare};
pub use dataset::{Dataset, Events, Weights};
pub use fit::{NOTHING_TO_TRAIN_ON, TRAINING_FAILED, fit_part, train};
pub use kind::Kind;
pub use report::{PartReport, TrainingProgress, TrainingReport};
pub use set::{Basis, TrainingSet, held_out};
pub use settings::{Algorithms, Effort, TrainingSettings};
pub use tune::Tuning;
