//! Where a feed keeps what: the configuration of a source, made ready once for all its messages.
//!
//! A path is names with dots between (`data.p`). It is looked for in the payload of the envelope, then in the raw payload
//! that travels as JSON text inside it, then at the root of a message without envelope. Of several paths the first that
//! is there counts. To add a feed: a [`Mapping`] in configuration; nothing here changes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::capture::{Node, Role};
use super::markets::{KNOWN_MARKETS, MarketRules, UNKNOWN_MARKET};
use super::time::TimeUnit;

const PATHS_MAX: usize = 32;
const PATH_BYTES_MAX: usize = 200;

/// What a sequence number is unique within.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SequenceScope {
    /// The source: one counter for all its symbols.
    #[default]
    Source,
    /// Each symbol of the source.
    Symbol,
}

/// Where a feed keeps what. The default understands the feeds of the guide (MISO, CAISO, ERCOT, PJM, NYISO).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Mapping {
    /// Last traded or published price.
    pub price: Vec<String>,
    /// Traded quantity.
    pub volume: Vec<String>,
    /// Best price that somebody would pay.
    pub bid: Vec<String>,
    /// Best price that somebody would take.
    pub ask: Vec<String>,
    /// When it happened; the envelope's time where it is not there.
    pub time: Vec<String>,
    /// What the numbers of `time` count.
    pub time_unit: TimeUnit,
    /// The producer's running number.
    pub sequence: Vec<String>,
    /// What it is unique within.
    pub sequence_scope: SequenceScope,
    /// The producer's name of the instrument.
    pub symbol: Vec<String>,
    /// Our name of it; the symbol where it is not there.
    pub instrument_id: Vec<String>,
    /// The market.
    pub market: Vec<String>,
    /// ISO 4217. The instrument's own counts before it.
    pub currency: Vec<String>,
    /// What one is paid for. The instrument's own counts before it.
    pub unit: Vec<String>,
    /// The source of messages that name none.
    pub default_source: Option<String>,
    /// The market of messages that name none.
    pub default_market: Option<String>,
    /// Markets that this feed knows better than the built-in table.
    pub markets: Vec<MarketRules>,
}

impl Default for Mapping {
    fn default() -> Self {
        let paths = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            price: paths(&["price", "last_price", "value"]),
            volume: paths(&["volume"]),
            bid: paths(&["bid", "bid_price"]),
            ask: paths(&["ask", "ask_price"]),
            time: paths(&["timestamp", "time"]),
            time_unit: TimeUnit::Auto,
            sequence: paths(&["sequence"]),
            sequence_scope: SequenceScope::Source,
            symbol: paths(&["symbol"]),
            instrument_id: paths(&["metadata.instrument_id", "instrument_id"]),
            market: paths(&["market"]),
            currency: paths(&["currency"]),
            unit: paths(&["unit"]),
            default_source: None,
            default_market: None,
            markets: Vec::new(),
        }
    }
}

