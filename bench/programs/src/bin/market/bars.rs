//! Bars of shuffled real trades against every bar recomputed from scratch, and how fast they are made.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bench::process::processor_seconds;
use market::algorithms::bars::{Bar, BarSeries, BarSettings, Calendar, CalendarSettings, Interval, Trade};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::{Fault, Told, data};

const MINUTE_US: i64 = 60_000_000;
const HOUR_US: i64 = 60 * MINUTE_US;

/// All that came for one interval, and what was told of it.
#[derive(Default)]
struct Kept {
    end_us: i64,
    trades: Vec<Trade>,
    told: Option<(u32, usize)>,
}

/// Keeps every trade and sorts them again whenever a bar is asked for.
struct Oracle {
    calendar: Calendar,
    lateness_us: i64,
    watermark_us: i64,
    kept: BTreeMap<(Interval, i64), Kept>,
    too_late: u64,
}

impl Oracle {
    fn add(&mut self, trade: &Trade, intervals: &[Interval]) -> Result<(), Fault> {
        for interval in intervals {
            let slot = self.calendar.slot(*interval, trade.time_us)?;
            if slot.end_us <= self.watermark_us.saturating_sub(self.lateness_us) {
                self.too_late += 1;
            } else {
                let kept = self.kept.entry((*interval, slot.start_us)).or_default();
                kept.end_us = slot.end_us;
                kept.trades.push(*trade);
            }
        }
        Ok(())
    }

    fn advance(&mut self, watermark_us: i64) -> Vec<Value> {
        self.watermark_us = self.watermark_us.max(watermark_us);
        let mut bars = Vec::new();
        for ((interval, start_us), kept) in &mut self.kept {
            let known = kept.told.map_or(0, |(_, count)| count);
            if kept.end_us > self.watermark_us || kept.trades.len() == known {
                continue;
            }
            let revision = kept.told.map_or(0, |(revision, _)| revision + 1);
            kept.told = Some((revision, kept.trades.len()));
            bars.push(computed(*interval, *start_us, kept, revision));
        }
        bars
    }
}

/// A bar from all its trades, in whole billionths.
fn computed(interval: Interval, start_us: i64, kept: &mut Kept, revision: u32) -> Value {
    kept.trades.sort_by_key(|trade| (trade.time_us, trade.sequence));
    let trades = &kept.trades;
    let whole = |value: f64| (value * 1e9).round() as i128;
    let volume: i128 = trades.iter().map(|trade| whole(trade.volume)).sum();
    let turnover: i128 = trades.iter().map(|trade| whole(trade.volume) * whole(trade.price)).sum();
    let mut prices: Vec<f64> = trades.iter().map(|trade| trade.price).collect();
    prices.sort_by(f64::total_cmp);
    let (low, high) = (prices[0], prices[prices.len() - 1]);
    let vwap = (volume > 0).then(|| (turnover as f64 / volume as f64 / 1e9).clamp(low, high));
    json!({
        "interval": interval, "start_us": start_us, "end_us": kept.end_us, "revision": revision,
        "open": trades[0].price, "high": high, "low": low, "close": trades[trades.len() - 1].price,
        "volume": volume as f64 / 1e9, "vwap": vwap, "trade_count": trades.len(),
    })
}

/// Shuffles the trades within blocks, and tells watermarks that lag by `lag_us` behind the latest that came.
fn compare(trades: &[Trade], zone: &str, (block, lag_us, lateness_us): (usize, i64, i64)) -> Told {
    let calendar =
        Calendar::new(CalendarSettings { time_zone: zone.to_owned(), ..CalendarSettings::default() })?;
    let mut settings = BarSettings { allowed_lateness_us: lateness_us, ..BarSettings::default() };
    // The trades last six minutes: bars of one minute beside the guide's make revisions among them.
    settings.intervals.insert(0, Interval::Minutes(1));
    let mut shuffled = trades.to_vec();
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for part in shuffled.chunks_mut(block) {
        part.shuffle(&mut rng);
    }
    let mut series = BarSeries::new(Arc::new(calendar.clone()), &settings);
    let mut oracle =
        Oracle { calendar, lateness_us, watermark_us: i64::MIN, kept: BTreeMap::new(), too_late: 0 };
    let (mut bars, mut revised, mut different, mut too_late) = (0, 0, 0, 0);
    let mut latest_us = i64::MIN;
    let every = (shuffled.len() / 50).max(1);
    for (number, trade) in shuffled.iter().enumerate() {
        too_late += u64::from(series.add(trade)?.too_late);
        oracle.add(trade, &settings.intervals)?;
        latest_us = latest_us.max(trade.time_us);
        let is_last = number + 1 == shuffled.len();
        if number % every == 0 || is_last {
            let watermark_us = if is_last { i64::MAX } else { latest_us - lag_us };
            let mut told = Vec::new();
            series.advance(watermark_us, &mut told);
            let told: Vec<Value> = told.iter().map(serde_json::to_value).collect::<Result<_, _>>()?;
            let expected = oracle.advance(watermark_us);
            revised += told.iter().filter(|bar| bar["revision"] != 0).count();
            different += told.iter().zip(&expected).filter(|(one, other)| one != other).count();
            different += told.len().abs_diff(expected.len());
            bars += told.len();
        }
    }
    different += usize::from(too_late != oracle.too_late);
    Ok(json!({
        "trades": trades.len(), "bars_told": bars, "revisions": revised, "too_late": too_late, "different": different,
    }))
}

