//! Feeds whose messages a [`Mapping`] of paths cannot read: declared in configuration, each field a path or an expression in
//! CEL (github.com/google/cel-spec).
//!
//! A message is of the first feed that names its source and whose `when`, if there is one, is true of it. It is then written
//! anew in the form that the default mapping reads, and goes on as every other. Messages of no feed never come here.
//!
//! An expression sees `message`, the whole of it, and `payload`: the payload of the envelope, or the message where there is no
//! envelope; a raw payload that travels as JSON text is read. Numbers are doubles; a sequence number
//! that doubles cannot hold is refused. A name that is missing leaves the field out.
//!
//! It refuses messages of more than [`MOST_BYTES`], and expressions that could take long (see `algorithms::expression`). Of a name that
//! stands twice in one object the last one counts, where a mapping would refuse the message.
//!
//! To add a field of ticks: a variant of [`Field`], and its name in the default mapping.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use super::expression::{Expression, Language, Seen};
use super::ticks::time::TimeUnit;
use super::ticks::{Mapping, MappingFault, Normaliser, Rejection, RejectionCode};

/// The longest message of a feed.
pub const MOST_BYTES: usize = 64 << 10;
const MOST_FEEDS: usize = 1_000;
/// 2^53: from here on a double stands for several whole numbers.
const MOST_EXACT: f64 = 9_007_199_254_740_992.0;
/// Keys of an envelope, which stay as they are.
const OUTER: [&str; 8] = [
    "envelope",
    "event_id",
    "trace_id",
    "tenant_id",
    "occurred_at",
    "ingested_at",
    "producer",
    "schema_version",
];
/// Keys of a payload that say something about the message, and stay too.
const INNER: [&str; 4] = ["source_system", "received_at", "encoding", "metadata"];

/// A feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Feed {
    /// Its name, for people: `a-z 0-9 _ -`.
    pub name: String,
    /// The sources whose messages it reads, as they name themselves (`source_system`).
    pub sources: Vec<String>,
    /// An expression in CEL: it reads only those of their messages of which this is true.
    #[serde(default)]
    pub when: Option<String>,
    /// Where each field is: a path such as `data.p`, or `{ cel = "..." }`.
    pub fields: BTreeMap<Field, Place>,
    /// What the numbers of `timestamp` count.
    #[serde(default)]
    pub time_unit: TimeUnit,
    /// The market, where the fields have none.
    #[serde(default)]
    pub market: Option<String>,
    /// ISO 4217, where the fields have none.
    #[serde(default)]
    pub currency: Option<String>,
    /// What one is paid for, where the fields have none.
    #[serde(default)]
    pub unit: Option<String>,
}

/// A field of a tick, as the default mapping calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is the field of `Mapping`")]
pub enum Field {
    Price,
    Volume,
    Bid,
    Ask,
    Timestamp,
    Sequence,
    Symbol,
    InstrumentId,
    Market,
    Currency,
    Unit,
}

impl Field {
    fn name(self) -> &'static str {
        match self {
            Self::Price => "price",
            Self::Volume => "volume",
            Self::Bid => "bid",
            Self::Ask => "ask",
            Self::Timestamp => "timestamp",
            Self::Sequence => "sequence",
            Self::Symbol => "symbol",
            Self::InstrumentId => "instrument_id",
            Self::Market => "market",
            Self::Currency => "currency",
            Self::Unit => "unit",
        }
    }

    /// Whether its numbers are whole.
    fn is_whole(self) -> bool {
        matches!(self, Self::Timestamp | Self::Sequence)
    }
}

/// Where a field is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Place {
    /// Names with dots between, looked for in the payload, then in the message.
    Path(String),
    /// What an expression gives.
    Expression(Cel),
}

/// An expression in CEL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cel {
    /// Its text.
    pub cel: String,
}

/// Why a feed cannot be used: which, what of it, and the reason.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{reason}")]
pub struct FeedFault {
    /// `NAME`, `NAME.when`, `NAME.fields.price`.
    pub at: String,
    /// For people.
    pub reason: String,
}

