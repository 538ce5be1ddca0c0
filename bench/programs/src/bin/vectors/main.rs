//! How near searches under a filter come to the exact answer on a real PostgreSQL, as one line of JSON: recall@10, answers
//! that are too short, and the time of a search. It makes a schema and drops it.
//!
//! Twenty tenants share one index: one has 90 hundredths of the vectors, one has 50 vectors. Each is asked under three
//! filters: its own vectors; a tag that 1 % of them have at random; a topic of 1 % that is not the query's, so that what
//! passes is far from it. The truth is worked out here, over all vectors, and never asked of the database.
//! To add an engine: a line in `Schema::engines`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a program that prints")]

mod data;
mod engines;

use std::collections::BTreeMap;
use std::process::ExitCode;

use bench::latencies::Latencies;
use clap::Parser;
use kernel::{Clock, SystemClock};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::data::{Narrowed, Space, Tenant};
use crate::engines::Schema;

/// Results that are asked for.
const COUNT: usize = 10;

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Measures recall under filters.
#[derive(Debug, Parser)]
#[command(name = "bench-vectors")]
struct Arguments {
    /// Of the PostgreSQL
    #[arg(long)]
    url: String,
    /// Of all tenants together
    #[arg(long, default_value_t = 100_000)]
    vectors: usize,
    /// Of each vector
    #[arg(long, default_value_t = 64)]
    dimensions: usize,
    /// For each tenant and filter
    #[arg(long, default_value_t = 30)]
    queries: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    match runtime.block_on(run(&arguments)) {
        Ok(told) => {
            println!("{told}");
            ExitCode::SUCCESS
        }
        Err(fault) => {
            // The driver keeps what the server said in the cause.
            eprintln!("error: {fault}: {:?}", fault.source().map(ToString::to_string));
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<Value, Fault> {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let space = Space::new(arguments.dimensions, &mut random);
    let tenants = space.tenants(arguments.vectors, &mut random);
    let schema = Schema::create(&arguments.url).await?;
    let told = measure(arguments, &space, &tenants, &schema, &mut random).await;
    schema.drop().await?;
    told
}

async fn measure(
    arguments: &Arguments,
    space: &Space,
    tenants: &[Tenant],
    schema: &Schema,
    random: &mut ChaCha8Rng,
) -> Result<Value, Fault> {
    let clock = SystemClock::new();
    let collection = space.collection();
    let load_seconds = schema.fill(collection, tenants, &clock).await?;
    let engines = schema.engines().await?;
    let mut told = BTreeMap::new();
    for filter in ["tenant", "tag", "far_topic"] {
        let mut scores: BTreeMap<&str, Score> = BTreeMap::new();
        for tenant in tenants {
            for asked in &engines {
                scores.entry(asked.name()).or_default().begin_tenant();
            }
            for _ in 0..arguments.queries {
                let (query, topic) = space.vector(random);
                let narrowed = match filter {
                    "tenant" => Narrowed::Tenant,
                    "tag" => Narrowed::Rare,
                    _ => Narrowed::Topic(space.other_topic(topic)),
                };
                let truth = tenant.nearest(&query, narrowed, COUNT);
                for asked in &engines {
                    let began = clock.elapsed();
                    let found = asked.search(tenant, collection, &query, narrowed, COUNT).await?;
                    let taken = clock.elapsed().saturating_sub(began);
                    scores.entry(asked.name()).or_default().add(&truth, &found, taken);
                }
            }
        }
        let scores: BTreeMap<&str, Value> =
            scores.into_iter().map(|(name, score)| (name, score.told())).collect();
        told.insert(filter, scores);
    }
    let sizes: BTreeMap<&str, usize> =
        tenants.iter().map(|tenant| (tenant.scope.tenant().as_str(), tenant.items.len())).collect();
    Ok(json!({ "tenants": sizes, "load_seconds": load_seconds, "filters": told }))
}

/// What one engine found under one filter.
#[derive(Debug, Default)]
struct Score {
    /// How many were found and how many there were to find, of each tenant.
    tenants: Vec<(usize, usize)>,
    short: usize,
    wrong: usize,
    latencies: Latencies,
}

impl Score {
    fn begin_tenant(&mut self) {
        self.tenants.push((0, 0));
    }

    fn add(&mut self, truth: &[String], found: &[String], taken: std::time::Duration) {
        let hits = found.iter().filter(|key| truth.contains(key)).count();
        if let Some(tenant) = self.tenants.last_mut() {
            *tenant = (tenant.0 + hits, tenant.1 + truth.len());
        }
        self.short += usize::from(found.len() < truth.len());
        self.wrong += usize::from(found.len() > truth.len());
        self.latencies.add(taken);
    }

    fn told(self) -> Value {
        let share = |(hits, wanted): (usize, usize)| hits as f64 / wanted.max(1) as f64;
        let asked = self.tenants.iter().filter(|tenant| tenant.1 > 0);
        let all = asked.clone().fold((0, 0), |sum, tenant| (sum.0 + tenant.0, sum.1 + tenant.1));
        let worst = asked.map(|tenant| share(*tenant)).fold(1.0, f64::min);
        json!({
            "recall": share(all),
            "worst_tenant": worst,
            "short": self.short,
            "wrong": self.wrong,
            "latency": self.latencies.summary(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_short_answers_are_counted() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut score = Score::default();
        score.begin_tenant();
        score.add(&names(&["a", "b"]), &names(&["b", "a"]), std::time::Duration::ZERO);
        score.begin_tenant();
        score.add(&names(&["a", "b"]), &names(&["a"]), std::time::Duration::ZERO);
        score.add(&names(&[]), &names(&["a"]), std::time::Duration::ZERO);
        let told = score.told();
        assert_eq!((&told["recall"], &told["worst_tenant"]), (&json!(0.75), &json!(0.5)));
        assert_eq!((&told["short"], &told["wrong"]), (&json!(1), &json!(1)));
    }
}
