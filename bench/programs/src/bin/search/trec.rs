//! The measures of `search` on a run and judgements in the formats of TREC.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::PathBuf;

use search::algorithms::evaluation::{average_precision, ndcg, recall, trec_order};
use serde_json::{Value, json};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Query, anything, document, rank, score.
    #[arg(long)]
    run: PathBuf,
    /// Query, anything, document, grade.
    #[arg(long)]
    judgements: PathBuf,
}

pub(crate) fn run(options: &Options) -> Result<Value, Box<dyn Error + Send + Sync>> {
    let mut judged: BTreeMap<String, BTreeMap<String, i32>> = BTreeMap::new();
    for line in fs::read_to_string(&options.judgements)?.lines() {
        if let [query, _, document, grade] = line.split_whitespace().collect::<Vec<_>>()[..] {
            judged.entry(query.to_owned()).or_default().insert(document.to_owned(), grade.parse()?);
        }
    }
    let mut results: BTreeMap<String, Vec<(String, f32)>> = BTreeMap::new();
    for line in fs::read_to_string(&options.run)?.lines() {
        if let [query, _, document, _, score, ..] = line.split_whitespace().collect::<Vec<_>>()[..] {
            results.entry(query.to_owned()).or_default().push((document.to_owned(), score.parse()?));
        }
    }
    let (mut sums, mut queries) = ([0.0; 3], 0_u32);
    for (query, results) in results {
        let Some(judged) = judged.get(&query) else { continue };
        let ranked = trec_order(results);
        let of_query =
            [average_precision(&ranked, judged), ndcg(&ranked, judged, 10), recall(&ranked, judged, 100)];
        sums.iter_mut().zip(of_query).for_each(|(sum, value)| *sum += value);
        queries += 1;
    }
    let [map, ndcg, recall] = sums.map(|sum| sum / f64::from(queries.max(1)));
    Ok(json!({"map": map, "ndcg_cut_10": ndcg, "recall_100": recall, "queries": queries}))
}
