//! Searches over many generated texts, through the service, over the stores of one folder: words of the model's vocabulary,
//! drawn by Zipf's law in its order, which is about that of their frequency.
//!
//! To encode so many texts would take an hour: the vector of one is a mixture, drawn by its bytes, of vectors that the real
//! model made of short texts, so that they lie where the model puts its vectors. Queries are encoded by the real model.

use std::collections::BTreeMap;
use std::error::Error;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
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

/// Short texts that are encoded, and how many of them the vector of a text is mixed of.
const ENCODED: usize = 4_096;
const MIXED: usize = 4;
const WORDS_PER_TEXT: usize = 120;
const CHANGES_AT_ONCE: usize = 5_000;
/// How often each kind of search is measured, in turns: what else the machine does comes and goes, and the middle one counts.
const ROUNDS: usize = 5;

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

/// Encodes short texts, which queries are, and mixes the vectors of others.
#[derive(Debug)]
struct OfQueries {
    encoder: SentenceEncoder,
    encoded: Vec<Encoded>,
}

impl OfQueries {
    fn new(encoder: SentenceEncoder, words: &Words, rng: &mut ChaCha8Rng) -> kernel::Result<Self> {
        let texts: Vec<String> = (0..ENCODED).map(|_| words.text(rng, 8)).collect();
        let encoded = encoder.encode(&texts.iter().map(String::as_str).collect::<Vec<_>>())?;
        Ok(Self { encoder, encoded })
    }

    fn mixed(&self, text: &str) -> Encoded {
        let seed = text.bytes().fold(0_u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut vector = vec![0.0; self.identity().dimensions];
        for _ in 0..MIXED {
            let (one, weight) = (&self.encoded[rng.random_range(0..ENCODED)], rng.random::<f32>());
            vector.iter_mut().zip(&one.vector).for_each(|(sum, value)| *sum += weight * value);
        }
        Encoded { vector, tokens: WORDS_PER_TEXT, is_truncated: false }
    }
}

impl Encoder for OfQueries {
    fn identity(&self) -> &ModelIdentity {
        self.encoder.identity()
    }

    fn encode(&self, texts: &[&str]) -> kernel::Result<Vec<Encoded>> {
        let is_query = |text: &&str| text.split(' ').count() < WORDS_PER_TEXT;
        if texts.iter().all(is_query) {
            return self.encoder.encode(texts);
        }
        Ok(texts.iter().map(|text| self.mixed(text)).collect())
    }
}

/// What texts are made of.
struct Words(Vec<String>);

impl Words {
    /// The whole words of a model's vocabulary, in its order.
    fn of(model: &Path) -> Result<Self, Failure> {
        let vocabulary = std::fs::read_to_string(model.join("vocab.txt"))?;
        let is_word = |word: &&str| word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_lowercase());
        let words: Vec<String> = vocabulary.lines().filter(is_word).map(str::to_owned).collect();
        if words.len() < 1_000 { Err("the model's vocab.txt has no words".into()) } else { Ok(Self(words)) }
    }

    /// By Zipf's law: the n-th word comes about 1/n as often as the first.
    fn text(&self, rng: &mut ChaCha8Rng, count: usize) -> String {
        let place = |rng: &mut ChaCha8Rng| (self.0.len() as f64).powf(rng.random::<f64>()) as usize - 1;
        (0..count).map(|_| self.0[place(rng)].as_str()).collect::<Vec<_>>().join(" ")
    }
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
    let words = Words::of(&options.model)?;
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let encoder = OfQueries::new(encoder, &words, &mut rng)?;
    let parts = SearchParts {
        log: store.event_log(),
        vectors: store.vectors(),
        records: store.records(),
        cache: store.cache(),
        encoder: Some(Arc::new(encoder)),
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
    let began = Instant::now();
    fill(&search, &scope, options.documents, (&words, &mut rng)).await?;
    let mut told = json!({"documents": options.documents, "index_seconds": began.elapsed().as_secs_f64()});
    // What has no place in the graph yet is compared one by one, while another thread links it: measured by itself.
    let linking = times(&search, &scope, options.queries, (&words, &mut rng), (true, false)).await?;
    told["hybrid_while_linking"] = middle(vec![linking]);
    while store.vectors_to_index() > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    told["linked_seconds"] = json!(began.elapsed().as_secs_f64());
    let kinds = [("words", (false, false)), ("words_and_facets", (false, true)), ("hybrid", (true, false))];
    let mut rounds: BTreeMap<&str, Vec<Times>> = BTreeMap::new();
    for _ in 0..ROUNDS {
        for (name, kind) in kinds {
            let round = times(&search, &scope, options.queries, (&words, &mut rng), kind).await?;
            rounds.entry(name).or_default().push(round);
        }
    }
    for (name, rounds) in rounds {
        told[name] = middle(rounds);
    }
    search.stop().await;
    Ok(told)
}

async fn fill(
    search: &Search,
    scope: &Scope,
    documents: usize,
    (words, rng): (&Words, &mut ChaCha8Rng),
) -> Result<(), Failure> {
    let mut changes = Vec::new();
    for id in 0..documents {
        let tag = format!("tag-{}", id % 50);
        let item = json!({"entity_type": "note", "entity_id": id.to_string(), "text": words.text(rng, WORDS_PER_TEXT), "tags": [tag]});
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

/// Of searches of one round, in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Times {
    p50: f64,
    p95: f64,
    p99: f64,
}

/// The round whose 95th percentile is the middle one, with those of all as they came.
fn middle(mut rounds: Vec<Times>) -> Value {
    let of_all: Vec<f64> = rounds.iter().map(|round| round.p95).collect();
    rounds.sort_by(|left, right| left.p95.total_cmp(&right.p95));
    let Times { p50, p95, p99 } = rounds[rounds.len() / 2];
    json!({"p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "p95_ms_of_rounds": of_all})
}

#[expect(clippy::disallowed_methods, reason = "time is what is measured")]
async fn times(
    search: &Search,
    scope: &Scope,
    queries: usize,
    (words, rng): (&Words, &mut ChaCha8Rng),
    (semantic, counts_facets): (bool, bool),
) -> Result<Times, Failure> {
    let mut times = Vec::new();
    for _ in 0..queries {
        let count = rng.random_range(2..=8);
        let question = Question {
            semantic,
            similarity_min: 0.0,
            counts_facets,
            highlights: true,
            ..Question::new(words.text(rng, count), 10)
        };
        let began = Instant::now();
        let answer = search.search(scope, question).await?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
        if semantic && !answer.semantic {
            // Words alone are quicker: such an answer must not count.
            return Err(answer.fallback.unwrap_or("the answer is by words alone").into());
        }
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| {
        times.get(((times.len().max(1) - 1) as f64 * share) as usize).copied().unwrap_or_default()
    };
    Ok(Times { p50: at(0.5), p95: at(0.95), p99: at(0.99) })
}
