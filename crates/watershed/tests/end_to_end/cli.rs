//! The commands that serve nothing.

use std::fmt::Write;

use crate::models::registered;
use crate::support::{Home, KEY, Server};

/// A CSV of interactions, one a line after the header; `broken` is the line that has no entity.
fn interactions(lines: usize, broken: Option<usize>) -> String {
    let mut text = "user_id,item_id,event,timestamp\n".to_owned();
    for line in 2..=lines {
        let (user, item) = (line % 17, (line * 7) % 23);
        if Some(line) == broken {
            let _ = writeln!(text, "user-{user},,view,{}", 1_700_000_000 + line);
        } else {
            let _ = writeln!(text, "user-{user},item-{item},view,{}", 1_700_000_000 + line);
        }
    }
    text
}

#[test]
fn a_broken_line_is_named_and_the_rest_is_imported() {
    let home = Home::new();
    home.write("events.csv", interactions(1_000, Some(731)));
    let ran = home.run(&["import", "events.csv"]).succeeded();
    assert!(ran.stderr.contains("events.csv:731: "), "{}", ran.stderr);
    let expected =
        "events.csv (csv): 998 rows read: 998 stored, 0 known already, 0 refused, 1 lines could not be read";
    assert_eq!(ran.stdout.trim(), expected);

    let again = home.run(&["import", "events.csv"]).succeeded();
    assert!(again.stdout.contains("0 rows read: 0 stored"), "{}", again.stdout);
    let anew = home.run(&["import", "--restart", "events.csv"]).succeeded();
    assert!(anew.stdout.contains("998 rows read: 0 stored, 998 known already"), "{}", anew.stdout);
    let strict = Home::new();
    strict.write("events.csv", interactions(1_000, Some(731)));
    strict.run(&["import", "--strict", "events.csv"]).failed_with("events.csv:731");

    let doctor = home.run(&["doctor", "--rebuild"]).succeeded();
    for part in ["23 entities, 17 users, 998 interactions", "998 events give the same view, byte for byte"] {
        assert!(doctor.stdout.contains(part), "no `{part}` in {}", doctor.stdout);
    }
}

#[test]
fn an_import_that_was_cut_off_goes_on() {
    let home = Home::new();
    home.write("events.csv", interactions(6_000, Some(5_001)));
    home.run(&["import", "--strict", "events.csv"]).failed_with("events.csv:5001");
    let ran = home.run(&["import", "events.csv"]).succeeded();
    assert!(ran.stderr.contains("Comparing the files with what was read of them before"), "{}", ran.stderr);
    assert!(ran.stderr.contains("Going on after events.csv:4001"), "{}", ran.stderr);
    assert!(ran.stdout.contains("1998 rows read: 1998 stored, 0 known already"), "{}", ran.stdout);
    let doctor = home.run(&["doctor"]).succeeded();
    assert!(doctor.stdout.contains("5998 interactions"), "{}", doctor.stdout);
}

#[test]
fn two_files_of_one_name_in_two_folders_are_two_imports() {
    let home = Home::new();
    home.write("monday/events.csv", interactions(100, None));
    // Half of the rows say the same: they happened in both places.
    let other = interactions(100, None).replace("user-1", "guest-1");
    home.write("tuesday/events.csv", other.clone());
    home.run(&["import", "monday/events.csv"]).succeeded();
    let tuesday = home.run(&["import", "tuesday/events.csv"]).succeeded();
    assert!(!tuesday.stderr.contains("has changed"), "{}", tuesday.stderr);
    assert!(tuesday.stdout.contains("99 stored, 0 known already"), "{}", tuesday.stdout);
    for path in ["monday/events.csv", "tuesday/events.csv"] {
        let again = home.run(&["import", path]).succeeded();
        assert!(again.stdout.contains("0 rows read"), "{}", again.stdout);
        let anew = home.run(&["import", "--restart", path]).succeeded();
        assert!(anew.stdout.contains("0 stored, 99 known already"), "{}", anew.stdout);
    }
    // A file that was moved is the same; one in another folder of the same name is not.
    home.write("moved/events.csv", other);
    let moved = home.run(&["import", "moved/events.csv"]).succeeded();
    assert!(moved.stdout.contains("0 rows read"), "{}", moved.stdout);
    home.write("deep/monday/events.csv", interactions(100, None).replace("user-", "deep-"));
    let deep = home.run(&["import", "deep/monday/events.csv"]).succeeded();
    assert!(deep.stdout.contains("99 stored, 0 known already"), "{}", deep.stdout);
    let doctor = home.run(&["doctor"]).succeeded();
    assert!(doctor.stdout.contains("297 interactions"), "{}", doctor.stdout);
}

