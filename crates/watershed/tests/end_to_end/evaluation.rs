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
fn the_hybrid_is_the_one_that_is_configured_or_named() {
    let home = Home::with_settings("[recommend.training.algorithms]\nsequence = false\ngraph = true\n");
    home.write("ratings.csv", ratings());
    let rows = |flags: &[&str]| {
        let base = ["evaluate", "--data", "ratings.csv", "--cutoffs", "5", "--json", "report.json"];
        let told = home.run(&[&base[..], flags].concat()).succeeded().stdout;
        let report = without_timings(&home.path("report.json"));
        let rows = report["rows"].as_array().unwrap().clone();
        let names: Vec<_> = rows.iter().map(|row| row["algorithm"].as_str().unwrap().to_owned()).collect();
        let parts = rows.last().unwrap()["parts"].as_array().unwrap().clone();
        let parts: Vec<_> = parts.iter().map(|part| part.as_str().unwrap().to_owned()).collect();
        assert!(told.contains(&format!("hybrid of {}", parts.join(", "))), "{told}");
        assert_eq!((&names[..parts.len()], names.last().unwrap().as_str()), (&parts[..], "hybrid"));
        parts
    };
    assert_eq!(rows(&[]), ["popular", "ease", "als", "graph_filter", "transitions"]);
    assert_eq!(rows(&["--protocol", "liang"]), ["popular", "ease", "als", "graph_filter"]);
    let by_either_name = ["--algorithms", "ease,factors,popular,linear,hybrid"];
    assert_eq!(rows(&by_either_name), ["popular", "ease", "als"]);
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
        let told = check(&["--protocol", protocol]);
        assert!(told.contains("ndcg@5") && told.contains(" recall@5"), "{protocol}: {told}");
        assert_eq!(told.contains("recall_capped@5"), protocol == "liang", "{protocol}: {told}");
    }
    assert!(check(&["--protocol", "given", "--test", "test.csv"]).contains("ndcg@5"));
    let sampled = check(&["--sampled-negatives", "5"]);
    assert!(sampled.contains("sampled"), "{sampled}");
    assert!(!check(&["--seed", "1"]).contains("sampled"));
}

#[test]
fn tuning_is_told_and_twice_the_same() {
    let home = Home::new();
    home.write("ratings.csv", ratings());
    let run = |json: &str| {
        let algorithms = "linear,factors,neighbours,graph,transitions,content,hybrid";
        let flags = ["evaluate", "--data", "ratings.csv", "--cutoffs", "5", "--algorithms", algorithms];
        home.run(&[&flags[..], &["--tune", "--tune-budget", "4", "--json", json]].concat()).succeeded()
    };
    let first = run("one.json");
    assert!(first.stderr.contains("tuning linear: ndcg@5"), "{}", first.stderr);
    assert!(first.stdout.contains("best of 4 trials, validation ndcg@5"), "{}", first.stdout);
    run("two.json");
    let report = without_timings(&home.path("one.json"));
    assert_eq!(report, without_timings(&home.path("two.json")));
    for row in report["rows"].as_array().unwrap() {
        let name = row["algorithm"].as_str().unwrap();
        let is_searched = !["popular", "hybrid"].contains(&name);
        assert_eq!(row.get("search").is_some(), is_searched, "{name}");
        if let Some(search) = row.get("search") {
            assert_eq!((&search["measure"], &search["trials"]), (&"ndcg@5".into(), &4.into()), "{name}");
            assert!(search["best"].as_f64() >= search["first"].as_f64(), "{name}");
        }
    }
}

