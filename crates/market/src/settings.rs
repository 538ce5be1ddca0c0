//! The `market` section of the configuration.
//!
//! To add a setting: a field with its default; what must hold of it in [`MarketSettings::validate`], which makes the
//! [`Rules`] that stages and answers work by.

mod file;

use std::collections::BTreeMap;
use std::path::PathBuf;

use kernel::{Error, Result, TenantId, codes};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stream::{Deduplication, EventTime};

use crate::algorithms::bars::{Calendar, CalendarSettings, Interval, Slot, Slots};
use crate::algorithms::feeds::{Feed, Feeds, Translated};
use crate::algorithms::instruments::{Override, Taxonomy, TaxonomyRules};
use crate::algorithms::projections::{Projection, Projections};
use crate::algorithms::quality::QualityLimits;
use crate::algorithms::ticks::{Mapping, Normaliser, Reference, Rejection, Tenancy, Terms, Tick, normalise};

pub use file::TopologyFile;

/// Market data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MarketSettings {
    /// Whether ticks are taken in and answered about. While no tick ever came, nothing runs for it.
    pub enabled: bool,
    /// Where messages keep what, but for those of a feed.
    pub mapping: Mapping,
    /// Feeds that a mapping of paths cannot read.
    pub feeds: Vec<Feed>,
    /// What the newest price, quote or bar of each key makes, kept and answered.
    pub projections: Vec<Projection>,
    /// A file of its own in TOML with more feeds and projections, and a mapping where there is none here.
    pub topology_file: Option<PathBuf>,
    /// What instruments are quoted in, by their id; it counts before what a message says.
    pub instruments: BTreeMap<String, InstrumentTerms>,
    /// What instruments are.
    pub taxonomy: TaxonomySettings,
    /// Which ticks are flagged or refused.
    pub quality: QualityLimits,
    /// How bars are made.
    pub bars: BarSettings,
    /// How the stages run.
    pub stages: StageSettings,
    /// Streams of prices and bars to callers.
    pub streams: StreamSettings,
    /// Newest prices and snapshots of curves in `storage.cache`.
    pub cache: PriceCacheSettings,
    /// Days that events stay in the topics of market data, by their own time (of a tick when it happened, of a bar when it
    /// begins); for ever where missing. Rows of prices, bars and curves stay, but `projection rebuild`, `restore`, `backfill` and
    /// `reconcile` reach only as far back as the topics. Topics of brokers are cut by the brokers' own settings.
    pub topic_retention_days: Option<u32>,
}

impl Default for MarketSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            mapping: Mapping::default(),
            feeds: Vec::new(),
            projections: Vec::new(),
            topology_file: None,
            instruments: BTreeMap::new(),
            taxonomy: TaxonomySettings::default(),
            quality: QualityLimits::default(),
            bars: BarSettings::default(),
            stages: StageSettings::default(),
            streams: StreamSettings::default(),
            cache: PriceCacheSettings::default(),
            topic_retention_days: None,
        }
    }
}

/// What an instrument is quoted in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct InstrumentTerms {
    /// ISO 4217.
    pub currency: Option<String>,
    /// What one is paid for: `MWh`, `bbl`, `MMBtu`, `ton_CO2e`.
    pub unit: Option<String>,
}

/// What instruments are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TaxonomySettings {
    /// A file of rules in TOML, in place of the built-in ones.
    pub rules_file: Option<PathBuf>,
    /// Other names of instruments: from the other name to the one that is classified.
    pub aliases: BTreeMap<String, String>,
    /// What is known of single instruments; it counts before every rule.
    pub overrides: BTreeMap<String, Override>,
}

/// How bars are made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BarSettings {
    /// How much older than the newest tick of its tenant a tick may be and still be in time. A bar is closed so long after
    /// its end; until then it is shown as open.
    pub watermark_delay_seconds: u32,
    /// For how long after that a late tick revises a bar. One that comes later than that for every bar is a dead letter.
    pub allowed_lateness_seconds: u32,
    /// When markets trade that have no calendar of their own.
    pub calendar: CalendarSettings,
    /// When a market trades, by its name in capitals. A change holds for bars that begin after it.
    pub calendars: BTreeMap<String, CalendarSettings>,
}