#[test]
fn a_line_that_was_repaired_is_imported() {
    let home = Home::new();
    home.write("events.csv", interactions(5_000, Some(1_501)));
    let first = home.run(&["import", "events.csv"]).succeeded();
    assert!(first.stderr.contains("events.csv:1501: "), "{}", first.stderr);
    home.write("events.csv", interactions(5_000, None));
    let second = home.run(&["import", "events.csv"]).succeeded();
    assert!(second.stderr.contains("events.csv has changed since it was imported"), "{}", second.stderr);
    assert!(!second.stderr.contains("events.csv:1501"), "{}", second.stderr);
    let expected = "4999 rows read: 1 stored, 4998 known already, 0 refused, 0 lines could not be read";
    assert!(second.stdout.contains(expected), "{}", second.stdout);
    // A line that comes in between moves all that follow.
    let moved = interactions(5_000, None).replacen("user-5,", "guest,item-1,view,1\nuser-5,", 1);
    home.write("events.csv", moved);
    let third = home.run(&["import", "events.csv"]).succeeded();
    assert!(third.stdout.contains("5000 rows read: 1 stored, 4999 known already"), "{}", third.stdout);
    let doctor = home.run(&["doctor"]).succeeded();
    assert!(doctor.stdout.contains("18 users, 5000 interactions"), "{}", doctor.stdout);
}

#[test]
fn rows_without_a_time_count_as_often_as_they_stand_there() {
    let home = Home::new();
    home.write("shop/events.csv", "user_id,item_id\n1,a\n1,a\n2,b\n");
    home.run(&["import", "shop"]).succeeded();
    home.write("shop/events.csv", "user_id,item_id\n3,c\n1,a\n1,a\n1,a\n2,b\n");
    let again = home.run(&["import", "shop"]).succeeded();
    assert!(again.stdout.contains("5 rows read: 2 stored, 3 known already"), "{}", again.stdout);
}

#[test]
fn files_that_come_into_a_folder_are_imported() {
    let home = Home::new();
    home.write("shop/ratings.csv", interactions(100, None));
    home.run(&["import", "shop"]).succeeded();
    home.write("shop/a.csv", interactions(50, None).replace("user-", "guest-"));
    home.write("shop/items.csv", "item_id,title\nitem-1,One\nitem-2,Two\n");
    home.write("shop/notes.xyz", "a note\n");
    let second = home.run(&["import", "shop"]).succeeded();
    assert!(second.stdout.contains("51 rows read: 51 stored"), "{}", second.stdout);
    assert!(second.stderr.contains("notes.xyz is left out: "), "{}", second.stderr);
    let third = home.run(&["import", "shop"]).succeeded();
    assert!(third.stdout.contains("0 rows read: 0 stored"), "{}", third.stdout);
}

#[test]
fn an_import_without_a_line_that_can_be_used_fails() {
    let home = Home::new();
    let broken = "user_id,item_id,rating\n1,,5\n2,b,high\n";
    home.write("events.csv", broken);
    for _ in 0..2 {
        let ran = home.run(&["import", "events.csv"]).failed_with("nothing was imported from events.csv");
        assert!(ran.stderr.contains("events.csv:2: item_id"), "{}", ran.stderr);
        assert!(ran.stdout.contains("0 stored, 0 known already, 0 refused, 2 lines"), "{}", ran.stdout);
    }
    home.write("events.csv", format!("{broken}3,c,4\n"));
    home.run(&["import", "events.csv"]).succeeded();
    // Nothing new is no failure, though two lines are still broken.
    home.run(&["import", "events.csv"]).succeeded();
}

