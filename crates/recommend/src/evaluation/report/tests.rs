//! The table, its JSON and its chart.

use super::*;
use crate::evaluation::metrics::{Kind, Measure};
use crate::evaluation::protocol::Protocol;
use crate::evaluation::ranking::{Candidates, Settings, evaluate};
use crate::evaluation::testing::{Fixed, interactions};
use kernel::{ManualClock, Timestamp};

fn entry(algorithm: &str, slope: f32, candidates: Candidates, parts: &[&str]) -> (Description, Entry) {
    let split = Protocol::LastItemOut.split(&interactions(40, 60, |user| 4 + user % 5)).unwrap();
    let fixed = Fixed { name: "fixed", scores: (0..60).map(|item| slope * item as f32).collect() };
    let measures = vec![Measure::at(Kind::Ndcg, 10), Measure::at(Kind::Recall, 20)];
    let settings = Settings { measures, candidates, ..Settings::default() };
    let clock = ManualClock::at(Timestamp::UNIX_EPOCH);
    let (training, holdout) = (&split.test.interactions, &split.test.holdout);
    let alike = |one: u32, two: u32| f32::from(u8::from(one % 2 == two % 2));
    let evaluation = evaluate(&fixed, training, holdout, Some(&alike), &settings, &clock).unwrap();
    let settings = SettingsMap::from_iter([("slope".to_owned(), slope.into())]);
    let parts = parts.iter().map(|&part| part.to_owned()).collect();
    (
        split.description,
        Entry {
            algorithm: algorithm.to_owned(),
            settings,
            search: None,
            parts,
            fit_seconds: 1.5,
            evaluation,
        },
    )
}

fn report(candidates: Candidates) -> Report {
    let (split, popularity) = entry("popularity", 1.0, candidates, &[]);
    let others = vec![
        entry("a <b> & c", -1.0, candidates, &[]).1,
        entry("hybrid", -1.0, candidates, &["popularity", "a <b> & c"]).1,
    ];
    Report::new(split, popularity, others, bootstrap::Settings { resamples: 100, ..Default::default() })
        .unwrap()
}

#[test]
fn popularity_is_first_and_the_whole_is_compared_with_its_best_part() {
    let report = report(Candidates::Catalogue);
    assert_eq!(report.rows[0].algorithm, "popularity");
    assert!(report.rows[0].measures[0].over_popularity.is_none());
    assert_eq!(report.caption().last().unwrap(), "hybrid of popularity, a <b> & c");
    let mean = |row: usize| report.rows[row].measures[0].value.mean;
    let over = report.rows[2].measures[0].over_best_part.clone().unwrap();
    assert_eq!(over.part, if mean(0) >= mean(1) { "popularity" } else { "a <b> & c" });
    assert!((over.difference.mean - (mean(2) - mean(0).max(mean(1)))).abs() < 1e-12);
}

#[test]
fn json_is_read_back_and_repeats() {
    let first = report(Candidates::Catalogue).without_timings();
    let text = first.to_json().unwrap();
    assert_eq!(text, report(Candidates::Catalogue).without_timings().to_json().unwrap());
    let read = serde_json::from_str::<Report>(&text).unwrap();
    assert_eq!((read.split.protocol, read.rows.len()), (first.split.protocol, first.rows.len()));
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let names =
        |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(names(&value), "bootstrap list_length rows schema split");
    assert_eq!(
        names(&value["rows"][2]),
        "algorithm coverage diversity gini invalid_scores measures novelty parts settings timing"
    );
    assert_eq!(names(&value["rows"][2]["measures"][0]), "measure over_best_part over_popularity value");
    assert_eq!(value["schema"], "watershed.evaluation.v1");
}

#[test]
fn the_text_is_aligned_and_says_what_was_done() {
    let text = report(Candidates::Catalogue).to_text();
    for expected in [
        "last item out",
        "nothing drawn",
        "40 users, 60 items",
        "full ranking",
        "diversity@10",
        "hybrid over",
        "{\"slope\":-1.0}",
    ] {
        assert!(text.contains(expected), "{expected} is missing in\n{text}");
    }
    let lines: Vec<&str> = text.lines().collect();
    let header = lines.iter().position(|line| line.starts_with("algorithm")).unwrap();
    let column = lines[header].find("recall@20").unwrap();
    for line in &lines[header + 1..header + 4] {
        assert_eq!(line.as_bytes()[column - 1], b' ', "{line}");
        assert!(line.as_bytes()[column].is_ascii_digit(), "{line}");
    }
    assert!(lines.iter().all(|line| !line.ends_with(' ')));
}

#[test]
fn sampled_candidates_are_named_in_every_form() {
    let report = report(Candidates::Sampled(7));
    let text = report.to_text();
    assert!(text.contains("sampled-7 negatives") && !text.contains("full ranking of"), "{text}");
    assert!(text.contains("ndcg@10 sampled-7") && text.contains("recall@20 sampled-7"));
    assert!(report.to_json().unwrap().contains("ndcg@10 sampled-7"));
    assert!(report.to_svg().unwrap().contains("ndcg@10 sampled-7"));
}

#[test]
fn the_chart_is_well_formed_and_repeats() {
    let svg = report(Candidates::Catalogue).to_svg().unwrap();
    assert_eq!(svg, report(Candidates::Catalogue).to_svg().unwrap());
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    assert!(!svg.contains("<b>"), "names are escaped");
    assert_eq!(svg.matches("<circle").count(), 6, "a dot per algorithm and measure");
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let check = |change: &dyn Fn(&mut Entry), expected: &str| {
        let (split, popularity) = entry("popularity", 1.0, Candidates::Catalogue, &[]);
        let mut other = entry("other", 1.0, Candidates::Catalogue, &[]).1;
        change(&mut other);
        let error = Report::new(split, popularity, vec![other], Default::default()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(&|entry| entry.algorithm = "popularity".to_owned(), "two entries are named");
    check(&|entry| entry.parts = vec!["ease".to_owned()], "part `ease`");
    check(&|entry| entry.evaluation.labels[0] = "ndcg@9".to_owned(), "other measures");
    check(&|entry| entry.evaluation.novelty.push(0.0), "on 41 users, not 40");
}