/// Feeds made ready.
#[derive(Debug)]
pub struct Feeds {
    ready: Vec<Ready>,
    language: Language,
}

#[derive(Debug)]
struct Ready {
    feed: Feed,
    when: Option<Expression>,
    fields: Vec<(Field, Source)>,
    normaliser: Normaliser,
}

#[derive(Debug)]
enum Source {
    Path(Vec<String>),
    Expression(Expression),
}

/// A message in the form that `normaliser` reads.
#[derive(Debug)]
pub struct Translated<'a> {
    /// The feed.
    pub feed: &'a str,
    /// The message.
    pub message: String,
    /// Reads it.
    pub normaliser: &'a Normaliser,
}

impl Feeds {
    /// Makes feeds ready. `mapping` has what is not of a feed: the rules of markets, and what a number is unique within.
    ///
    /// # Errors
    /// [`FeedFault`].
    pub fn new(feeds: &[Feed], mapping: &Mapping) -> Result<Self, FeedFault> {
        if feeds.len() > MOST_FEEDS {
            let reason = format!("there are at most {MOST_FEEDS} feeds");
            return Err(FeedFault { at: String::new(), reason });
        }
        let language = Language::of(&["message", "payload"]);
        let mut ready: Vec<Ready> = Vec::new();
        for feed in feeds {
            if ready.iter().any(|other| other.feed.name == feed.name) {
                return Err(feed.fault("", "there are two feeds of this name"));
            }
            ready.push(Ready::new(feed, mapping, &language)?);
        }
        Ok(Self { ready, language })
    }

    /// As they were declared.
    pub fn declared(&self) -> impl Iterator<Item = &Feed> {
        self.ready.iter().map(|ready| &ready.feed)
    }

    /// The message as its feed has it; none where it is of no feed.
    ///
    /// # Errors
    /// What is wrong with it, with the feed's name.
    pub fn translate(&self, message: &[u8]) -> Result<Option<Translated<'_>>, Rejection> {
        if self.ready.is_empty() {
            return Ok(None);
        }
        // What is no message at all is told by who reads it next.
        let Some(source) = source_of(message) else { return Ok(None) };
        let mut candidates =
            self.ready.iter().filter(|ready| ready.feed.sources.iter().any(|name| **name == *source));
        let Some(first) = candidates.next() else { return Ok(None) };
        if message.len() > MOST_BYTES {
            let told = format!("has {} bytes; a feed takes {MOST_BYTES} at most", message.len());
            return Err(first.rejection(RejectionCode::TooLarge, String::new(), told));
        }
        let Ok(message) = serde_json::from_slice::<Map<String, Value>>(message) else { return Ok(None) };
        let payload = payload_of(&message);
        let seen = Seen::new(&self.language, &[&message, &payload]);
        for ready in std::iter::once(first).chain(candidates) {
            if ready.is_of(&seen)? {
                return ready.write(&message, &payload, &source, &seen).map(Some);
            }
        }
        Ok(None)
    }
}

impl Feed {
    fn fault(&self, part: &str, reason: impl Into<String>) -> FeedFault {
        FeedFault { at: format!("{}{part}", self.name), reason: reason.into() }
    }

    fn check(&self) -> Result<(), FeedFault> {
        let lawful =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
        if !(1..=64).contains(&self.name.len()) || !self.name.bytes().all(lawful) {
            return Err(self.fault("", "a name is 1 to 64 characters of a-z 0-9 _ -"));
        }
        if self.sources.is_empty() || self.sources.iter().any(String::is_empty) {
            return Err(self.fault(".sources", "names no source; name those whose messages it reads"));
        }
        if !self.fields.contains_key(&Field::Symbol) {
            return Err(self.fault(".fields.symbol", "is missing; a tick needs it"));
        }
        let has_quotes = self.fields.contains_key(&Field::Bid) && self.fields.contains_key(&Field::Ask);
        if !self.fields.contains_key(&Field::Price) && !has_quotes {
            return Err(self.fault(".fields.price", "is missing, and so are a bid with an ask"));
        }
        Ok(())
    }
}

