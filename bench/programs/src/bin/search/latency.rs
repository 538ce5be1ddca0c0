//! Searches over many generated texts, through the service, over the stores of one folder: words drawn by Zipf's law.
//!
//! The vectors of the texts are drawn at random, because to encode so many would take an hour; queries are encoded by the
//! real model, and the nearest of all vectors are looked for.

use std::error::Error;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use kernel::{Clock, Scope, SeededEntropy, SystemClock, TenantId};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use search::encoder::{Encoded, Encoder, ModelIdentity, SentenceEncoder};
use search::items::{Change, Item};
use search::questions::Question;
use search::{Search, SearchParts, SearchSettings};
use serde_json::{Value, json};
use store_embedded::{EmbeddedStore, Options as StoreOptions};

/// Different words.
const WORDS: usize = 60_000;
const WORDS_PER_TEXT: usize = 120;
const CHANGES_AT_ONCE: usize = 5_000;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[arg(long, default_value = "100000")]
    documents: usize,
    #[arg(long, default_value = "500")]
    queries: usize,
    #[arg(long, default_value = "7")]
    seed: u64,
    /// The folder of the model that encodes queries.
    #[arg(long)]
    model: PathBuf,
}

/// Encodes short texts, which queries are, and draws the vectors of others from their bytes.
#[derive(Debug)]
struct OfQueries(SentenceEncoder);

impl Encoder for OfQueries {
    fn identity(&self) -> &ModelIdentity {
        self.0.identity()
    }

    fn encode(&self, texts: &[&str]) -> kernel::Result<Vec<Encoded>> {
        let is_query = |text: &&str| text.split(' ').count() < WORDS_PER_TEXT;
        if texts.iter().all(is_query) {
            return self.0.encode(texts);
        }
        let draw = |text: &&str| {
            let seed =
                text.bytes().fold(0_u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let vector = (0..self.0.identity().dimensions).map(|_| rng.random_range(-1.0..1.0)).collect();
            Encoded { vector, tokens: WORDS_PER_TEXT, is_truncated: false }
        };
        Ok(texts.iter().map(draw).collect())
    }
}

/// A word by Zipf's law: the n-th word comes about 1/n as often as the first.
fn word(rng: &mut ChaCha8Rng) -> String {
    let place = (WORDS as f64).powf(rng.random::<f64>()) as usize;
    let mut rest = place * 7_919 + 13;
    let mut word = String::new();
    while rest > 0 {
        word.push(char::from(b'a' + (rest % 26) as u8));
        rest /= 26;
    }
    word
}

fn text(rng: &mut ChaCha8Rng, words: usize) -> String {
    (0..words).map(|_| word(rng)).collect::<Vec<_>>().join(" ")
}

type Failure = Box<dyn Error + Send + Sync>;

pub(crate) fn run(options: &Options) -> Result<Value, Failure> {
    tokio::runtime::Runtime::new()?.block_on(measure(options))
}

#[expect(clippy::disallowed_methods, reason = "time is what is measured")]
async fn measure(options: &Options) -> Result<Value, Failure> {
    let folder = tempfile::tempdir()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let store =
        EmbeddedStore::open(&folder.path().join("store"), StoreOptions::default(), Arc::clone(&clock))?;
    let encoder = SentenceEncoder::open(&options.model, "measured", 1_024, NonZeroUsize::MIN)?;
    let parts = SearchParts {
        log: store.event_log(),
        vectors: store.vectors(),
        records: store.records(),
        cache: store.cache(),
        encoder: Some(Arc::new(OfQueries(encoder))),
        previous_encoder: None,
        reranker: None,
        clock,
        entropy: Arc::new(SeededEntropy::new(options.seed)),
        folder: Some(folder.path().join("search")),
        operator: TenantId::new("measured")?,
        is_alone: true,
    };
    let search =
        Search::new(parts, SearchSettings::default(), &mut prometheus_client::registry::Registry::default())?;
    search.start(true, true);
    let scope = Scope::system(TenantId::new("measured")?, "bench");
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let began = Instant::now();
    fill(&search, &scope, options.documents, &mut rng).await?;
    let mut told = json!({"documents": options.documents, "index_seconds": began.elapsed().as_secs_f64()});
    for (name, semantic, facets) in
        [("words", false, false), ("words_and_facets", false, true), ("hybrid", true, false)]
    {
        told[name] = times(&search, &scope, options.queries, &mut rng, (semantic, facets)).await?;
    }
    search.stop().await;
    Ok(told)
}

async fn fill(search: &Search, scope: &Scope, documents: usize, rng: &mut ChaCha8Rng) -> Result<(), Failure> {
    let mut changes = Vec::new();
    for id in 0..documents {
        let tag = format!("tag-{}", id % 50);
        let item = json!({"entity_type": "note", "entity_id": id.to_string(), "text": text(rng, WORDS_PER_TEXT), "tags": [tag]});
        changes.push(Change::Put(Box::new(serde_json::from_value::<Item>(item)?)));
        if changes.len() == CHANGES_AT_ONCE || id + 1 == documents {
            search.change(scope, std::mem::take(&mut changes)).await?;
        }
    }
    loop {
        let stats = search.stats(scope).await?;
        if stats.lag == 0 && stats.vector_lag == Some(0) {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[expect(clippy::disallowed_methods, reason = "time is what is measured")]
async fn times(
    search: &Search,
    scope: &Scope,
    queries: usize,
    rng: &mut ChaCha8Rng,
    (semantic, counts_facets): (bool, bool),
) -> Result<Value, Failure> {
    let mut times = Vec::new();
    for _ in 0..queries {
        let words = rng.random_range(2..=8);
        let question = Question {
            semantic,
            similarity_min: 0.0,
            counts_facets,
            highlights: true,
            ..Question::new(text(rng, words), 10)
        };
        let began = Instant::now();
        std::hint::black_box(search.search(scope, question).await?);
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| {
        times.get(((times.len().max(1) - 1) as f64 * share) as usize).copied().unwrap_or_default()
    };
    Ok(json!({"p50_ms": at(0.5), "p95_ms": at(0.95), "p99_ms": at(0.99)}))
}
