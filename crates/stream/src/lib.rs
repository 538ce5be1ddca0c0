//! What is made of the event log.
//!
//! Two ways, over the same ports:
//! - A [`Fold`] is a view in memory: a [`Projector`] restores it from a checkpoint, catches up and follows the log.
//! - A [`Topology`] is a stream of its own: a [`Task`] takes a partition of a topic through operators with state, in event
//!   time, and writes outputs to other topics, exactly once.
//!
//! Live and rebuilt, a view is the same bytes, and so are outputs and state, because what makes them sees events and
//! nothing else: no clock, no randomness, no batch, no thread.
//!
//! It refuses to lose or skip an event: what cannot be used goes to the dead letters and the stream goes on. What the
//! log's retention took is not skipped either ([`HISTORY_GONE`]).
//!
//! To add a view: implement [`Fold`] in its domain and start a [`Projector`] for it. To add a stream: a [`Topology`]
//! in its domain (its doc has an example), run by a [`Worker`]. To add an operator: see `operator`; a source or a
//! sink: [`Source`], [`Sink`].

mod backfill;
mod checkpoint;
mod context;
mod dead_letter;
mod event_time;
mod flow;
mod fold;
mod front;
mod metrics;
mod operator;
mod operators;
mod projector;
mod repeats;
mod share;
mod silence;
mod sink;
mod source;
mod task;
mod topology;
mod worker;

pub use backfill::{Backfill, backfill};
pub use checkpoint::{Checkpoint, Checkpoints};
pub use context::{Context, Emission};
pub use dead_letter::{DEAD_LETTER, Letter, REPLAY_OF, identity, replay};
pub use event_time::{EventTime, PUNCTUATION, Punctuation, TOO_FAR_AHEAD};
pub use flow::{Branch, Flow, Same, Then, read};
pub use fold::{Fold, Rejection};
pub use metrics::StreamMetrics;
pub use operator::{Changed, Counts, Emit, OpenWindow, Operator, Part, Site, State, decode};
pub use operators::deduplicate::{Deduplicate, Deduplication, FORGOTTEN};
pub use operators::keyed::{Keyed, KeyedFold};
pub use operators::output::To;
pub use operators::session::Sessions;
pub use operators::stateless::{Filter, FlatMap, Map, Read};
pub use operators::window::{LATE, Partial, WindowFold, WindowResult, Windowed, Windows};
pub use projector::{HISTORY_GONE, Progress, Projector, ProjectorParts, ProjectorSettings};
pub use repeats::{PLACE, Repeats};
pub use sink::{LogSink, Output, Sink};
pub use source::{LogSource, Selected, Source};
pub use task::{FENCED, Step, Task, TaskParts, TaskSettings, Totals};
pub use topology::Topology;
pub use worker::{Standing, Worker, WorkerSettings};