impl Default for BarSettings {
    fn default() -> Self {
        Self {
            watermark_delay_seconds: 300,
            allowed_lateness_seconds: 600,
            calendar: CalendarSettings::default(),
            calendars: BTreeMap::new(),
        }
    }
}

/// How the stages run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StageSettings {
    /// How far behind the newest tick a tick without a sequence number is known again. An older one is a dead letter,
    /// because nobody knows whether it came before.
    pub deduplication_seconds: u32,
    /// After how long without ticks of a tenant its bars are closed by the clock.
    pub idle_after_seconds: u32,
    /// Ticks at most in one commit of a stage.
    pub batch_events: usize,
}

impl Default for StageSettings {
    fn default() -> Self {
        Self { deduplication_seconds: 86_400, idle_after_seconds: 60, batch_events: 4_096 }
    }
}

/// Streams of prices and bars to callers. They have places of their own, so that they take none from other requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StreamSettings {
    /// Open at once in this server.
    pub max: usize,
    /// Of one tenant.
    pub max_per_tenant: usize,
    /// Of one key or token.
    pub max_per_credential: usize,
    /// After how long a stream ends in any case, 1 to 86,400. Its caller goes on from the last id, on whatever server.
    pub max_seconds: u64,
    /// A caller who does not take a batch of messages within so long is ended, 1 to 25.
    pub slow_after_seconds: u64,
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self {
            max: 256,
            max_per_tenant: 64,
            max_per_credential: 16,
            max_seconds: 900,
            slow_after_seconds: 10,
        }
    }
}

/// Newest prices and snapshots of curves in `storage.cache`, for programs that read Redis and ask nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PriceCacheSettings {
    /// Whether they are written there.
    pub enabled: bool,
    /// How long a value lives at most, 40 to 86,400; a quarter of it at least. What stands is written again before.
    pub ttl_seconds: u64,
}

impl Default for PriceCacheSettings {
    fn default() -> Self {
        Self { enabled: false, ttl_seconds: 60 }
    }
}

impl PriceCacheSettings {
    fn validate(&self) -> Result<()> {
        let is_span = (40..=86_400).contains(&self.ttl_seconds);
        require(is_span, "market.cache.ttl_seconds", "must be between 40 and 86,400")
    }
}

impl StreamSettings {
    fn validate(&self) -> Result<()> {
        let is_span = (1..=86_400).contains(&self.max_seconds);
        require(is_span, "market.streams.max_seconds", "must be between 1 and 86,400")?;
        let is_patience = (1..=25).contains(&self.slow_after_seconds);
        // Later the connection is cut off, and no reason can be told any more.
        require(is_patience, "market.streams.slow_after_seconds", "must be between 1 and 25")
    }
}

/// The settings made ready.
#[derive(Debug)]
pub struct Rules {
    /// Messages to ticks, but for those of a feed.
    pub normaliser: Normaliser,
    /// Messages of feeds.
    pub feeds: Feeds,
    /// What is made of prices, quotes and bars beside.
    pub projections: Projections,
    /// What instruments are quoted in.
    pub terms: TermsTable,
    /// Names to classifications.
    pub taxonomy: Taxonomy,
    /// What is flagged.
    pub quality: QualityLimits,
    /// When markets trade.
    pub calendars: Calendars,
    /// How duplicates are told.
    pub deduplication: Deduplication,
    /// How event time is told in bars.
    pub event_time: EventTime,
    /// For how long a closed bar can change, in milliseconds.
    pub lateness_ms: i64,
}

impl MarketSettings {
    /// Checks everything.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` naming the setting.
    pub fn validate(&self) -> Result<()> {
        self.rules().map(drop)
    }

