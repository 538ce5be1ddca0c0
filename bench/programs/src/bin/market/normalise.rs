//! Raw ticks to normalised ticks, JSON in and out, in memory, on one thread: the guide's two envelopes and the bare
//! message of an exchange, all around the same real trades.

use std::path::Path;

use bench::process::processor_seconds;
use kernel::TenantId;
use market::algorithms::ticks::{Mapping, NoReference, Normaliser, Tenancy, normalise};
use market::events::{NormalisedEvent, Stamp};
use serde_json::{Value, json};

use crate::{Fault, Told, data};

fn guide(quick: bool, trades: &[Value], flat: bool) -> Result<Value, Fault> {
    let messages: Vec<String> = trades
        .iter()
        .map(|trade| {
            let (price, volume) = (&trade["p"], &trade["q"]);
            let raw = json!({"price": number(price), "volume": number(volume), "timestamp": trade["T"]});
            let (id, sequence) = (format!("evt-{}", trade["t"]), &trade["t"]);
            if flat {
                json!({"event_id": id, "trace_id": format!("trace-{sequence}"), "schema_version": "1.0.0",
                    "tenant_id": "default", "producer": "miso@1", "occurred_at": 1_704_067_200_000_000_i64,
                    "ingested_at": 1_704_067_200_500_000_i64,
                    "payload": {"source_system": "miso", "market": "miso", "symbol": "MISO_INDIANA_HUB",
                        "sequence": sequence, "received_at": 1_704_067_200_400_000_i64, "raw_payload": raw.to_string(),
                        "encoding": "json", "metadata": {}, "retry_count": 0, "checksum": null}})
            } else {
                json!({"envelope": {"event_type": "tick", "event_id": id, "timestamp": "2024-01-01T00:00:00Z",
                        "tenant_id": "default", "source": "miso", "version": "1", "correlation_id": "c1",
                        "causation_id": null, "metadata": {}},
                    "payload": {"symbol": "MISO_INDIANA_HUB", "market": "miso", "sequence": sequence,
                        "price": raw["price"], "volume": raw["volume"], "timestamp": raw["timestamp"]}})
            }
            .to_string()
        })
        .collect();
    measure(quick, &messages, &Normaliser::new(Mapping::default())?)
}

fn number(text: &Value) -> f64 {
    text.as_str().and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn measure(quick: bool, messages: &[String], normaliser: &Normaliser) -> Result<Value, Fault> {
    let tenant = TenantId::new("default")?;
    let rounds = if quick { 1 } else { 200 };
    let mut out = Vec::with_capacity(1 << 20);
    let (mut bytes_in, mut bytes_out, mut rejected) = (0, 0, 0);
    let began = processor_seconds(None)?;
    for _ in 0..rounds {
        for message in messages {
            bytes_in += message.len();
            match normalise(message.as_bytes(), normaliser, Tenancy::Only(&tenant), &NoReference) {
                Ok(tick) => {
                    let stamp =
                        Stamp { normalised_us: tick.occurred_us + 1_000, producer: "normalize-ticks@1.0.0" };
                    NormalisedEvent::of(&tick, stamp).write(&mut out);
                }
                Err(_) => rejected += 1,
            }
            if out.len() > 1 << 19 {
                bytes_out += out.len();
                out.clear();
            }
        }
    }
    let cpu_seconds = processor_seconds(None)? - began;
    let ticks = rounds * messages.len();
    Ok(json!({
        "ticks": ticks, "rejected": rejected, "cpu_seconds": cpu_seconds,
        "ticks_per_cpu_second": ticks as f64 / cpu_seconds.max(0.01),
        "bytes_in_a_tick": bytes_in / ticks, "bytes_out_a_tick": bytes_out / ticks,
    }))
}

pub(crate) fn run(folder: &Path, quick: bool) -> Told {
    let bare = data::trade_messages(folder)?;
    let trades: Vec<Value> = bare
        .iter()
        .map(|message| Ok(serde_json::from_str::<Value>(message)?["data"].take()))
        .collect::<Result<_, Fault>>()?;
    let mapping: Mapping = serde_json::from_value(json!({
        "price": ["data.p"], "volume": ["data.q"], "bid": [], "ask": [], "time": ["data.T"], "sequence": ["data.t"],
        "symbol": ["data.s"], "sequence_scope": "symbol", "default_source": "binance", "default_market": "crypto",
    }))?;
    Ok(json!({
        "flat": guide(quick, &trades, true)?,
        "nested": guide(quick, &trades, false)?,
        "bare": measure(quick, &bare, &Normaliser::new(mapping)?)?,
    }))
}