#[test]
fn what_a_data_set_holds_out_is_not_imported_with_the_rest() {
    let home = Home::new();
    home.write("lists/train.txt", "0 1 2\n1 2 3\n");
    home.write("lists/test.txt", "0 3\n1 1\n");
    let folder = home.run(&["import", "lists"]).succeeded();
    assert!(folder.stdout.contains("4 rows read: 4 stored"), "{}", folder.stdout);
    assert!(folder.stderr.contains("test.txt is left out: it is held out"), "{}", folder.stderr);
    let doctor = home.run(&["doctor"]).succeeded();
    assert!(doctor.stdout.contains("4 interactions"), "{}", doctor.stdout);
    let named = home.run(&["import", "lists/test.txt"]).succeeded();
    assert!(named.stdout.contains("2 rows read: 2 stored"), "{}", named.stdout);
}

#[test]
fn imports_say_what_they_cannot_do() {
    let home = Home::new();
    let missing = home.run(&["import", "missing.csv"]).failed_with("missing.csv");
    assert_eq!(missing.stderr.matches("No such file").count(), 1, "{}", missing.stderr);
    home.write("odd.csv", "a,b\n1,2\n");
    home.run(&["import", "odd.csv"]).failed_with("user_id=COLUMN");
    home.run(&["import", "--format", "excel", "odd.csv"]).failed_with("excel");
    home.run(&["import", "--map", "user_id=nope,entity_id=b", "odd.csv"]).failed_with("nope");
    home.write("empty.csv", "");
    home.run(&["import", "empty.csv"]).failed_with("empty.csv:1: the file is empty");
    let mapped = home.run(&["import", "--map", "user_id=a,entity_id=b", "odd.csv"]).succeeded();
    assert!(mapped.stdout.contains("1 rows read: 1 stored"), "{}", mapped.stdout);
    home.write(
        "lines.ndjson",
        "{\"user_id\":\"u\",\"item_id\":\"i\"}\nnot json\n{\"user_id\":\"u\",\"item_id\":\"j\"}\n",
    );
    let lines = home.run(&["import", "lines.ndjson"]).succeeded();
    assert!(lines.stderr.contains("lines.ndjson:2: "), "{}", lines.stderr);
    assert!(lines.stdout.contains("2 stored"), "{}", lines.stdout);
}

#[test]
fn what_was_imported_is_trained_and_recommended() {
    let home = Home::new();
    home.write("events.csv", interactions(600, None));
    home.run(&["import", "events.csv"]).succeeded();
    let trained = home.run(&["train", "--fast"]).succeeded();
    for part in ["Model version 1", "17 users, 23 items", "ease", "hybrid"] {
        assert!(trained.stdout.contains(part), "no `{part}` in {}", trained.stdout);
    }
    let ran = home.run(&["recommend", "user-3", "--count", "3", "--explain"]).succeeded();
    let answer: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&answer["user_id"], &answer["model_version"]), (&"user-3".into(), &1.into()), "{answer}");
    home.run(&["recommend", "user-3", "--filter", "1 +"]).failed_with("--filter");
    home.run(&["recommend", "user-3", "--algorithm", "magic"]).failed_with("algorithm");
    let second = home.run(&["train", "--fast"]).succeeded();
    assert!(second.stdout.contains("Model version 2"), "{}", second.stdout);
    let ran = home.run(&["recommend", "user-3", "--count", "0"]);
    assert!(ran.status.code() == Some(2) && ran.stderr.contains("from 1 to 100"), "{}", ran.stderr);
}

#[test]
fn a_folder_that_is_not_there_is_not_made() {
    for command in [&["doctor"][..], &["recommend", "ada"], &["train"], &["evaluate"], &["keys", "list"]] {
        let home = Home::new();
        home.run(command).failed_with("there are no data in `data`");
        assert!(!home.path("data").exists(), "{command:?} made the folder");
    }
}

