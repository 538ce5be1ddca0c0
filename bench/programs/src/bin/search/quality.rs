//! A judged collection: every query by words, by meaning, and by both.
//!
//! The share for meaning is learned on the queries of the part `validation`; figures are of the part `test`. Vectors of
//! the texts are kept in a file, since to make them takes most of the time.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use search::algorithms::bm25::Bm25;
use search::algorithms::evaluation::{average_precision, ndcg, recall};
use search::algorithms::fusion::{Fusion, Validation, fuse, learn_weight};
use search::analysis::{Analyzer, Synonyms};
use search::encoder::{Encoder, SentenceEncoder};
use search::index::{TextIndex, TextQuery};
use search::items::{Change, Item, ItemName};
use serde::Deserialize;
use serde_json::{Value, json};

/// Results of each ranking that is fused or measured.
const DEPTH: usize = 100;
const VALIDATION: &str = "validation";

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// `{documents: [{id, text}], queries: [{id, text, part, judged: {id: grade}}]}`.
    #[arg(long)]
    collection: PathBuf,
    /// The folder of a model; by words alone without one.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Where the vectors of the texts are kept.
    #[arg(long)]
    vectors: Option<PathBuf>,
    /// The share for meaning; learned where missing.
    #[arg(long)]
    weight: Option<f64>,
    #[arg(long, default_value = "0.9")]
    k1: f32,
    #[arg(long, default_value = "0.4")]
    b: f32,
    /// Whether words that no text has are taken for mistyped.
    #[arg(long)]
    typos: bool,
}

#[derive(Debug, Deserialize)]
struct Collection {
    documents: Vec<Document>,
    queries: Vec<Query>,
}

#[derive(Debug, Deserialize)]
struct Document {
    id: String,
    text: String,
}

#[derive(Debug, Deserialize)]
struct Query {
    text: String,
    part: String,
    judged: BTreeMap<String, i32>,
}

type Failure = Box<dyn Error + Send + Sync>;
type Ranked = Vec<(String, f32)>;

pub(crate) fn run(options: &Options) -> Result<Value, Failure> {
    let collection: Collection = serde_json::from_slice(&fs::read(&options.collection)?)?;
    let lexical = by_words(&collection, options)?;
    let semantic = match &options.model {
        Some(model) => Some(by_meaning(&collection, model, options.vectors.as_deref())?),
        None => None,
    };
    let parts = |part: &str| -> Vec<usize> {
        (0..collection.queries.len())
            .filter(|query| (collection.queries[*query].part == VALIDATION) == (part == VALIDATION))
            .collect()
    };
    let (validation, test) = (parts(VALIDATION), parts("test"));
    let measure = |rankings: &[Ranked]| measures(&collection, &test, rankings);
    let mut told = json!({"queries": test.len(), "validation": validation.len(), "documents": collection.documents.len(), "bm25": measure(&lexical)});
    if let Some(semantic) = semantic {
        let of_query = |query: &usize| Validation {
            lexical: lexical[*query].clone(),
            semantic: semantic[*query].clone(),
            judged: collection.queries[*query].judged.clone(),
        };
        let weight = options
            .weight
            .unwrap_or_else(|| learn_weight(&validation.iter().map(of_query).collect::<Vec<_>>()));
        told["semantic"] = measure(&semantic);
        told["weight"] = json!(weight);
        let ways = [Fusion::Rrf, Fusion::Weighted, Fusion::Combsum, Fusion::Learned(weight)];
        for (name, fusion) in ["rrf", "weighted", "combsum", "learned"].into_iter().zip(ways) {
            let both = |(lexical, semantic): (&Ranked, &Ranked)| {
                fuse(fusion, lexical, semantic)
                    .into_iter()
                    .map(|fused| (fused.key, fused.score as f32))
                    .collect()
            };
            told[name] = measure(&lexical.iter().zip(&semantic).map(both).collect::<Vec<Ranked>>());
        }
    }
    Ok(told)
}

fn by_words(collection: &Collection, options: &Options) -> Result<Vec<Ranked>, Failure> {
    let bm25 = Bm25 { k1: options.k1, b: options.b };
    let index = TextIndex::in_memory(bm25)?;
    let put = |document: &Document| -> Result<Change, Failure> {
        let item: Item = serde_json::from_value(
            json!({"entity_type": "document", "entity_id": document.id, "text": document.text}),
        )?;
        Ok(Change::Put(Box::new(item)))
    };
    index.apply(&collection.documents.iter().map(put).collect::<Result<Vec<_>, _>>()?)?;
    let ranked = |query: &Query| -> Result<Ranked, Failure> {
        let meanings = Synonyms::default().meanings(&Analyzer::default().tokens(&query.text));
        let asked =
            TextQuery { meanings, count: DEPTH, forgives_typos: options.typos, ..TextQuery::default() };
        let id = |key: &str| Ok::<_, Failure>(ItemName::of_key(key)?.entity_id.to_string());
        index.search(&asked)?.hits.into_iter().map(|hit| Ok((id(&hit.key)?, hit.score))).collect()
    };
    collection.queries.iter().map(ranked).collect()
}

fn by_meaning(collection: &Collection, model: &Path, kept: Option<&Path>) -> Result<Vec<Ranked>, Failure> {
    let encoder =
        SentenceEncoder::open(model, "measured", 1_024, NonZeroUsize::new(2).unwrap_or(NonZeroUsize::MIN))?;
    let encode = |texts: Vec<&str>| -> Result<Vec<Vec<f32>>, Failure> {
        Ok(encoder.encode(&texts)?.into_iter().map(|encoded| encoded.vector).collect())
    };
    let width = encoder.identity().dimensions;
    let documents = match kept.map(fs::read) {
        Some(Ok(bytes)) if bytes.len() == 4 * width * collection.documents.len() => {
            let numbers: Vec<f32> =
                bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            numbers.chunks_exact(width).map(<[f32]>::to_vec).collect()
        }
        _ => {
            let made = encode(collection.documents.iter().map(|document| document.text.as_str()).collect())?;
            if let Some(kept) = kept {
                fs::write(
                    kept,
                    made.iter().flatten().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>(),
                )?;
            }
            made
        }
    };
    let queries = encode(collection.queries.iter().map(|query| query.text.as_str()).collect())?;
    let ranked = |query: &Vec<f32>| -> Ranked {
        let score = |vector: &Vec<f32>| vector.iter().zip(query).map(|(left, right)| left * right).sum();
        let mut all: Ranked = collection
            .documents
            .iter()
            .zip(&documents)
            .map(|(document, vector)| (document.id.clone(), score(vector)))
            .collect();
        all.sort_by(|left, right| right.1.total_cmp(&left.1).then_with(|| left.0.cmp(&right.0)));
        all.truncate(DEPTH);
        all
    };
    Ok(queries.par_iter().map(ranked).collect())
}

fn measures(collection: &Collection, queries: &[usize], rankings: &[Ranked]) -> Value {
    let mut sums = [0.0; 3];
    for query in queries {
        let judged = &collection.queries[*query].judged;
        let ranked: Vec<String> = rankings[*query].iter().map(|(key, _)| key.clone()).collect();
        let of_query =
            [ndcg(&ranked, judged, 10), recall(&ranked, judged, 100), average_precision(&ranked, judged)];
        sums.iter_mut().zip(of_query).for_each(|(sum, value)| *sum += value);
    }
    let [ndcg, recall, map] = sums.map(|sum| sum / queries.len().max(1) as f64);
    json!({"ndcg@10": ndcg, "recall@100": recall, "map": map})
}
