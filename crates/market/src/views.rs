//! What requests read: by tenant and instrument the newest price, the newest quote, and the bars that can still change.
//!
//! A fold of the enriched ticks. Closed bars and the history of prices are not here: they are rows (see
//! [`crate::projection`]). A bar is here from its first trade until its stage closes it for good, so that an answer has
//! it before it is told for the first time.
//!
//! The fold and the stage `aggregation` read the same topic by the same rules, and so agree on what a bar holds: a
//! trade that came too late for the one is too late for the other.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use compact_str::CompactString;
use kernel::{Error, Event, Result, TenantId, codes};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use store::Stored;
use stream::{Fold, Punctuation, Rejection, Repeats};

use crate::algorithms::bars::Partial;
use crate::events::{Labels, TickMessage};
use crate::settings::{KnownSlots, Rules};
use crate::topology::{BAR_KINDS, BarTrade};

/// A price as it is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each is the field of `TickPayload`")]
pub struct Price {
    pub price: f64,
    pub volume: Option<f64>,
    pub market: CompactString,
    pub currency: CompactString,
    pub unit: CompactString,
    pub source_system: CompactString,
    pub sequence: Option<u64>,
    pub tick_id: CompactString,
    pub occurred_us: i64,
    pub received_us: i64,
    pub quality_flags: Vec<CompactString>,
}

/// The best bid and ask.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Quote {
    /// Best price that somebody would pay.
    pub bid: Option<f64>,
    /// Best price that somebody would take.
    pub ask: Option<f64>,
    /// When, microseconds since 1970.
    pub occurred_us: i64,
    sequence: Option<u64>,
    tick_id: CompactString,
}

/// A bar that can still change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenBar {
    /// Its first microsecond.
    pub start_us: i64,
    /// The microsecond after its last.
    pub end_us: i64,
    /// Where it was traded; empty where nobody said.
    pub market: String,
    /// What was traded so far.
    pub partial: Partial,
}

/// What is known of an instrument.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Instrument {
    /// The newest price.
    pub price: Option<Price>,
    /// The newest quote.
    pub quote: Option<Quote>,
    /// What it is, as of its newest tick.
    pub labels: Option<Labels>,
    /// By place in [`BAR_KINDS`], oldest first.
    open: [Vec<OpenBar>; BAR_KINDS.len()],
    newest_us: i64,
}

impl Instrument {
    /// The bars of one length that can still change, oldest first.
    #[must_use]
    pub fn open_bars(&self, kind: usize) -> &[OpenBar] {
        self.open.get(kind).map_or(&[], Vec::as_slice)
    }
}

/// What is known of a tenant.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TenantView {
    instruments: BTreeMap<CompactString, Instrument>,
    /// By partition, how far its ticks have come.
    newest_us: BTreeMap<u32, i64>,
}

impl TenantView {
    /// An instrument, by its id.
    #[must_use]
    pub fn instrument(&self, id: &str) -> Option<&Instrument> {
        self.instruments.get(id)
    }

    /// The instruments after one of them, in the order of their ids.
    pub fn after(&self, id: Option<&str>) -> impl Iterator<Item = (&str, &Instrument)> {
        let bound = id.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let found = self.instruments.range::<str, _>((bound, std::ops::Bound::Unbounded));
        found.map(|(id, instrument)| (id.as_str(), instrument))
    }
}

/// The view of every tenant.
#[derive(Debug)]
pub struct MarketViews {
    rules: Arc<Rules>,
    tenants: RwLock<BTreeMap<TenantId, TenantView>>,
    known: Mutex<KnownSlots>,
    /// By partition what was taken, over a log that keeps what is written twice.
    repeats: Option<Mutex<BTreeMap<u32, Repeats>>>,
    name: &'static str,
}

impl MarketViews {
    /// Nothing yet.
    #[must_use]
    pub fn new(rules: Arc<Rules>) -> Self {
        let (tenants, known) = (RwLock::default(), Mutex::default());
        Self { rules, tenants, known, repeats: None, name: "market" }
    }

    /// Nothing yet, over topics that are read by this name. What comes again there is dropped.
    #[must_use]
    pub fn over_repeats(rules: Arc<Rules>, name: &'static str) -> Self {
        Self { repeats: Some(Mutex::default()), name, ..Self::new(rules) }
    }

    /// What `read` makes of the view of a tenant; it waits for nothing else.
    pub fn of<R>(&self, tenant: &TenantId, read: impl FnOnce(&TenantView) -> R) -> R {
        match self.tenants.read().get(tenant) {
            Some(view) => read(view),
            None => read(&TenantView::default()),
        }
    }

    /// Every tenant that anything is known of.
    #[must_use]
    pub fn tenants(&self) -> Vec<TenantId> {
        self.tenants.read().keys().cloned().collect()
    }

