//! Measures searches through the index against exact ones, under a tenant filter: `recall URL [VECTORS] [DIMENSIONS]`.
//! Five tenants share the index: with 80, 15, 4, 0.9 and 0.1 hundredths of the vectors. It makes a schema and drops it.

#![expect(clippy::print_stdout, reason = "it is a program that prints")]

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use kernel::{Clock, Entropy, Result, Scope, SeededEntropy, SystemClock, SystemEntropy, TenantId};
use store::{Collection, Metric, VectorFilter, VectorItem, Vectors};
use store_postgres::{DatabaseUrl, Migrator, PostgresStore, Settings};

const PER_MILLE: [(&str, usize); 5] =
    [("huge", 800), ("large", 150), ("middle", 40), ("small", 9), ("tiny", 1)];
const COUNT: usize = 10;
const QUERIES: u32 = 200;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<usize>().expect("a number");
    let (url, vectors, dimensions) = match arguments[..] {
        [url] => (url, 20_000, 128),
        [url, vectors] => (url, number(vectors), 128),
        [url, vectors, dimensions] => (url, number(vectors), number(dimensions)),
        _ => {
            println!("usage: recall URL [VECTORS] [DIMENSIONS]");
            return;
        }
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    runtime.block_on(measure(url, vectors, dimensions)).expect("the server is good");
}

fn number(random: &SeededEntropy) -> f32 {
    let bits = u16::try_from(random.next_u64() >> 48).unwrap_or(0);
    f32::from(bits) / 32_768.0 - 1.0
}

/// Near one of 200 centres, as embeddings are near topics.
fn vector(random: &SeededEntropy, dimensions: usize) -> Vec<f32> {
    let centre = SeededEntropy::new(random.next_u64() % 200);
    (0..dimensions).map(|_| number(&centre) + number(random) * 0.7).collect()
}

fn scope(tenant: &str) -> Scope {
    Scope::system(TenantId::new(tenant).expect("a lawful name"), "recall")
}

async fn measure(url: &str, vectors: usize, dimensions: usize) -> Result<()> {
    let schema = format!("recall_{:016x}", SystemEntropy::new().next_u64());
    let settings = Settings {
        url: Some(DatabaseUrl::new(url)),
        schema,
        statement_timeout_seconds: 60.0,
        ..Settings::default()
    };
    let clock = SystemClock::new();
    let migrator = Migrator::new(&settings, &clock);
    migrator.up().await?;
    let outcome = compare(&settings, vectors, dimensions).await;
    migrator.down(0).await?;
    outcome
}

async fn open(settings: &Settings, exact_search_vectors: u64) -> Result<Arc<dyn Vectors>> {
    let settings = Settings { exact_search_vectors, ..settings.clone() };
    let store = PostgresStore::open(settings, Arc::new(SystemClock::new()), Arc::new(SystemEntropy::new()));
    Ok(store.await?.vectors())
}

async fn compare(settings: &Settings, vectors: usize, dimensions: usize) -> Result<()> {
    let clock = SystemClock::new();
    let collection = Collection { name: "items", dimensions, metric: Metric::Cosine };
    let (indexed, exact) = (open(settings, 0).await?, open(settings, u64::MAX).await?);
    let usual = open(settings, Settings::default().exact_search_vectors).await?;
    let random = SeededEntropy::new(1);
    let begin = clock.elapsed();
    for (tenant, per_mille) in PER_MILLE {
        for start in (0..vectors * per_mille / 1_000).step_by(1_000) {
            let item = |number: usize| VectorItem {
                key: number.to_string(),
                vector: vector(&random, dimensions),
                tags: BTreeMap::new(),
            };
            let end = (start + 1_000).min(vectors * per_mille / 1_000);
            indexed.upsert(&scope(tenant), collection, (start..end).map(item).collect()).await?;
        }
    }
    let taken = clock.elapsed().saturating_sub(begin);
    println!("{vectors} vectors of {dimensions} dimensions upserted in {taken:.1?}");
    for (tenant, _) in PER_MILLE {
        let scope = scope(tenant);
        let held = exact.count(&scope, collection).await?;
        let mut line = format!("tenant {tenant:>6} with {held:>7} vectors:");
        for (name, engine) in [("index", &indexed), ("as configured", &usual)] {
            let (mut hits, mut wanted, mut time) = (0_u32, 0_u32, Duration::ZERO);
            for _ in 0..QUERIES {
                let query = vector(&random, dimensions);
                let none = VectorFilter::new();
                let truth = exact.search(&scope, collection, &query, COUNT, &none).await?;
                let start = clock.elapsed();
                let found = engine.search(&scope, collection, &query, COUNT, &none).await?;
                time += clock.elapsed().saturating_sub(start);
                assert_eq!(found.len(), truth.len(), "as many as there are");
                let truth: HashSet<&str> = truth.iter().map(|found| &*found.key).collect();
                wanted += u32::try_from(truth.len()).unwrap_or(0);
                hits += found.iter().map(|found| u32::from(truth.contains(&*found.key))).sum::<u32>();
            }
            let recall = f64::from(hits) / f64::from(wanted);
            line += &format!(" {name}: recall@{COUNT} {recall:.4}, {:.2?} a search;", time / QUERIES);
        }
        println!("{line}");
    }
    Ok(())
}