#[test]
fn the_doctor_tells_of_a_damaged_model() {
    let home = Home::with_shop();
    let told = home.run(&["doctor"]).succeeded().stdout;
    for part in ["version 1 is served", "open files", "free disk", "clock", "all is well"] {
        assert!(told.contains(part), "no `{part}` in {told}");
    }
    let mut damaged = 0;
    let mut folders = vec![home.path("data/blobs/default")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
                continue;
            }
            let mut bytes = std::fs::read(&entry).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x10;
            std::fs::write(&entry, bytes).unwrap();
            damaged += 1;
        }
    }
    assert!(damaged > 0, "the tenant has no object");
    let ran = home
        .run(&["doctor"])
        .failed_with("model version 1 of tenant default is promoted but missing or damaged");
    assert!(ran.status.code() == Some(1) && !ran.stdout.contains("all is well"), "{}", ran.stdout);
}

#[test]
fn the_doctor_tells_of_a_champion_that_cannot_be_served() {
    let server = Server::new();
    registered(&server, "kept", &[&[("weights.h5", b"x")]]);
    registered(&server, "odd", &[&[("power_forecaster.json", b"{}")], &[("readme.txt", b"x")]]);
    let home = server.stop();
    // The folder's owner promotes untried.
    let promote = |model: &str, version: &str| {
        home.run(&["promote", "--model", model, "--version", version]).succeeded();
    };
    let told = home.run(&["doctor"]).succeeded().stdout;
    assert!(told.contains("no model has a champion") && told.contains("all is well"), "{told}");
    promote("kept", "1");
    let told = home.run(&["doctor"]).succeeded().stdout;
    assert!(told.contains("kept: version 1 is only kept") && told.contains("all is well"), "{told}");
    promote("odd", "1");
    let ran = home.run(&["doctor"]).failed_with("version 1 of the registered model `odd` of tenant default");
    assert!(!ran.stdout.contains("all is well") && !ran.stderr.contains("`kept`"), "{}", ran.stdout);
    assert!(ran.stdout.contains("odd: version 1 cannot be served"), "{}", ran.stdout);
    // Nothing ever answered, and so nobody misses an answer.
    promote("odd", "2");
    let told = home.run(&["doctor"]).succeeded().stdout;
    assert!(told.contains("odd: version 2 is only kept") && told.contains("all is well"), "{told}");
}

#[test]
fn a_strict_import_stops_at_a_row_that_is_refused() {
    let home = Home::new();
    home.write("events.csv", interactions(100, None).replace("1700000050", "-5"));
    let ran = home.run(&["import", "--strict", "events.csv"]).failed_with("events.csv:50: timestamp: ");
    assert_eq!(ran.status.code(), Some(1));
    let lenient = home.run(&["import", "events.csv"]).succeeded();
    assert!(lenient.stdout.contains("98 stored, 0 known already, 1 refused"), "{}", lenient.stdout);
}

#[test]
fn completions_are_a_script() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let ran = home.run(&["completions", shell]).succeeded();
        assert!(ran.stdout.contains("watershed") && ran.stdout.contains("evaluate"), "{shell}");
    }
}

#[test]
fn settings_are_shown_without_the_key() {
    let home = Home::new().environment("PORT", "1234");
    let ran = home.run(&["config", "--tenant", "shop"]).succeeded();
    for part in
        ["port = 1234", "tenant = \"shop\"", "sequence = false", "incremental_update_interval_secs = 3600"]
    {
        assert!(ran.stdout.contains(part), "no `{part}` in {}", ran.stdout);
    }
    home.run(&["keys", "create", "--name", "first"]).succeeded();
    let file = Home::with_settings("[auth]\napi_key = \"a-key-from-the-file\"\n");
    for ran in [ran, file.run(&["config"]).succeeded(), home.run(&["doctor"]).succeeded()] {
        for key in [KEY, "a-key-from-the-file"] {
            assert!(!ran.stdout.contains(key) && !ran.stderr.contains(key), "the key is shown");
        }
    }
    let schema = home.run(&["config", "--schema"]).succeeded();
    let schema: serde_json::Value = serde_json::from_str(&schema.stdout).unwrap();
    assert!(schema["properties"]["recommend"].is_object());
}

