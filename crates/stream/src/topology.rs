//! A topology: what is made of one topic, with a name, a version and a format of its state.

use std::fmt::{self, Debug};
use std::sync::Arc;

use kernel::{Error, Result, codes};
use store::Topic;

use crate::flow::{End, Flow};
use crate::operator::Operator;
use crate::repeats::SOURCE;
use crate::{EventTime, Site};

/// Operators joined, with all state that they have.
pub(crate) type Program = Box<dyn Operator<(), Out = ()>>;

/// What is made of the events of one topic.
///
/// ```
/// use kernel::Timestamp;
/// use serde::{Deserialize, Serialize};
/// use store::Topic;
/// use stream::{Deduplication, Emission, Partial, Rejection, Topology, Windows, read};
///
/// #[derive(Clone, Deserialize)]
/// struct Tick {
///     instrument: String,
///     sequence: u64,
///     time_ms: i64,
///     price_cents: i64,
/// }
///
/// #[derive(Default, Serialize, Deserialize)]
/// struct Highest(Option<i64>);
///
/// impl Partial for Highest {
///     type Item = Tick;
///     type Output = Option<i64>;
///
///     fn add(&mut self, _: i64, tick: &Tick) {
///         self.0 = self.0.max(Some(tick.price_cents));
///     }
///
///     fn merge(&mut self, other: Self) {
///         self.0 = self.0.max(other.0);
///     }
///
///     fn finish(&self) -> Option<i64> {
///         self.0
///     }
/// }
///
/// let topology = Topology::new("highest", Topic::fixed("ticks"), || {
///     read("decode", |event| event.data_as::<Tick>().map_err(Rejection::from))
///         .deduplicate("once", Deduplication::default(), |tick, stream| {
///             stream.extend_from_slice(tick.instrument.as_bytes());
///             Some(tick.sequence)
///         })
///         .branch(|ticks| {
///             let key = |tick: &Tick, key: &mut Vec<u8>| key.extend_from_slice(tick.instrument.as_bytes());
///             ticks
///                 .window::<Highest, _>("daily", Windows::tumbling(86_400_000), (key, |tick: &Tick| tick.time_ms))
///                 .to("daily_out", Topic::fixed("highest.1d"), |result| {
///                     let time = Timestamp::from_millisecond(result.start_ms).unwrap_or_default();
///                     Emission::new("highest.day", time, &(result.revision, result.value))
///                 })
///         })
///         .to("out", Topic::fixed("normalized"), |tick| {
///             let time = Timestamp::from_millisecond(tick.time_ms).unwrap_or_default();
///             Ok(Emission::new("tick.normalized", time, &tick.price_cents)?.about(&tick.instrument))
///         })
/// })?;
/// assert_eq!(topology.operators(), ["decode", "once", "daily", "daily_out", "out"]);
/// assert_eq!(topology.outputs(), [Topic::fixed("highest.1d"), Topic::fixed("normalized")]);
/// # Ok::<(), kernel::Error>(())
/// ```
#[derive(Clone)]
pub struct Topology {
    pub(crate) name: String,
    pub(crate) version: u32,
    pub(crate) format: u32,
    pub(crate) input: Topic,
    pub(crate) dead_letters: Topic,
    pub(crate) event_time: EventTime,
    build: Arc<dyn Fn() -> Program + Send + Sync>,
    operators: Vec<&'static str>,
    outputs: Vec<Topic>,
}

impl Debug for Topology {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, version, format, input, operators, .. } = self;
        let mut shown = formatter.debug_struct("Topology");
        shown.field("name", name).field("version", version).field("format", format).field("input", input);
        shown.field("operators", operators).finish_non_exhaustive()
    }
}

impl Topology {
    /// Version 1, format 1, dead letters in `processing.deadletter.NAME.v1`. `build` makes the operators anew for each
    /// task, always the same ones.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for a name outside `a-z 0-9 _ -` or longer than 64, and for two operators of one name.
    pub fn new<P, F>(name: &str, input: Topic, build: F) -> Result<Self>
    where
        P: Operator<()> + 'static,
        F: Fn() -> Flow<(), P> + Send + Sync + 'static,
    {
        check_name(name)?;
        let build = move || Box::new(End(build().into_operator())) as Program;
        let (mut operators, mut outputs) = (Vec::new(), Vec::new());
        build().visit(&mut |part| {
            operators.push(part.site.name);
            outputs.extend(part.site.output.clone());
        });
        for (place, operator) in operators.iter().enumerate() {
            check_name(operator)?;
            if operators[..place].contains(operator) {
                return Err(invalid_name(format!("two operators are called `{operator}`")));
            }
        }
        Ok(Self {
            name: name.to_owned(),
            version: 1,
            format: 1,
            input,
            dead_letters: Topic::new(format!("processing.deadletter.{name}.v1"))?,
            event_time: EventTime::default(),
            build: Arc::new(build),
            operators,
            outputs,
        })
    }

    /// The version: what differs in it may make other outputs of the same events, which then have other sources.
    #[must_use]
    pub fn with_version(self, version: u32) -> Self {
        Self { version, ..self }
    }

    /// The format of the state: what differs in it is not read. A new format starts in a namespace of its own.
    #[must_use]
    pub fn with_format(self, format: u32) -> Self {
        Self { format, ..self }
    }

    /// Where dead letters go.
    #[must_use]
    pub fn with_dead_letters(self, dead_letters: Topic) -> Self {
        Self { dead_letters, ..self }
    }

    /// How event time is told.
    #[must_use]
    pub fn with_event_time(self, event_time: EventTime) -> Self {
        Self { event_time, ..self }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The topic it reads.
    #[must_use]
    pub fn input(&self) -> &Topic {
        &self.input
    }

    /// The topic of its dead letters.
    #[must_use]
    pub fn dead_letters(&self) -> &Topic {
        &self.dead_letters
    }

    /// The names of the operators, in the order in which an event meets them.
    #[must_use]
    pub fn operators(&self) -> &[&'static str] {
        &self.operators
    }

    /// The topics that it writes, beside that of its dead letters.
    #[must_use]
    pub fn outputs(&self) -> &[Topic] {
        &self.outputs
    }

    pub(crate) fn build(&self) -> Program {
        (self.build)()
    }

    /// The `source` of every output.
    pub(crate) fn source(&self) -> String {
        format!("{SOURCE}{}/{}", self.name, self.version)
    }
}

fn check_name(name: &str) -> Result<()> {
    let lawful = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
    if (1..=64).contains(&name.len()) && name.bytes().all(lawful) {
        return Ok(());
    }
    Err(invalid_name(format!("a name is 1 to 64 characters of a-z 0-9 _ -, not `{}`", name.escape_debug())))
}

fn invalid_name(message: String) -> Error {
    Error::new(codes::VALIDATION_ERROR, message).with_field("name")
}

impl Site {
    /// Whether everything that was taken is accounted for.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        let counts = self.counts;
        counts.taken == counts.passed + counts.duplicates + counts.rejected + counts.filtered
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read;

    #[test]
    fn names_are_checked() {
        let check = |name: &str, operator: &'static str, good: bool| {
            let built = Topology::new(name, Topic::fixed("in"), move || {
                read("decode", |_| Ok(1)).map(operator, |number: i32| Ok(number + 1))
            });
            assert_eq!(built.is_ok(), good, "{name} {operator}");
        };
        check("bars", "add", true);
        check("", "add", false);
        check("Bars", "add", false);
        check("bars", "a/b", false);
        check("bars", "decode", false);
    }
}