#[test]
fn the_split_can_be_taken_elsewhere() {
    let home = Home::new();
    home.write("ratings.csv", ratings());
    let check = |protocol: &str, pairs: usize| {
        let folder = format!("split-{protocol}");
        let flags = ["evaluate", "--data", "ratings.csv", "--algorithms", "popularity", "--min-rating", "2"];
        let ran = home.run(&[&flags[..], &["--protocol", protocol, "--export-split", &folder]].concat());
        assert!(ran.succeeded().stdout.contains("ratings of at least 2; each counts 1"), "{protocol}");
        let read = |name: &str| std::fs::read_to_string(home.path(&format!("{folder}/{name}"))).unwrap();
        for part in ["validation", "test"] {
            let (known, wanted) = (read(&format!("{part}-known.txt")), read(&format!("{part}.txt")));
            let user = |line: &str| line.split(' ').next().unwrap().to_owned();
            assert_eq!(
                known.lines().map(user).collect::<Vec<_>>(),
                wanted.lines().map(user).collect::<Vec<_>>()
            );
            assert_eq!(wanted.lines().count(), pairs, "{protocol} {part}");
        }
        assert_eq!(read("train.txt") == read("validation-train.txt"), protocol == "liang");
    };
    check("liang", 6);
    check("last-item-out", 60);
}

#[test]
fn lists_bring_their_test_part_and_their_order() {
    let home = Home::new();
    let list = |user: usize, steps: std::ops::Range<usize>| {
        let items: Vec<String> =
            steps.map(|step| ((user % 4) * 6 + (user / 4 + step * 3) % 10).to_string()).collect();
        format!("{user} {}\n", items.join(" "))
    };
    home.write("lists/train.txt", (0..60).map(|user| list(user, 0..6)).collect::<String>());
    home.write("lists/test.txt", (0..60).map(|user| list(user, 6..8)).collect::<String>());
    let base = ["evaluate", "--data", "lists", "--cutoffs", "5", "--algorithms", "linear"];
    let check = |flags: &[&str], expected: &[&str]| {
        let told = home.run(&[&base[..], flags].concat()).succeeded().stdout;
        expected.iter().for_each(|part| assert!(told.contains(part), "no `{part}` in {told}"));
    };
    let given = ["--protocol", "given"];
    let random = ["a random 10 % of each", "--ordered-lists says that it is"];
    check(&given, &[&["480 interactions"][..], &random].concat());
    check(&[&given[..], &["--test", "lists/test.txt"]].concat(), &["480 interactions"]);
    let ordered = ["the last 10 % of each", "the order of the lists is used as that of time"];
    check(&[&given[..], &["--ordered-lists"]].concat(), &ordered);
    check(&[], &["360 interactions", "120 interactions that the data mark as held out are left out"]);
    home.run(&[&base[..], &["--protocol", "temporal"]].concat()).failed_with("needs the times");
    home.run(&["evaluate", "--data", "lists/train.txt", "--protocol", "given"]).failed_with("--test");
}

#[test]
fn what_cannot_be_evaluated_is_told() {
    let home = Home::new();
    home.write("ratings.csv", ratings());
    home.run(&["evaluate"]).failed_with("import");
    home.run(&["evaluate", "--data", "missing.csv"]).failed_with("missing.csv");
    home.run(&["evaluate", "--data", "ratings.csv", "--algorithms", "magic"]).failed_with("--algorithms");
    for alone in ["hybrid", "popular,hybrid"] {
        let ran = home.run(&["evaluate", "--data", "ratings.csv", "--algorithms", alone]);
        ran.failed_with("name the parts of the hybrid");
    }
    home.run(&["evaluate", "--data", "ratings.csv", "--protocol", "given"]).failed_with("--test");
    let misused: [(&[&str], &str); 5] = [
        (&["--data", "ratings.csv", "--tune-budget", "5"], "--tune"),
        (&["--data", "ratings.csv", "--tune", "--tune-budget", "soon"], "neither trials"),
        (&["--data", "ratings.csv", "--keep-weights"], "--min-rating"),
        (&["--data", "ratings.csv", "--cutoffs", "0"], "whole number from 1"),
        (&["--min-rating", "4"], "--data"),
    ];
    for (flags, part) in misused {
        let ran = home.run(&[&["evaluate"], flags].concat());
        assert!(ran.status.code() == Some(2) && ran.stderr.contains(part), "{}", ran.stderr);
    }
    home.write("tiny.csv", "user_id,item_id\nu,i\n");
    home.run(&["evaluate", "--data", "tiny.csv"]).failed_with("error");
}
