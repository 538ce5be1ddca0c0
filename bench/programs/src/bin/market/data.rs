//! Reads the real data: trades of an exchange, hourly power prices, daily prices, par yields.

use std::io::{BufRead, BufReader};
use std::path::Path;

use jiff::civil::DateTime;
use jiff::tz::Offset;
use market::algorithms::bars::Trade;

use crate::Fault;

fn open(path: &Path) -> Result<std::fs::File, Fault> {
    Ok(std::fs::File::open(path).map_err(|cause| format!("{}: {cause}", path.display()))?)
}

/// Rows of a file with a head, as text.
pub(crate) fn rows(path: &Path) -> Result<Vec<Vec<String>>, Fault> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(open(path)?);
    let rows = reader.records().map(|row| Ok(row?.iter().map(str::to_owned).collect()));
    rows.collect()
}

/// The messages of the exchange about trades, as it sent them.
pub(crate) fn trade_messages(data: &Path) -> Result<Vec<String>, Fault> {
    let file = open(&data.join("ticks/binance_usdm_btcusdt_20240808.gz"))?;
    let mut messages = Vec::new();
    for line in BufReader::new(flate2::read::MultiGzDecoder::new(file)).lines() {
        let line = line?;
        let (_, message) = line.split_once(' ').ok_or("a line of the ticks is `time JSON`")?;
        if message.contains(r#""e":"trade""#) {
            messages.push(message.to_owned());
        }
    }
    Ok(messages)
}

/// The trades in those messages.
pub(crate) fn trades(data: &Path) -> Result<Vec<Trade>, Fault> {
    let mut trades = Vec::new();
    for message in trade_messages(data)? {
        let value: serde_json::Value = serde_json::from_str(&message)?;
        let fields = &value["data"];
        let decimal = |name: &str| -> Result<f64, Fault> {
            Ok(fields[name].as_str().ok_or("a price is text")?.parse()?)
        };
        trades.push(Trade {
            time_us: fields["T"].as_i64().ok_or("a trade has a time")? * 1_000,
            sequence: fields["t"].as_u64().ok_or("a trade has a number")?,
            price: decimal("p")?,
            volume: decimal("q")?,
        });
    }
    Ok(trades)
}

/// Microseconds of a local time, taken for UTC.
pub(crate) fn instant_us(text: &str) -> Result<i64, Fault> {
    let time: DateTime = text.parse()?;
    Ok(Offset::UTC.to_timestamp(time)?.as_microsecond())
}

/// Hourly prices of a power market: time as text, price as text, and a load.
pub(crate) fn power(data: &Path, market: &str) -> Result<Vec<(String, String, f64)>, Fault> {
    let rows = rows(&data.join(format!("power/{market}.csv")))?;
    let read = |row: &Vec<String>| -> Result<_, Fault> {
        Ok((row[0].clone(), row[1].clone(), row[2].parse::<f64>()?))
    };
    rows.iter().map(read).collect()
}