    /// Makes everything ready.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` naming the setting.
    pub fn rules(&self) -> Result<Rules> {
        let quality = &self.quality;
        let is_range = quality.price_min.is_none_or(|least| least.is_finite() && least <= quality.price_max);
        require(
            quality.price_max.is_finite() && is_range,
            "market.quality",
            "the least price is above the greatest",
        )?;
        require(quality.volume_max.is_finite(), "market.quality.volume_max", "must be a finite number")?;
        let batch = self.stages.batch_events;
        require(
            (1..=100_000).contains(&batch),
            "market.stages.batch_events",
            "must be between 1 and 100,000",
        )?;
        let idle = self.stages.idle_after_seconds;
        require(idle > 0, "market.stages.idle_after_seconds", "must be at least 1")?;
        self.streams.validate()?;
        self.cache.validate()?;
        let is_span = self.topic_retention_days.is_none_or(|days| (1..=36_500).contains(&days));
        require(is_span, "market.topic_retention_days", "must be between 1 and 36500")?;
        let declared = TopologyFile::joined(self)?;
        let feeds = Feeds::new(&declared.feeds, &declared.mapping)
            .map_err(|fault| invalid(format!("market.feeds.{}", fault.at).trim_end_matches('.'), fault))?;
        let normaliser =
            Normaliser::new(declared.mapping).map_err(|fault| invalid("market.mapping", fault))?;
        let projections = Projections::new(&declared.projections).map_err(|fault| {
            invalid(format!("market.projections.{}", fault.at).trim_end_matches('.'), fault)
        })?;
        let times = &self.bars;
        Ok(Rules {
            normaliser,
            feeds,
            projections,
            terms: TermsTable(self.instruments.clone()),
            taxonomy: self.taxonomy.made_ready()?,
            quality: quality.clone(),
            calendars: Calendars::new(times)?,
            deduplication: Deduplication {
                horizon_ms: i64::from(self.stages.deduplication_seconds) * 1_000,
                ..Deduplication::default()
            },
            // Ticks of the future were refused by the clock of their arrival.
            event_time: EventTime {
                delay_ms: i64::from(times.watermark_delay_seconds) * 1_000,
                future_limit_ms: None,
                believed_run: 0,
            },
            lateness_ms: i64::from(times.allowed_lateness_seconds) * 1_000,
        })
    }
}

impl Rules {
    /// What `then` makes of the tick that a message says, and of the name of its feed where it has one.
    ///
    /// # Errors
    /// What is wrong with the message.
    pub fn read<R>(
        &self,
        message: &[u8],
        tenancy: Tenancy<'_>,
        then: impl FnOnce(&Tick<'_>, Option<&str>) -> R,
    ) -> Result<R, Rejection> {
        match self.feeds.translate(message)? {
            None => Ok(then(&normalise(message, &self.normaliser, tenancy, &self.terms)?, None)),
            Some(Translated { feed, message, normaliser }) => {
                let tick = normalise(message.as_bytes(), normaliser, tenancy, &self.terms);
                let tick = tick.map_err(|fault| Rejection {
                    message: format!("{} (feed `{feed}`)", fault.message).into(),
                    ..fault
                })?;
                Ok(then(&tick, Some(feed)))
            }
        }
    }
}

impl TaxonomySettings {
    fn made_ready(&self) -> Result<Taxonomy> {
        let mut rules = match &self.rules_file {
            None => TaxonomyRules::default(),
            Some(path) => {
                let field = "market.taxonomy.rules_file";
                let text = std::fs::read_to_string(path)
                    .map_err(|cause| invalid(field, format!("{} cannot be read: {cause}", path.display())))?;
                TaxonomyRules::from_toml(&text).map_err(|fault| invalid(field, fault))?
            }
        };
        rules.aliases.extend(self.aliases.clone());
        rules.overrides.extend(self.overrides.clone());
        Taxonomy::new(rules).map_err(|fault| invalid("market.taxonomy", fault))
    }
}

fn invalid(field: &str, message: impl std::fmt::Display) -> Error {
    Error::new(codes::VALIDATION_ERROR, message.to_string()).with_field(field)
}

fn require(holds: bool, field: &str, rule: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(invalid(field, rule)) }
}

/// What instruments are quoted in, as the settings say.
#[derive(Debug, Clone, Default)]
pub struct TermsTable(BTreeMap<String, InstrumentTerms>);

impl TermsTable {
    /// Whether the settings speak of an instrument.
    #[must_use]
    pub fn knows(&self, instrument: &str) -> bool {
        self.0.contains_key(instrument)
    }
}

impl Reference for TermsTable {
    fn terms(&self, _: &TenantId, instrument: &str) -> Terms<'_> {
        let known = self.0.get(instrument);
        Terms {
            currency: known.and_then(|terms| terms.currency.as_deref()),
            unit: known.and_then(|terms| terms.unit.as_deref()),
        }
    }

    fn last_price(&self, _: &TenantId, _: &str) -> Option<f64> {
        None
    }
}

/// When markets trade.
#[derive(Debug)]
pub struct Calendars {
    usual: Calendar,
    by_market: BTreeMap<String, Calendar>,
}

