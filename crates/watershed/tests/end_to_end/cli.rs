//! The commands that serve nothing.

use std::fmt::Write;

use crate::support::{Home, KEY};

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
    assert!(ran.stderr.contains("Going on after events.csv:4001"), "{}", ran.stderr);
    assert!(ran.stdout.contains("1998 rows read: 1998 stored, 0 known already"), "{}", ran.stdout);
    let doctor = home.run(&["doctor"]).succeeded();
    assert!(doctor.stdout.contains("5998 interactions"), "{}", doctor.stdout);
}

#[test]
fn another_file_of_the_same_name_is_not_taken_for_the_first() {
    let home = Home::new();
    home.write("monday/events.csv", interactions(100, None));
    home.write("tuesday/events.csv", interactions(100, None).replace("user-", "guest-"));
    home.run(&["import", "monday/events.csv"]).succeeded();
    home.run(&["import", "tuesday/events.csv"]).failed_with("--restart");
    home.run(&["import", "--restart", "tuesday/events.csv"]).succeeded();
    let again = home.run(&["import", "--restart", "monday/events.csv"]).succeeded();
    assert!(again.stdout.contains("0 stored, 99 known already"), "{}", again.stdout);
    let doctor = home.run(&["doctor"]).succeeded();
    assert!(doctor.stdout.contains("34 users, 198 interactions"), "{}", doctor.stdout);
}

#[test]
fn imports_say_what_they_cannot_do() {
    let home = Home::new();
    home.run(&["import", "missing.csv"]).failed_with("missing.csv");
    home.write("odd.csv", "a,b\n1,2\n");
    home.run(&["import", "odd.csv"]).failed_with("user_id=COLUMN");
    home.run(&["import", "--format", "excel", "odd.csv"]).failed_with("excel");
    home.run(&["import", "--map", "user_id=nope,entity_id=b", "odd.csv"]).failed_with("nope");
    home.write("empty.csv", "");
    let empty = home.run(&["import", "empty.csv"]).succeeded();
    assert!(empty.stderr.contains("empty.csv:1: the file is empty"), "{}", empty.stderr);
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
    Home::new().run(&["train", "--fast"]).failed_with("there is nothing to train on");
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