impl Ready {
    fn new(feed: &Feed, mapping: &Mapping, language: &Language) -> Result<Self, FeedFault> {
        feed.check()?;
        let compile =
            |part: &str, text: &str| language.compile(text).map_err(|reason| feed.fault(part, reason));
        let mut fields = Vec::new();
        for (field, place) in &feed.fields {
            let part = format!(".fields.{}", field.name());
            fields.push((
                *field,
                match place {
                    Place::Expression(Cel { cel }) => Source::Expression(compile(&part, cel)?),
                    Place::Path(path) if path.split('.').any(str::is_empty) => {
                        return Err(
                            feed.fault(&part, format!("`{path}` is not a path of names with dots between"))
                        );
                    }
                    Place::Path(path) => Source::Path(path.split('.').map(str::to_owned).collect()),
                },
            ));
        }
        let mapping = Mapping {
            time_unit: feed.time_unit,
            sequence_scope: mapping.sequence_scope,
            markets: mapping.markets.clone(),
            ..Mapping::default()
        };
        let normaliser =
            Normaliser::new(mapping).map_err(|fault: MappingFault| feed.fault("", fault.to_string()))?;
        let when = feed.when.as_deref().map(|text| compile(".when", text)).transpose()?;
        Ok(Self { feed: feed.clone(), when, fields, normaliser })
    }

    fn rejection(&self, code: RejectionCode, field: String, message: impl std::fmt::Display) -> Rejection {
        Rejection::new(code, field, format!("{message} (feed `{}`)", self.feed.name))
    }

    fn is_of(&self, seen: &Seen) -> Result<bool, Rejection> {
        let Some(when) = &self.when else { return Ok(true) };
        match when.value(seen) {
            Ok(Some(Value::Bool(is_of))) => Ok(is_of),
            // What it asks for is not there.
            Ok(None) => Ok(false),
            Ok(Some(_)) => {
                let told = "`when` gives neither true nor false";
                Err(self.rejection(RejectionCode::WrongType, String::new(), told))
            }
            Err(reason) => {
                let told = format!("`when` fails: {reason}");
                Err(self.rejection(RejectionCode::WrongType, String::new(), told))
            }
        }
    }

    fn write(
        &self,
        message: &Map<String, Value>,
        payload: &Map<String, Value>,
        source: &str,
        seen: &Seen,
    ) -> Result<Translated<'_>, Rejection> {
        let mut written = Map::new();
        let constants =
            [("market", &self.feed.market), ("currency", &self.feed.currency), ("unit", &self.feed.unit)];
        for (name, constant) in constants {
            written.extend(constant.as_ref().map(|text| (name.to_owned(), Value::from(text.as_str()))));
        }
        for name in INNER {
            written.extend(payload.get(name).map(|value| (name.to_owned(), value.clone())));
        }
        written.insert("source_system".to_owned(), Value::from(source));
        for (field, place) in &self.fields {
            let found = match place {
                Source::Path(path) => at(payload, path).or_else(|| at(message, path)).cloned(),
                Source::Expression(expression) => {
                    self.evaluate(*field, expression, payload, message, seen)?
                }
            };
            let found = found.filter(|value| !value.is_null());
            let found = found.map(|value| if field.is_whole() { whole(value) } else { value });
            written.extend(found.map(|value| (field.name().to_owned(), value)));
        }
        let outer = OUTER
            .iter()
            .filter_map(|name| message.get(*name).map(|value| ((*name).to_owned(), value.clone())));
        let mut whole: Map<String, Value> = outer.collect();
        whole.insert("payload".to_owned(), Value::Object(written));
        let message = Value::Object(whole).to_string();
        Ok(Translated { feed: &self.feed.name, message, normaliser: &self.normaliser })
    }
}