/// What was learned of calendars, by market.
#[derive(Debug, Default)]
pub struct KnownSlots {
    usual: Slots,
    by_market: BTreeMap<String, Slots>,
}

impl Calendars {
    fn new(settings: &BarSettings) -> Result<Self> {
        let calendar = |field: String, settings: &CalendarSettings| {
            Calendar::new(settings.clone()).map_err(|fault| invalid(&field, fault))
        };
        let own = settings.calendars.iter().map(|(market, settings)| {
            let made = calendar(format!("market.bars.calendars.{market}"), settings)?;
            Ok((market.clone(), made))
        });
        Ok(Self {
            usual: calendar("market.bars.calendar".to_owned(), &settings.calendar)?,
            by_market: own.collect::<Result<_>>()?,
        })
    }

    /// The calendar of a market.
    #[must_use]
    pub fn of(&self, market: &str) -> &Calendar {
        self.by_market.get(market).unwrap_or(&self.usual)
    }

    /// Where the interval that an instant is in begins, by each calendar that there is.
    pub fn starts(&self, interval: Interval, time_us: i64) -> impl Iterator<Item = i64> {
        let all = std::iter::once(&self.usual).chain(self.by_market.values());
        all.filter_map(move |calendar| Some(calendar.slot(interval, time_us).ok()?.start_us))
    }

    /// The interval that an instant is in; none beyond the years of a calendar.
    pub fn slot(
        &self,
        known: &mut KnownSlots,
        market: &str,
        interval: Interval,
        time_us: i64,
    ) -> Option<Slot> {
        let Some(calendar) = self.by_market.get(market) else {
            return known.usual.slot(&self.usual, interval, time_us).ok();
        };
        if !known.by_market.contains_key(market) {
            known.by_market.insert(market.to_owned(), Slots::default());
        }
        known.by_market.get_mut(market)?.slot(calendar, interval, time_us).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_fine_and_faults_name_the_setting() {
        MarketSettings::default().validate().unwrap();
        let check = |toml: &str, field: &str| {
            let settings: MarketSettings = toml::from_str(toml).unwrap();
            assert_eq!(settings.validate().unwrap_err().field(), Some(field), "{toml}");
        };
        check("[mapping]\nsymbol = []", "market.mapping");
        check("[quality]\nprice_min = 2\nprice_max = 1", "market.quality");
        check("[bars.calendar]\ntime_zone = \"Mars\"", "market.bars.calendar");
        check("[bars.calendars.EPEX]\ntime_zone = \"Mars\"", "market.bars.calendars.EPEX");
        check("[taxonomy]\nrules_file = \"/none\"", "market.taxonomy.rules_file");
        check("[taxonomy.overrides.X]\ncommodity = \"cheese\"", "market.taxonomy");
        check("[stages]\nbatch_events = 0", "market.stages.batch_events");
        let feed = "[[feeds]]\nname = \"np\"\nsources = [\"np\"]\n[feeds.fields]\nsymbol = \"s\"\n";
        check(feed, "market.feeds.np.fields.price");
        check(&format!("{feed}price = {{ cel = \"1 +\" }}"), "market.feeds.np.fields.price");
        let projection =
            "[[projections]]\nname = \"spread\"\nfrom = \"quote\"\nfields = { a = \"event.ask -\" }";
        check(projection, "market.projections.spread.fields.a");
        check("[streams]\nmax_seconds = 0", "market.streams.max_seconds");
        check("[streams]\nslow_after_seconds = 60", "market.streams.slow_after_seconds");
        check("topic_retention_days = 0", "market.topic_retention_days");
    }

    #[test]
    fn a_market_has_its_own_calendar() {
        let toml = "[bars.calendars.EPEX]\ntime_zone = \"Europe/Berlin\"";
        let rules = toml::from_str::<MarketSettings>(toml).unwrap().rules().unwrap();
        let mut known = KnownSlots::default();
        let day = |market: &str, known: &mut KnownSlots| {
            rules.calendars.slot(known, market, Interval::Day, 1_704_067_200_000_000).unwrap().start_us
        };
        for _ in 0..2 {
            assert_eq!(day("PJM", &mut known), 1_704_067_200_000_000);
            assert_eq!(day("EPEX", &mut known), 1_704_063_600_000_000);
        }
    }
}
