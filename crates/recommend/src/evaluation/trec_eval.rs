//! The golden test: `trec_eval`'s own run, judgements and published output, to its 4 decimals.

use super::metrics::{Judged, Kind, Measure};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

#[expect(clippy::disallowed_methods, reason = "a test may be told where the data is")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The folder, or `None` where the data is absent outside CI.
fn folder() -> Option<PathBuf> {
    let beside_the_project = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data").to_owned();
    let folder = PathBuf::from(environment("WATERSHED_DATA").unwrap_or(beside_the_project)).join("trec_eval");
    let is_present = folder.join("results.test").is_file();
    let is_ci = environment("CI").as_deref() == Some("true");
    assert!(is_present || !is_ci, "no trec_eval data at {}: set WATERSHED_DATA", folder.display());
    is_present.then_some(folder)
}

type ByQuery<T> = BTreeMap<String, T>;

/// Lines of `query _ document grade`.
fn judgements(text: &str) -> ByQuery<BTreeMap<String, f32>> {
    let mut by_query = ByQuery::<BTreeMap<String, f32>>::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        by_query.entry(fields[0].into()).or_default().insert(fields[2].into(), fields[3].parse().unwrap());
    }
    by_query
}

/// Lines of `query _ document rank score tag`, ordered by score as a 32-bit float and then by name, both falling. The
/// rank is ignored, as `trec_eval` does.
fn run(text: &str) -> ByQuery<Vec<String>> {
    let mut by_query = ByQuery::<Vec<(f32, String)>>::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        by_query.entry(fields[0].into()).or_default().push((fields[4].parse().unwrap(), fields[2].into()));
    }
    let in_order = |(query, mut documents): (String, Vec<(f32, String)>)| {
        documents.sort_by(|left, right| right.0.total_cmp(&left.0).then(right.1.cmp(&left.1)));
        (query, documents.into_iter().map(|(_, document)| document).collect())
    };
    by_query.into_iter().map(in_order).collect()
}

/// Numbers the documents and judges the run; grades below `least_grade` are not relevant.
fn judge(ranked: &[String], grades: &BTreeMap<String, f32>, least_grade: f32) -> Judged {
    let mut numbers = BTreeMap::new();
    let mut number = |document: &String| {
        let next = numbers.len() as u32;
        *numbers.entry(document.clone()).or_insert(next)
    };
    let ranked: Vec<u32> = ranked.iter().map(&mut number).collect();
    let relevant = grades.iter().filter(|&(_, &grade)| grade >= least_grade);
    let (items, gains): (Vec<u32>, Vec<f32>) =
        relevant.map(|(document, &grade)| (number(document), grade)).unzip();
    Judged::new(&ranked, &items, &gains)
}

/// The measure of the same definition.
fn measure(name: &str) -> Option<Measure> {
    let (kind, cutoff) = match name.rsplit_once('_') {
        Some((kind, cutoff)) if cutoff.parse::<usize>().is_ok() => (kind, cutoff.parse().ok()),
        _ => (name, None),
    };
    let kind = match (kind, cutoff.is_some()) {
        ("P", true) => Kind::Precision,
        ("recall", true) => Kind::Recall,
        ("success", true) => Kind::HitRate,
        ("map", false) | ("map_cut", true) => Kind::AveragePrecision,
        ("ndcg", false) | ("ndcg_cut", true) => Kind::NdcgGraded,
        ("recip_rank", false) => Kind::ReciprocalRank,
        _ => return None,
    };
    Some(Measure { kind, cutoff })
}

/// Compares with one published output; returns the number of values compared.
fn check(run_text: &str, judgements_text: &str, expected: &str, least_grade: f32) -> usize {
    let run = run(run_text);
    let judgements = judgements(judgements_text);
    let graded: ByQuery<Judged> =
        run.iter().map(|(query, ranked)| (query.clone(), judge(ranked, &judgements[query], 1.0))).collect();
    let binary: ByQuery<Judged> = run
        .iter()
        .map(|(query, ranked)| (query.clone(), judge(ranked, &judgements[query], least_grade)))
        .collect();
    let mut compared = 0;
    for line in expected.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let Some(measure) = measure(fields[0]) else { continue };
        let judged = if measure.kind == Kind::NdcgGraded { &graded } else { &binary };
        let value = match fields[1] {
            "all" => judged.values().map(|judged| measure.of(judged)).sum::<f64>() / judged.len() as f64,
            query => measure.of(&judged[query]),
        };
        assert_eq!(format!("{value:.4}"), fields[2], "{line}");
        compared += 1;
    }
    compared
}

#[test]
fn every_measure_that_we_have_agrees_to_four_decimals() {
    let Some(folder) = folder() else { return };
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let results = read("results.test");
    let plain = check(&results, &read("qrels.test"), &read("out.test.aq"), 1.0);
    let means = check(&results, &read("qrels.test"), &read("out.test.a"), 1.0);
    let graded = check(&results, &read("qrels.rel_level"), &read("out.test.aql"), 2.0);
    assert_eq!((plain, means, graded), (168, 42, 168), "values compared");
}
