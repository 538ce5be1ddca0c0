//! What the index of the embedded `Vectors` costs and finds, asked through the port: `bench-index --folder FOLDER` reads
//! `vectors.f32`, `queries.f32` (row by row) and `nearest.i32` (of each query the nearest ten, by the distance), which the
//! peer wrote. Prints one line of JSON. The store is made in the folder, on its disk.
//!
//! Building counts all processor time of the process from the first upsert until every vector is in the index: writing and
//! syncing them too. Queries run one after another on the thread that asks.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bench::process::processor_seconds;
use clap::Parser;
use kernel::{Clock, Scope, SystemClock, TenantId};
use serde_json::{Value, json};
use store::{Collection, Metric, VectorFilter, VectorItem};
use store_embedded::{EmbeddedStore, Options};

const COUNT: usize = 10;
const AT_ONCE: usize = 1_000;
const POLL: Duration = Duration::from_millis(20);

type Fault = Box<dyn std::error::Error + Send + Sync>;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures the index of vectors.
#[derive(Debug, Parser)]
#[command(name = "bench-index")]
struct Arguments {
    /// Where the vectors are
    #[arg(long)]
    folder: PathBuf,
    /// Numbers of each vector
    #[arg(long, default_value_t = 128)]
    dimensions: usize,
    /// How often all queries are asked
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    bench::tell(runtime.block_on(run(&arguments)))
}

fn numbers(path: &Path) -> Result<Vec<[u8; 4]>, Fault> {
    let bytes = std::fs::read(path)?;
    Ok(bytes.as_chunks::<4>().0.to_vec())
}

async fn run(arguments: &Arguments) -> Result<Value, Fault> {
    let rows = |name: &str| -> Result<Vec<Vec<f32>>, Fault> {
        let numbers = numbers(&arguments.folder.join(name))?;
        let row = |row: &[[u8; 4]]| row.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        Ok(numbers.chunks_exact(arguments.dimensions).map(row).collect())
    };
    let (vectors, queries) = (rows("vectors.f32")?, rows("queries.f32")?);
    let nearest: Vec<String> = numbers(&arguments.folder.join("nearest.i32"))?
        .iter()
        .map(|bytes| i32::from_le_bytes(*bytes).to_string())
        .collect();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let folder = arguments.folder.join("store");
    let open = || EmbeddedStore::open(&folder, Options::default(), Arc::clone(&clock));
    let store = open()?;
    let scope = Scope::system(TenantId::new("bench")?, "bench");
    let collection =
        Collection { name: "items", dimensions: arguments.dimensions, metric: Metric::Euclidean };
    let (began, before) = (clock.elapsed(), processor_seconds(None)?);
    for (part, chunk) in vectors.chunks(AT_ONCE).enumerate() {
        let item = |(place, vector): (usize, &Vec<f32>)| VectorItem {
            key: (part * AT_ONCE + place).to_string(),
            vector: vector.clone(),
            tags: VectorFilter::new(),
        };
        let items = chunk.iter().enumerate().map(item).collect();
        store.vectors().upsert(&scope, collection, items).await?;
    }
    let written_seconds = processor_seconds(None)? - before;
    indexed(&store).await;
    let build = json!({
        "cpu_seconds": processor_seconds(None)? - before,
        "until_written_cpu_seconds": written_seconds,
        "seconds": clock.elapsed().saturating_sub(began).as_secs_f64(),
    });
    let mut hits = 0;
    let mut best = f64::INFINITY;
    for round in 0..arguments.rounds {
        let before = processor_seconds(None)?;
        for (query, nearest) in queries.iter().zip(nearest.chunks_exact(COUNT)) {
            let found =
                store.vectors().search(&scope, collection, query, COUNT, &VectorFilter::new()).await?;
            if round == 0 {
                hits += found.iter().filter(|found| nearest.contains(&found.key)).count();
            }
        }
        best = best.min(processor_seconds(None)? - before);
    }
    drop(store);
    let began = clock.elapsed();
    let store = open()?;
    let first = store.vectors().count(&scope, collection).await?;
    let loaded_seconds = clock.elapsed().saturating_sub(began).as_secs_f64();
    indexed(&store).await;
    Ok(json!({
        "vectors": first,
        "build": build,
        "recall": hits as f64 / (queries.len() * COUNT) as f64,
        "queries_per_cpu_second": queries.len() as f64 / best,
        "restart": {
            "loaded_seconds": loaded_seconds,
            "indexed_seconds": clock.elapsed().saturating_sub(began).as_secs_f64(),
        },
    }))
}

async fn indexed(store: &EmbeddedStore) {
    while store.vectors_to_index() > 0 {
        tokio::time::sleep(POLL).await;
    }
}
