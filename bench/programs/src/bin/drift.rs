//! Looks for drift where there is none, and in March 2020, and prints what was found as one line of JSON.
//!
//! The bar stands in `bench/bars/models_drift.py`. Without drift: rows of features that hang together, normal or lognormal;
//! a monitor's whole life counts once, however many looks it has. For March 2020: daily changes of yields (percentage
//! points) and of the logarithms of prices and of the VIX; reference 2017 to 2019, a look for each month of 2020. It refuses
//! to judge.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rollout::drift::reference::{Reference, Sampler};
use rollout::drift::{DriftReport, DriftSettings, check};
use serde_json::{Value, json};

/// As the product has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Fault = Box<dyn std::error::Error + Send + Sync>;
type Columns = BTreeMap<String, Vec<f64>>;

const FEATURES: usize = 10;
const TRAINING_ROWS: usize = 5_000;
const ROWS_PER_LOOK: usize = 250;
const SAMPLE: usize = 1_000;
const YIELDS: [&str; 3] = ["BC_2YEAR", "BC_10YEAR", "BC_30YEAR"];
/// File, column of the price, name of the feature.
const PRICES: [(&str, &str, &str); 3] = [
    ("commodities/oil-prices-wti-daily.csv", "Price", "wti"),
    ("commodities/oil-prices-brent-daily.csv", "Price", "brent"),
    ("commodities/finance-vix-vix-daily.csv", "CLOSE", "vix"),
];

/// Looks for drift.
#[derive(Debug, Parser)]
#[command(name = "bench-drift")]
struct Arguments {
    /// The folder of the real data
    #[arg(long)]
    data: PathBuf,
    /// A small size, to see that it works
    #[arg(long)]
    quick: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    bench::tell(run(&arguments))
}

fn run(arguments: &Arguments) -> Result<Value, Fault> {
    let (runs, looks) = if arguments.quick { (20, 4) } else { (400, 24) };
    let changes = changes(&arguments.data)?;
    Ok(json!({
        "runs": runs, "looks": looks, "features": FEATURES, "rows_per_look": ROWS_PER_LOOK,
        "normal": without_drift(runs, looks, false),
        "lognormal": without_drift(runs, looks, true),
        "year_2020": months(&changes, (2017, 2019), 2020, 3),
        "year_2019": months(&changes, (2016, 2018), 2019, 12),
    }))
}

fn normal(random: &mut ChaCha8Rng) -> f64 {
    let (one, two) = (random.random::<f64>().max(f64::MIN_POSITIVE), random.random::<f64>());
    (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * two).cos()
}

/// Every two features correlate by a half.
fn rows(random: &mut ChaCha8Rng, count: usize, lognormal: bool) -> Columns {
    let mut columns = Columns::new();
    for _ in 0..count {
        let common = normal(random);
        for feature in 0..FEATURES {
            let value = (common + normal(random)) * std::f64::consts::FRAC_1_SQRT_2;
            let value = if lognormal { value.exp() } else { value };
            columns.entry(format!("feature-{feature}")).or_default().push(value);
        }
    }
    columns
}

fn reference(columns: &Columns) -> Reference {
    let mut sampler = Sampler::new(SAMPLE, 1);
    for (name, values) in columns {
        values.iter().zip(0..).for_each(|(value, row)| sampler.add(name, row, *value));
    }
    sampler.finish()
}

/// Of so many monitors, the shares that alarm at any look; and that would where every p-value is compared with 5 %.
fn without_drift(runs: u64, looks: u64, lognormal: bool) -> Value {
    let settings = DriftSettings::default();
    let (mut alarmed, mut naive, mut looked_naive) = (0_u32, 0_u32, 0_u32);
    for seed in 0..runs {
        // Other draws for each: the test sees ranks alone, which a logarithm does not change.
        let mut random = ChaCha8Rng::seed_from_u64(2 * seed + u64::from(lognormal));
        let known = reference(&rows(&mut random, TRAINING_ROWS, lognormal));
        let reports: Vec<DriftReport> = (1..=looks)
            .map(|look| check(&known, &rows(&mut random, ROWS_PER_LOOK, lognormal), look, &settings))
            .collect();
        let is_naive = |report: &DriftReport| {
            report.features.iter().any(|feature| feature.p_value.is_some_and(|p_value| p_value <= 0.05))
        };
        alarmed += u32::from(reports.iter().any(DriftReport::drifted));
        naive += u32::from(reports.iter().any(is_naive));
        looked_naive += reports.iter().map(|report| u32::from(is_naive(report))).sum::<u32>();
    }
    let share = |count: u32, of: u64| f64::from(count) / of as f64;
    json!({
        "alarmed": share(alarmed, runs), "naive": share(naive, runs), "naive_per_look": share(looked_naive, runs * looks),
    })
}

/// Values by day, as `YYYY-MM-DD`.
fn series(path: &Path, column: &str) -> Result<Vec<(String, f64)>, Fault> {
    let mut reader = csv::Reader::from_path(path).map_err(|fault| format!("{}: {fault}", path.display()))?;
    let at = reader.headers()?.iter().position(|name| name == column);
    let at = at.ok_or_else(|| format!("{} has no column {column}", path.display()))?;
    let mut found = Vec::new();
    for record in reader.records() {
        let record = record?;
        let day = record.get(0).unwrap_or_default().to_owned();
        // A yield of 0.0 was not issued; a price of 0 or below has no logarithm.
        if let Some(value) =
            record.get(at).and_then(|text| text.parse::<f64>().ok()).filter(|value| *value > 0.0)
        {
            found.push((day, value));
        }
    }
    Ok(found)
}

/// By feature, the changes from one day to the next that there is.
fn changes(data: &Path) -> Result<BTreeMap<String, Vec<(String, f64)>>, Fault> {
    let mut all = BTreeMap::new();
    let differences = |levels: &[(String, f64)]| -> Vec<(String, f64)> {
        levels.windows(2).map(|pair| (pair[1].0.clone(), pair[1].1 - pair[0].1)).collect()
    };
    for column in YIELDS {
        all.insert(column.to_lowercase(), differences(&series(&data.join("treasury/ust.csv"), column)?));
    }
    for (file, column, name) in PRICES {
        let levels = series(&data.join(file), column)?;
        let logarithms: Vec<_> = levels.into_iter().map(|(day, value)| (day, value.ln())).collect();
        all.insert(name.to_owned(), differences(&logarithms));
    }
    Ok(all)
}

/// The first months of a year, each a look, against whole years before.
fn months(changes: &BTreeMap<String, Vec<(String, f64)>>, known: (u16, u16), year: u16, count: u64) -> Value {
    let between = |first: &str, last: &str| -> Columns {
        let within = |values: &Vec<(String, f64)>| {
            values
                .iter()
                .filter(|(day, _)| (first..=last).contains(&day.as_str()))
                .map(|(_, value)| *value)
                .collect()
        };
        changes.iter().map(|(name, values)| (name.clone(), within(values))).collect()
    };
    let training = between(&format!("{}-01-01", known.0), &format!("{}-12-31", known.1));
    let known = reference(&training);
    let looks = (1..=count).map(|month| {
        let current = between(&format!("{year}-{month:02}-01"), &format!("{year}-{month:02}-31"));
        let report = check(&known, &current, month, &DriftSettings::default());
        json!({"month": month, "drifted": report.drifted(), "report": report, "values": current})
    });
    let looks: Vec<Value> = looks.collect();
    let sample: Columns =
        known.features.iter().map(|(name, kept)| (name.clone(), kept.values().to_vec())).collect();
    json!({"looks": looks, "reference": sample})
}