    fn take(&self, partition: u32, event: &Event) -> Result<(), Rejection> {
        if let Some(repeats) = &self.repeats
            && repeats.lock().entry(partition).or_default().knows(event)
        {
            return Ok(());
        }
        if let Some(punctuation) = Punctuation::of(event)? {
            if punctuation.is_idle && punctuation.partition == partition {
                self.believe(partition, &event.tenant, punctuation.now_ms.saturating_mul(1_000));
            }
            return Ok(());
        }
        let tick: Arc<TickMessage> = event.shared_data_as()?;
        // What the stage refuses says nothing about the time, and is in no bar.
        let trade = BarTrade::of(&tick);
        let mut tenants = self.tenants.write();
        let view = tenants.entry(event.tenant.clone()).or_default();
        let newest_us = view.newest_us.get(&partition).copied();
        let instrument = view.instruments.entry(tick.payload.instrument_id.clone()).or_default();
        instrument.take(&tick);
        if let Ok(trade) = trade {
            let delay_us = self.rules.event_time.delay_ms * 1_000;
            let watermark_us = newest_us.map_or(i64::MIN, |newest_us| newest_us.saturating_sub(delay_us));
            let settled_us = watermark_us.saturating_sub(self.rules.lateness_ms * 1_000);
            if let Some(trade) = trade {
                self.add(instrument, &trade, settled_us);
            }
            let newest_us = newest_us.unwrap_or(i64::MIN).max(tick.occurred_at);
            view.newest_us.insert(partition, newest_us);
        }
        Ok(())
    }

    fn believe(&self, partition: u32, tenant: &TenantId, time_us: i64) {
        let mut tenants = self.tenants.write();
        let newest_us =
            tenants.entry(tenant.clone()).or_default().newest_us.entry(partition).or_insert(time_us);
        *newest_us = (*newest_us).max(time_us);
    }

    fn add(&self, instrument: &mut Instrument, trade: &BarTrade, settled_us: i64) {
        let mut known = self.known.lock();
        for (open, kind) in instrument.open.iter_mut().zip(BAR_KINDS) {
            let calendars = &self.rules.calendars;
            let slot = calendars.slot(&mut known, &trade.market, kind.interval, trade.trade.time_us);
            let Some(slot) = slot.filter(|slot| slot.end_us > settled_us) else { continue };
            let Ok(one) = Partial::of(&trade.trade) else { continue };
            open.retain(|bar| bar.end_us > settled_us);
            let place = open.partition_point(|bar| {
                (bar.start_us, bar.market.as_str()) < (slot.start_us, trade.market.as_ref())
            });
            match open.get_mut(place) {
                Some(bar) if bar.start_us == slot.start_us && *bar.market == *trade.market => {
                    drop(bar.partial.merge(&one));
                }
                _ => {
                    let (start_us, end_us, market) = (slot.start_us, slot.end_us, trade.market.to_string());
                    open.insert(place, OpenBar { start_us, end_us, market, partial: one });
                }
            }
        }
    }
}

/// What orders a tick among others of its instrument.
fn place(occurred_us: i64, sequence: Option<u64>, tick_id: &str) -> (i64, u64, &str) {
    (occurred_us, sequence.unwrap_or(0), tick_id)
}

impl Instrument {
    fn take(&mut self, tick: &TickMessage) {
        let payload = &tick.payload;
        let own = place(tick.occurred_at, payload.sequence, &payload.tick_id);
        if self.labels.is_none() || tick.occurred_at >= self.newest_us {
            self.labels.clone_from(&payload.taxonomy);
            self.newest_us = tick.occurred_at;
        }
        let quoted =
            self.quote.as_ref().map(|quote| place(quote.occurred_us, quote.sequence, &quote.tick_id));
        if (payload.bid_price.is_some() || payload.ask_price.is_some())
            && quoted.is_none_or(|quoted| quoted < own)
        {
            self.quote = Some(Quote {
                bid: payload.bid_price,
                ask: payload.ask_price,
                occurred_us: tick.occurred_at,
                sequence: payload.sequence,
                tick_id: payload.tick_id.clone(),
            });
        }
        let Some(trade) = tick.trade() else { return };
        let priced =
            self.price.as_ref().map(|price| place(price.occurred_us, price.sequence, &price.tick_id));
        if priced.is_some_and(|priced| priced >= own) {
            return;
        }
        self.price = Some(Price {
            price: trade.price,
            volume: payload.volume,
            market: payload.market.clone(),
            currency: payload.currency.clone(),
            unit: payload.unit.clone(),
            source_system: payload.source_system.clone(),
            sequence: payload.sequence,
            tick_id: payload.tick_id.clone(),
            occurred_us: tick.occurred_at,
            received_us: tick.ingested_at,
            quality_flags: payload.quality_flags.clone().unwrap_or_default(),
        });
    }
}

impl Fold for MarketViews {
    fn name(&self) -> &'static str {
        self.name
    }

    fn format(&self) -> u32 {
        1
    }

    fn apply(&self, partition: u32, batch: &[Stored]) -> Vec<(usize, Rejection)> {
        let taken =
            batch.iter().enumerate().map(|(index, stored)| (index, self.take(partition, &stored.event)));
        taken.filter_map(|(index, taken)| taken.err().map(|rejection| (index, rejection))).collect()
    }

    fn encode(&self) -> Vec<u8> {
        let bytes = postcard::to_allocvec(&*self.tenants.read()).expect("a view has a stored form");
        match &self.repeats {
            None => bytes,
            Some(repeats) => {
                postcard::to_extend(&*repeats.lock(), bytes).expect("what was taken has a stored form")
            }
        }
    }

    fn decode(&self, bytes: &[u8]) -> Result<()> {
        let corrupted = |cause| {
            Error::new(codes::CORRUPTED, "a checkpoint of market data cannot be read").with_source(cause)
        };
        let (tenants, rest) = postcard::take_from_bytes(bytes).map_err(corrupted)?;
        if let Some(repeats) = &self.repeats {
            *repeats.lock() = postcard::from_bytes(rest).map_err(corrupted)?;
        }
        *self.tenants.write() = tenants;
        Ok(())
    }

    fn clear(&self) {
        self.tenants.write().clear();
        if let Some(repeats) = &self.repeats {
            repeats.lock().clear();
        }
    }
}
