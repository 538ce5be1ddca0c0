//! What a task is given, and what a step of it says.

use std::sync::Arc;

use store::{ReadLimit, Records};

use crate::{Sink, Source};

/// What a task works with.
#[derive(Debug, Clone)]
pub struct TaskParts {
    /// Where events come from.
    pub source: Arc<dyn Source>,
    /// Where outputs go.
    pub sink: Arc<dyn Sink>,
    /// Where state is kept.
    pub records: Arc<dyn Records>,
}

/// How a task runs. Nothing here changes what an output says.
#[derive(Debug, Clone)]
pub struct TaskSettings {
    /// Tasks in another namespace have a state of their own; `a-z 0-9 _ -`.
    pub namespace: String,
    /// Events taken at once, and at most in one commit.
    pub batch: ReadLimit,
    /// Bytes of outputs after which a commit is not put off.
    pub commit_bytes: usize,
    /// Changes of state are kept in at most about so many pieces. Fewer are read sooner when the task is opened, and
    /// written again more often.
    pub most_segments: usize,
    /// Where a state that is new begins; at what the source still holds, where this is none.
    pub from: Option<u64>,
    /// Whether it begins at what comes next instead, where `from` is none.
    pub begins_at_end: bool,
    /// The first offset that is not taken any more.
    pub until: Option<u64>,
    /// Whether events that were cut before they were taken are passed over, with a warning: for what remembers nothing.
    pub passes_gaps: bool,
    /// Whether the log keeps what is written to it twice: outputs then say where they are from, and inputs that come again
    /// are dropped by it.
    pub log_keeps_repeats: bool,
}

impl Default for TaskSettings {
    fn default() -> Self {
        Self {
            namespace: "live".to_owned(),
            batch: ReadLimit::default(),
            commit_bytes: 16 << 20,
            most_segments: 64,
            from: None,
            begins_at_end: false,
            until: None,
            passes_gaps: false,
            log_keeps_repeats: false,
        }
    }
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It took so many events.
    Took(usize),
    /// There was nothing to take.
    Idle,
    /// Everything before `until` was taken.
    Done,
}