impl Ready {
    /// What an expression gives for a field. Numbers are doubles there, and the number of a tick must not be rounded: two ticks
    /// would be one.
    fn evaluate(
        &self,
        field: Field,
        expression: &Expression,
        payload: &Map<String, Value>,
        message: &Map<String, Value>,
        seen: &Seen,
    ) -> Result<Option<Value>, Rejection> {
        let rejection = |told: String| {
            let at = format!("payload.{}", field.name());
            self.rejection(RejectionCode::WrongType, at, told)
        };
        let rounded = || {
            let told = "is beyond 2^53, where expressions round numbers; give its path instead of an expression, or send \
                        it as text";
            rejection(told.to_owned())
        };
        let is_number = field == Field::Sequence;
        let reads = |object: &Map<String, Value>| {
            object.iter().any(|(name, value)| reads_rounded(expression, name, value))
        };
        if is_number && (reads(payload) || reads(message)) {
            return Err(rounded());
        }
        let found =
            expression.value(seen).map_err(|reason| rejection(format!("its expression fails: {reason}")))?;
        if is_number && found.as_ref().is_some_and(is_beyond_doubles) {
            return Err(rounded());
        }
        Ok(found)
    }
}

/// Whether a double stands for several numbers there.
fn is_beyond_doubles(value: &Value) -> bool {
    value.is_number() && value.as_f64().is_none_or(|number| number.abs() >= MOST_EXACT)
}

/// Whether an expression names a number that doubles cannot tell from its neighbours.
fn reads_rounded(expression: &Expression, name: &str, value: &Value) -> bool {
    match value {
        Value::Object(members) => members.iter().any(|(name, value)| reads_rounded(expression, name, value)),
        Value::Array(values) => values.iter().any(|value| reads_rounded(expression, name, value)),
        value => is_beyond_doubles(value) && expression.names(name),
    }
}

/// The source that a message names, in the places and the order in which a mapping looks for it.
fn source_of(message: &[u8]) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Outer<'a> {
        #[serde(borrow, default)]
        payload: Option<Inner<'a>>,
        #[serde(borrow, default)]
        envelope: Option<Inner<'a>>,
        #[serde(borrow, default)]
        source_system: Option<Cow<'a, str>>,
        #[serde(borrow, default)]
        producer: Option<Cow<'a, str>>,
    }
    #[derive(Deserialize)]
    struct Inner<'a> {
        #[serde(borrow, default)]
        source_system: Option<Cow<'a, str>>,
        #[serde(borrow, default)]
        source: Option<Cow<'a, str>>,
    }
    let outer: Outer<'_> = serde_json::from_slice(message).ok()?;
    let of_payload = outer.payload.and_then(|payload| payload.source_system);
    let of_envelope = outer.envelope.and_then(|envelope| envelope.source);
    of_payload.or(of_envelope).or(outer.source_system).or(outer.producer)
}

/// The payload with the raw payload within it read; the message where it has none.
fn payload_of(message: &Map<String, Value>) -> Map<String, Value> {
    let Some(Value::Object(payload)) = message.get("payload") else { return message.clone() };
    let mut payload = payload.clone();
    let raw =
        payload.get("raw_payload").and_then(Value::as_str).and_then(|text| serde_json::from_str(text).ok());
    if let Some(Value::Object(raw)) = raw {
        // What the payload says itself counts before.
        for (name, value) in raw {
            payload.entry(name).or_insert(value);
        }
        payload.remove("raw_payload");
    }
    payload
}

fn at<'a>(object: &'a Map<String, Value>, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(object.get(first)?, |value, name| value.get(name))
}

/// A whole number as one, so that a time is not read as a fraction.
fn whole(value: Value) -> Value {
    match value.as_f64() {
        Some(number) if !value.is_i64() && number.fract() == 0.0 && number.abs() < 9e18 => {
            Value::from(number as i64)
        }
        _ => value,
    }
}