/// The trades again and again, each round after the one before, shuffled in blocks of a thousand.
struct Repeated {
    shuffled: Vec<Trade>,
    span_us: i64,
}

impl Repeated {
    fn new(trades: &[Trade]) -> Self {
        let times = || trades.iter().map(|trade| trade.time_us);
        let span_us = times().max().unwrap_or(0) - times().min().unwrap_or(0) + 1;
        let mut shuffled = trades.to_vec();
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        for part in shuffled.chunks_mut(1_000) {
            part.shuffle(&mut rng);
        }
        Self { shuffled, span_us }
    }

    fn rounds(&self, rounds: i64) -> impl Iterator<Item = Trade> {
        let moved =
            |round: i64, trade: &Trade| Trade { time_us: trade.time_us + round * self.span_us, ..*trade };
        (0..rounds).flat_map(move |round| self.shuffled.iter().map(move |trade| moved(round, trade)))
    }
}

fn new_york() -> Result<BarSeries, Fault> {
    let time_zone = "America/New_York".to_owned();
    let calendar = Calendar::new(CalendarSettings { time_zone, ..CalendarSettings::default() })?;
    Ok(BarSeries::new(Arc::new(calendar), &BarSettings::default()))
}

/// How fast bars are made under a moving watermark.
fn speed(repeated: &Repeated, rounds: i64) -> Told {
    let mut series = new_york()?;
    let (mut ticks, mut bars, mut told): (u64, usize, Vec<Bar>) = (0, 0, Vec::new());
    let began = processor_seconds(None)?;
    for trade in repeated.rounds(rounds) {
        series.add(&trade)?;
        ticks += 1;
        if ticks.is_multiple_of(1_000) {
            series.advance(trade.time_us - 30_000_000, &mut told);
            bars += told.len();
            told.clear();
        }
    }
    series.advance(i64::MAX, &mut told);
    let cpu_seconds = processor_seconds(None)? - began;
    Ok(json!({
        "ticks": ticks, "bars_told": bars + told.len(), "cpu_seconds": cpu_seconds,
        // Processor time is counted in hundredths of a second.
        "ticks_per_cpu_second": ticks as f64 / cpu_seconds.max(0.01),
    }))
}

/// Writes the repeated trades, and our bars of them, for a peer.
fn export(repeated: &Repeated, rounds: i64, folder: &Path) -> Result<(), Fault> {
    let mut series = new_york()?;
    let mut trades = csv::Writer::from_path(folder.join("trades.csv"))?;
    trades.write_record(["time_us", "sequence", "price", "volume"])?;
    for trade in repeated.rounds(rounds) {
        trades.serialize((trade.time_us, trade.sequence, trade.price, trade.volume))?;
        series.add(&trade)?;
    }
    trades.flush()?;
    let mut told = Vec::new();
    series.advance(i64::MAX, &mut told);
    let mut bars = csv::Writer::from_path(folder.join("bars.csv"))?;
    bars.write_record(["interval", "start_us", "open", "high", "low", "close", "volume", "trade_count"])?;
    for Bar { interval, start_us, values, .. } in &told {
        let prices = (values.open, values.high, values.low, values.close);
        bars.serialize((interval.to_string(), start_us, prices, values.volume, values.trade_count))?;
    }
    Ok(bars.flush()?)
}

pub(crate) fn run(folder: &Path, quick: bool, exported: Option<&Path>) -> Told {
    let mut trades = data::trades(folder)?;
    trades.sort_by_key(|trade| (trade.time_us, trade.sequence));
    let mut told = serde_json::Map::new();
    if quick {
        trades.truncate(2_000);
    }
    let all = trades.len();
    // Block of the shuffle, lag of the watermark, allowed lateness. Without lag and with little lateness trades are lost,
    // and must be the same ones.
    let runs = [
        ("within lateness", (all, HOUR_US, 48 * HOUR_US)),
        ("revised", (4_000, 0, 48 * HOUR_US)),
        ("beyond lateness", (8_000, 0, MINUTE_US / 2)),
    ];
    for (name, settings) in runs {
        told.insert(format!("trades, {name}"), compare(&trades, "UTC", settings)?);
    }
    for (market, zone) in [("DE", "Europe/Berlin"), ("PJM", "America/New_York")] {
        let mut prices = Vec::new();
        for (number, (time, price, load)) in (0..).zip(data::power(folder, market)?) {
            let time_us = data::instant_us(&time)?;
            prices.push(Trade { time_us, sequence: number, price: price.parse()?, volume: load });
        }
        if quick {
            prices.truncate(2_000);
        }
        let settings = [(200, 24 * HOUR_US, 300 * HOUR_US), (100, 0, 24 * HOUR_US)];
        for (name, settings) in ["within lateness", "beyond lateness"].iter().zip(settings) {
            told.insert(format!("{market}, {name}"), compare(&prices, zone, settings)?);
        }
    }
    let repeated = Repeated::new(&trades);
    if let Some(exported) = exported {
        export(&repeated, if quick { 1 } else { 50 }, exported)?;
    }
    Ok(json!({ "compared": told, "speed": speed(&repeated, if quick { 1_000 } else { 300 })? }))
}