/// Why a mapping cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MappingFault {
    /// Nothing could ever be read.
    #[error("`{0}` names no path; name at least one")]
    Empty(&'static str),
    /// A path with an empty part, or too long.
    #[error("`{0}` is not a path of names with dots between")]
    Path(String),
    /// More than can be meant.
    #[error("`{0}` has more than {PATHS_MAX} paths; name those that the feed sends")]
    TooMany(&'static str),
    /// Two fields read from one place.
    #[error("`{0}` is named for two fields; name it for one")]
    Shared(String),
}

/// A mapping made ready: messages in, ticks out. See [`super::normalise`].
#[derive(Debug, Clone)]
pub struct Normaliser {
    pub(super) mapping: Mapping,
    pub(super) root: Node,
    paths: Vec<String>,
    first_price_paths: [u16; 3],
}

impl Normaliser {
    /// Makes a mapping ready.
    ///
    /// # Errors
    /// See [`MappingFault`].
    pub fn new(mapping: Mapping) -> Result<Self, MappingFault> {
        check(&mapping)?;
        let mut normaliser =
            Self { mapping, root: Node::default(), paths: Vec::new(), first_price_paths: [u16::MAX; 3] };
        normaliser.envelope();
        for (place, prefix) in ["payload.", "payload.raw_payload.", ""].into_iter().enumerate() {
            normaliser.first_price_paths[place] = normaliser.paths.len() as u16;
            normaliser.payload(prefix);
        }
        Ok(normaliser)
    }

    /// The fields of both envelopes; the one that a message does not have is not there.
    fn envelope(&mut self) {
        const FIELDS: &[(Role, &[&str])] = &[
            (Role::EventId, &["envelope.event_id", "event_id"]),
            (Role::TraceId, &["envelope.correlation_id", "trace_id"]),
            (Role::Tenant, &["envelope.tenant_id", "tenant_id"]),
            (Role::Source, &["payload.source_system", "envelope.source", "source_system", "producer"]),
            (Role::EnvelopeTime, &["envelope.timestamp", "occurred_at"]),
            (Role::IngestedAt, &["payload.received_at", "ingested_at"]),
            (Role::Encoding, &["payload.encoding"]),
            (Role::RawPayload, &["payload.raw_payload"]),
            (Role::Metadata, &["payload.metadata", "envelope.metadata"]),
        ];
        for (role, paths) in FIELDS {
            for path in *paths {
                self.insert((*path).to_owned(), *role);
            }
        }
    }

    fn payload(&mut self, prefix: &str) {
        // Prices come first: `is_first_price` counts on it.
        for (role, _, paths) in fields(&self.mapping.clone()) {
            for path in paths {
                self.insert(format!("{prefix}{path}"), role);
            }
        }
    }

    fn insert(&mut self, path: String, role: Role) {
        self.root.insert(&path, role, self.paths.len() as u16);
        self.paths.push(path);
    }

    /// What a sequence number is unique within.
    #[must_use]
    pub fn sequence_scope(&self) -> SequenceScope {
        self.mapping.sequence_scope
    }

    /// The path of that number.
    pub(super) fn path(&self, number: u16) -> &str {
        &self.paths[usize::from(number)]
    }

    /// The name that a rejection gives to a field which is not there.
    pub(super) fn first_path(&self, role: Role) -> String {
        let named = fields(&self.mapping);
        let payload = named.iter().find(|(field, ..)| *field == role).and_then(|(.., paths)| paths.first());
        payload.map_or_else(String::new, |path| format!("payload.{path}"))
    }

    /// Whether a price came from the first path of the mapping.
    pub(super) fn is_first_price(&self, path: u16) -> bool {
        self.first_price_paths.contains(&path)
    }

    /// The rules of a market, by its name in capitals.
    pub(super) fn rules(&self, market: &str) -> &MarketRules {
        let all = self.mapping.markets.iter().chain(KNOWN_MARKETS);
        let mut named = all.filter(|rules| rules.market == market);
        named.next().unwrap_or(const { &UNKNOWN_MARKET })
    }
}

type Field<'a> = (Role, &'static str, &'a [String]);

fn fields(mapping: &Mapping) -> [Field<'_>; 11] {
    [
        (Role::Price, "price", &mapping.price),
        (Role::Volume, "volume", &mapping.volume),
        (Role::Bid, "bid", &mapping.bid),
        (Role::Ask, "ask", &mapping.ask),
        (Role::Time, "time", &mapping.time),
        (Role::Sequence, "sequence", &mapping.sequence),
        (Role::Symbol, "symbol", &mapping.symbol),
        (Role::InstrumentId, "instrument_id", &mapping.instrument_id),
        (Role::Market, "market", &mapping.market),
        (Role::Currency, "currency", &mapping.currency),
        (Role::Unit, "unit", &mapping.unit),
    ]
}

fn check(mapping: &Mapping) -> Result<(), MappingFault> {
    let fields = fields(mapping);
    for (role, name, paths) in fields {
        if paths.is_empty() && role == Role::Symbol {
            return Err(MappingFault::Empty(name));
        }
        if paths.len() > PATHS_MAX {
            return Err(MappingFault::TooMany(name));
        }
        for path in paths {
            if path.len() > PATH_BYTES_MAX || path.split('.').any(str::is_empty) {
                return Err(MappingFault::Path(path.clone()));
            }
            let uses = fields.iter().flat_map(|(.., paths)| paths.iter()).filter(|other| *other == path);
            if uses.count() > 1 {
                return Err(MappingFault::Shared(path.clone()));
            }
        }
    }
    let quotes = mapping.bid.is_empty() || mapping.ask.is_empty();
    if mapping.price.is_empty() && quotes { Err(MappingFault::Empty("price")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_checked() {
        let check = |change: fn(&mut Mapping), fault: Option<MappingFault>| {
            let mut mapping = Mapping::default();
            change(&mut mapping);
            assert_eq!(Normaliser::new(mapping).err(), fault);
        };
        check(|_| {}, None);
        check(|mapping| mapping.price.clear(), None);
        check(
            |mapping| {
                mapping.price.clear();
                mapping.bid.clear();
            },
            Some(MappingFault::Empty("price")),
        );
        check(|mapping| mapping.symbol.clear(), Some(MappingFault::Empty("symbol")));
        check(|mapping| mapping.bid = vec!["a..b".to_owned()], Some(MappingFault::Path("a..b".to_owned())));
        check(
            |mapping| mapping.bid = vec!["price".to_owned()],
            Some(MappingFault::Shared("price".to_owned())),
        );
        check(|mapping| mapping.bid = vec!["b".to_owned(); 33], Some(MappingFault::TooMany("bid")));
    }
}