#[test]
fn bad_settings_are_named() {
    Home::with_settings("[server]\nprot = 1\n").run(&["config"]).failed_with("prot");
    Home::with_settings("[server]\nport = 70000\n").run(&["serve"]).failed_with("server.port");
    Home::new().environment("PORT", "eighty").run(&["config"]).failed_with("PORT");
    Home::new().environment("API_KEY", "short").run(&["serve"]).failed_with("api_key");
    Home::new().environment("HOST", "nowhere").run(&["serve"]).failed_with("server.host");
    Home::new().environment("LOG_LEVEL", "a=b=c").run(&["doctor"]).failed_with("log");
    Home::new().run(&["doctor", "--config", "missing.toml"]).failed_with("missing.toml");
    assert_eq!(Home::new().run(&["serve", "--prot", "1"]).status.code(), Some(2));
}

/// A yield curve of three tenors over so many days of 2020 and 2021, by a wave that a forecaster can learn.
fn curve(days: i32) -> String {
    let mut text = "date,rate_1,rate_5,rate_10\n".to_owned();
    for day in 0..days {
        let wave = f64::from(day).sin() / 10.0;
        let (month, of_month) = (day / 28, day % 28 + 1);
        let date = format!("{}-{:02}-{of_month:02}", 2020 + month / 12, month % 12 + 1);
        let _ = writeln!(text, "{date},{},{},{}", 1.0 + wave, 1.5 + wave, 2.0 + wave);
    }
    text
}

#[test]
fn a_curve_forecaster_is_trained_compared_and_scored_again_from_its_file() {
    let home = Home::new();
    home.write("curve.csv", curve(300));
    let train =
        ["train", "curve-forecaster", "--data-path", "curve.csv", "--curve-type", "yield", "--model-type"];
    let settings = [
        "--lookback-days",
        "5",
        "--n-estimators",
        "5",
        "--train-until",
        "2020-09-01",
        "--json",
        "train.json",
    ];
    for kind in ["ridge", "random_forest", "gradient_boosting", "ensemble"] {
        let trained = home.run(&[&train[..], &[kind], &settings[..]].concat()).succeeded();
        assert!(
            trained.stdout.contains("persistence") && trained.stdout.contains("step 5"),
            "{}",
            trained.stdout
        );
        let evaluate = ["evaluate", "curve-forecaster", "--model-path", "curve_forecaster.json"];
        let told = ["--test-data-path", "curve.csv", "--output-dir", "out", "--create-plots"];
        let scored = home.run(&[&evaluate[..], &told[..]].concat()).succeeded();
        // The model of the file is the one of the comparison: the same table to the last digit.
        assert_eq!(scored.stdout, trained.stdout, "{kind}");
    }
    let wrong = [&train[..], &["ridge", "--alpha", "0"]].concat();
    home.run(&wrong).failed_with("alpha must be above 0");
    let same = [&train[..], &["ridge", "--output", "same.json", "--drift-reference", "same.json"]].concat();
    home.run(&same).failed_with("--drift-reference: is the file of --output too");
    assert!(!home.path("same.json").exists());
    home.write("bad.csv", curve(300).replace("1.0", "NaN"));
    home.run(&["train", "curve-forecaster", "--data-path", "bad.csv"])
        .failed_with("in rate_1 is not a number");
    home.write("curve_forecaster.json", "{}");
    let evaluate = ["evaluate", "curve-forecaster", "--model-path", "curve_forecaster.json"];
    home.run(&[&evaluate[..], &["--test-data-path", "curve.csv"]].concat())
        .failed_with("model file is damaged");
}

/// Hourly prices of so many days of 2020 that follow the first of two forecasts; those of the last day are left out where asked.
pub(crate) fn power(days: i32, with_last: bool) -> String {
    let first: jiff::civil::Date = "2020-01-06".parse().unwrap();
    let mut text = "time,price,load,wind\n".to_owned();
    for day in 0..days {
        let date = first.checked_add(jiff::Span::new().days(day)).unwrap();
        for hour in 0..24 {
            let load = 100.0 + f64::from((day * 31 + hour * 7) % 41);
            let wind = f64::from((day * 17 + hour) % 23);
            let price = load / 3.0 - wind / 7.0 + f64::from(day * day % 5);
            let price = if with_last || day + 1 < days { price.to_string() } else { String::new() };
            let _ = writeln!(text, "{date} {hour:02}:00:00,{price},{load},{wind}");
        }
    }
    text
}

