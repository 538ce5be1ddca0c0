//! Real prices of zero and below, as raw messages through ticks and bars: what came out must be what went in.

use std::path::Path;
use std::sync::Arc;

use market::algorithms::bars::{Bar, BarSeries, BarSettings, Calendar, CalendarSettings, Interval, Trade};
use market::algorithms::ticks::{Mapping, NoReference, Normaliser, Tenancy, normalise};
use serde_json::{Value, json};

use crate::{Fault, Told, data};

/// Prices with their times, as text, through ticks and bars of one length.
fn through(rows: &[(String, String)], market: &str, interval: Interval) -> Result<Vec<Bar>, Fault> {
    let normaliser = Normaliser::new(Mapping::default())?;
    let calendar = Arc::new(Calendar::new(CalendarSettings::default())?);
    let settings = BarSettings { intervals: vec![interval], ..BarSettings::default() };
    let mut series = BarSeries::new(calendar, &settings);
    for (number, (time, price)) in rows.iter().enumerate() {
        let raw = format!(r#"{{"price":{price},"timestamp":"{time}"}}"#);
        let message = json!({"event_id": number.to_string(), "tenant_id": "default", "producer": "file@1",
            "occurred_at": time, "payload": {"source_system": "file", "market": market, "symbol": market,
                "sequence": number, "raw_payload": raw, "encoding": "json", "metadata": {}}})
        .to_string();
        let tick = normalise(message.as_bytes(), &normaliser, Tenancy::Named, &NoReference)?;
        let price = tick.traded_price().ok_or("a price went missing")?;
        let sequence = tick.sequence.unwrap_or_default();
        series.add(&Trade { time_us: tick.occurred_us, sequence, price, volume: 0.0 })?;
    }
    let mut told = Vec::new();
    series.advance(i64::MAX, &mut told);
    Ok(told)
}

fn compare(rows: &[(String, String)], bars: &[Bar]) -> Result<Value, Fault> {
    let mut wrong = rows.len().abs_diff(bars.len());
    let (mut negative, mut lowest) = (0, f64::INFINITY);
    for ((time, price), bar) in rows.iter().zip(bars) {
        let price: f64 = price.parse()?;
        let values = &bar.values;
        let is_same =
            [values.open, values.high, values.low, values.close].iter().all(|value| *value == price);
        wrong += usize::from(!is_same || bar.start_us != data::instant_us(time)? || values.trade_count != 1);
        negative += usize::from(values.close < 0.0);
        lowest = lowest.min(values.close);
    }
    Ok(json!({ "prices": rows.len(), "wrong_bars": wrong, "negative_bars": negative, "lowest": lowest }))
}

pub(crate) fn run(folder: &Path, quick: bool) -> Told {
    let mut told = serde_json::Map::new();
    for market in ["DE", "BE"] {
        let rows: Vec<(String, String)> =
            data::power(folder, market)?.into_iter().map(|(time, price, _)| (time, price)).collect();
        let rows = if quick { &rows[..2_000] } else { &rows[..] };
        told.insert(market.to_owned(), compare(rows, &through(rows, "EPEX", Interval::HOUR)?)?);
    }
    let rows: Vec<(String, String)> = data::rows(&folder.join("commodities/oil-prices-wti-daily.csv"))?
        .into_iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    let dated: Vec<(String, String)> =
        rows.iter().map(|(date, price)| (format!("{date}T00:00:00"), price.clone())).collect();
    let bars = through(&rows, "NYMEX", Interval::Day)?;
    let day = data::instant_us("2020-04-20T00:00:00")?;
    let of_day = bars.iter().find(|bar| bar.start_us == day).map(|bar| bar.values.close);
    let mut wti = compare(&dated, &bars)?;
    wti["2020-04-20"] = json!(of_day);
    told.insert("WTI".to_owned(), wti);
    Ok(Value::Object(told))
}
