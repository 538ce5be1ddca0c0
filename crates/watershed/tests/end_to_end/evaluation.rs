//! `watershed evaluate`.

use std::fmt::Write;

use serde_json::Value;

use crate::support::Home;

/// Users of four tastes, each with its own order of the same items.
fn ratings() -> String {
    let mut text = "user_id,item_id,rating,timestamp\n".to_owned();
    for user in 0..60 {
        for step in 0..8 {
            let item = (user % 4) * 6 + (user / 4 + step * 3) % 10;
            let _ = writeln!(
                text,
                "u{user},i{item},{},{}",
                1 + (user + step) % 5,
                1_700_000_000 + step * 1_000 + user
            );
        }
    }
    text
}

fn without_timings(path: &std::path::Path) -> Value {
    let mut report: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for row in report["rows"].as_array_mut().unwrap() {
        row.as_object_mut().unwrap().remove("timing");
    }
    report
}

#[test]
fn popularity_stands_first_and_twice_is_the_same() {
    let home = Home::new();
    home.write("ratings.csv", ratings());
    let run = |json: &str| {
        let algorithms = "linear,neighbours,factors,transitions,hybrid";
        let flags = ["evaluate", "--data", "ratings.csv", "--cutoffs", "5", "--algorithms", algorithms];
        home.run(&[&flags[..], &["--json", json, "--plot", "plot.svg"]].concat()).succeeded()
    };
    let first = run("one.json");
    run("two.json");
    let report = without_timings(&home.path("one.json"));
    assert_eq!(report, without_timings(&home.path("two.json")));
    let rows: Vec<_> =
        report["rows"].as_array().unwrap().iter().map(|row| row["algorithm"].as_str().unwrap()).collect();
    assert!(rows.len() == 6 && rows[0].starts_with("popular"), "{rows:?}");
    let table: Vec<&str> = first.stdout.lines().collect();
    let header = table.iter().position(|line| line.starts_with("algorithm")).expect("the table has a header");
    assert!(table[header + 1].starts_with(rows[0]), "{}", first.stdout);
    for measure in ["ndcg@5", "recall@5"] {
        assert!(table[header].contains(measure), "{}", table[header]);
    }
    assert!(std::fs::read_to_string(home.path("plot.svg")).unwrap().contains("<svg"));
}

#[test]
fn every_protocol_runs_and_samples_are_labelled() {
    let home = Home::new();
    home.write("ratings.csv", ratings());
    home.write("test.csv", "user_id,item_id,rating,timestamp\nu1,i9,5,1800000000\nu2,i3,5,1800000000\n");
    let check = |flags: &[&str]| {
        let base = ["evaluate", "--data", "ratings.csv", "--cutoffs", "5", "--algorithms", "linear"];
        home.run(&[&base[..], flags].concat()).succeeded().stdout
    };
    for protocol in ["liang", "temporal", "last-item-out"] {
        assert!(check(&["--protocol", protocol]).contains("ndcg@5"), "{protocol}");
    }
    assert!(check(&["--protocol", "given", "--test", "test.csv"]).contains("ndcg@5"));
    let sampled = check(&["--sampled-negatives", "5"]);
    assert!(sampled.contains("sampled"), "{sampled}");
    assert!(!check(&["--seed", "1"]).contains("sampled"));
}

#[test]
fn what_cannot_be_evaluated_is_told() {
    let home = Home::new();
    home.write("ratings.csv", ratings());
    home.run(&["evaluate"]).failed_with("import");
    home.run(&["evaluate", "--data", "missing.csv"]).failed_with("missing.csv");
    home.run(&["evaluate", "--data", "ratings.csv", "--algorithms", "magic"]).failed_with("--algorithms");
    home.write("tiny.csv", "user_id,item_id\nu,i\n");
    home.run(&["evaluate", "--data", "tiny.csv"]).failed_with("error");
}