/// Settings with which a model is learned in no time.
pub(crate) const POWER: [&str; 6] =
    ["--lear-windows-days", "28", "--kernel-window-days", "40", "--calibration-days", "63"];

#[test]
fn a_power_forecaster_is_trained_compared_and_scored_again_from_its_file() {
    let home = Home::new();
    home.write("power.csv", power(121, false));
    let train = [&["train", "power-forecaster", "--data-path", "power.csv"], &POWER[..]].concat();
    let more =
        ["--train-until", "2020-04-25", "--refit-days", "5", "--json", "train.json", "--plot", "train.svg"];
    let trained = home.run(&[&train[..], &more].concat()).succeeded();
    for part in ["rmae", "naive", "refitted each 5 days", "intervals of 80%", "quantiles: mean pinball loss"]
    {
        assert!(trained.stdout.contains(part), "{part}: {}", trained.stdout);
    }
    let evaluate = ["evaluate", "power-forecaster", "--model-path", "power_forecaster.json"];
    let told = ["--test-data-path", "power.csv", "--refit-days", "5", "--predictions", "told.csv"];
    let drawn = ["--output-dir", "out", "--create-plots"];
    let scored = home.run(&[&evaluate[..], &told[..], &drawn].concat()).succeeded();
    // The model of the file is the one of the comparison: the same table to the last digit.
    assert_eq!(scored.stdout, trained.stdout);
    let predictions = std::fs::read_to_string(home.path("told.csv")).unwrap();
    let lines: Vec<&str> = predictions.lines().collect();
    assert!(lines[0].starts_with("date,hour,day_ahead_price,day_ahead_price.half_width_80,"), "{}", lines[0]);
    assert!(lines[0].ends_with("day_ahead_price.quantile_95") && lines[1].starts_with("2020-04-26,0,"));
    // The day without prices is forecast too.
    assert!(lines.len() == 1 + 10 * 24 && lines[240].starts_with("2020-05-05,23,"), "{}", lines.len());
    let read = |name: &str| std::fs::read_to_string(home.path(name)).unwrap();
    let reference = read("drift_reference.json");
    let has = |name: &str| reference.contains(&format!("\"{name}.change\""));
    assert!(["price", "forecast_1", "forecast_2"].into_iter().all(has), "{reference}");
    assert!(!has("day_ahead_price"), "nine forecasts are too few");
    assert!(read("train.svg").contains("</svg>") && read("out/evaluation_report.svg").contains("</svg>"));
    let json: serde_json::Value = serde_json::from_str(&read("out/evaluation_report.json")).unwrap();
    assert_eq!(
        (&json["day_count"], json["quantiles"]["levels"].as_array().map(Vec::len)),
        (&9.into(), Some(7))
    );

    let wrong = |more: &[&str], told: &str| home.run(&[&train[..], more].concat()).failed_with(told);
    wrong(&["--kernel-weight", "2"], "kernel_weight must be from 0 to 1");
    wrong(&["--train-until", "2020-01-20"], "days of 24 hours are needed");
    wrong(&["--held-out-days", "0"], "held-out-days must be at least 1");
    home.write("bad.csv", power(60, true).replace("2020-02-01 05:00:00,", "2020-02-01 05:00:00,NaN"));
    home.run(&["train", "power-forecaster", "--data-path", "bad.csv"])
        .failed_with("in price is not a number");
    home.write("early.csv", power(100, true));
    home.run(&[&evaluate[..], &["--test-data-path", "early.csv"]].concat())
        .failed_with("no day is after 2020-04-25");
    home.write("power_forecaster.json", "{}");
    home.run(&[&evaluate[..], &["--test-data-path", "power.csv"]].concat())
        .failed_with("model file is damaged");
}
