//! Holds the shape of the house: which crate may know which, how long files and functions are, and that each
//! module says what it is. A new arrow between crates is a line here, and the rarest kind of change.

#![expect(clippy::unwrap_used, reason = "a test may fail at once")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Each crate and the crates of this workspace that it may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("kernel", &[]),
    ("store", &["kernel"]),
    ("store-clickhouse", &["kernel", "store"]),
    ("store-embedded", &["kernel", "store"]),
    ("store-kafka", &["kernel", "store"]),
    ("store-redis", &["kernel", "store"]),
    ("store-s3", &["kernel", "store"]),
    ("store-postgres", &["kernel", "store"]),
    ("edge", &["kernel", "store"]),
    ("stream", &["kernel", "store"]),
    ("models", &["kernel", "store"]),
    ("rollout", &[]),
    ("backup", &["kernel", "store"]),
    ("privacy", &["kernel", "store"]),
    ("recommend", &["edge", "kernel", "models", "privacy", "rollout", "store", "stream"]),
    ("registry", &["edge", "kernel", "models", "store"]),
    ("runtime", &["edge", "kernel", "models", "rollout", "store"]),
    ("market", &["edge", "kernel", "store", "stream"]),
    ("search", &["edge", "kernel", "store"]),
    ("webhooks", &["edge", "kernel", "store"]),
    (
        "watershed",
        &[
            "backup",
            "edge",
            "kernel",
            "market",
            "models",
            "privacy",
            "recommend",
            "registry",
            "rollout",
            "search",
            "runtime",
            "store",
            "store-clickhouse",
            "store-embedded",
            "store-kafka",
            "store-postgres",
            "store-redis",
            "store-s3",
            "stream",
            "webhooks",
        ],
    ),
];

const KERNEL_LINES_MAX: usize = 1_500;
const FILE_LINES_MAX: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn crates() -> BTreeMap<String, PathBuf> {
    let folders = std::fs::read_dir(root().join("crates")).unwrap();
    folders.map(|entry| entry.unwrap()).map(|e| (e.file_name().into_string().unwrap(), e.path())).collect()
}

#[test]
fn arrows_only_point_down() {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let all = crates();
    assert_eq!(
        all.keys().map(String::as_str).collect::<Vec<_>>(),
        allowed.keys().copied().collect::<Vec<_>>()
    );
    for (name, folder) in &all {
        let manifest: toml::Table =
            std::fs::read_to_string(folder.join("Cargo.toml")).unwrap().parse().unwrap();
        assert_eq!(
            manifest["package"]["name"].as_str(),
            Some(name.as_str()),
            "a folder is named as its crate"
        );
        let dependencies = manifest.get("dependencies").and_then(toml::Value::as_table);
        let inner: Vec<&str> = dependencies
            .into_iter()
            .flat_map(|table| table.keys())
            .map(String::as_str)
            .filter(|d| all.contains_key(*d))
            .collect();
        for dependency in inner {
            assert!(
                allowed[name.as_str()].contains(&dependency),
                "{name} depends on {dependency}: a new arrow; see ARCHITECTURE.md before you add it to ARROWS"
            );
        }
    }
}

#[test]
fn kernel_stays_small() {
    let lines: usize = sources(&root().join("crates/kernel/src"))
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap().lines().count())
        .sum();
    assert!(lines <= KERNEL_LINES_MAX, "kernel has {lines} lines, {KERNEL_LINES_MAX} at most");
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let mut faults = Vec::new();
    for folder in crates().values() {
        for path in sources(&folder.join("src")) {
            let text = std::fs::read_to_string(&path).unwrap();
            let shown = path.strip_prefix(root()).unwrap().display().to_string();
            let is_test = path.file_name().is_some_and(|name| name == "tests.rs");
            if text.lines().count() > FILE_LINES_MAX && !is_test {
                faults.push(format!("{shown}: more than {FILE_LINES_MAX} lines"));
            }
            if !text.starts_with("//!") {
                faults.push(format!("{shown}: does not open with `//!`"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
