//! What dashboards and alerts ask for is there: the guide's names, and every name in `deploy/`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Home, SETTINGS, Server};

/// Names of the guide that need no other engine.
const GUIDE: [&str; 6] = [
    "http_requests_total",
    "http_requests_errors_total",
    "http_request_duration_seconds_bucket",
    "http_request_duration_seconds_sum",
    "redis_cache_hits_total",
    "redis_cache_misses_total",
];

/// Names of the guide of models.
const GUIDE_OF_MODELS: [&str; 3] =
    ["ml_inference_requests_total", "ml_inference_duration_seconds_bucket", "ml_model_versions_loaded"];
/// Those of builds with search.
const GUIDE_OF_SEARCH: [&str; 7] = [
    "ml_cache_hits_total",
    "ml_cache_misses_total",
    "ml_embedding_duration_seconds_bucket",
    "ml_embedding_texts_total",
    "ml_search_duration_seconds_bucket",
    "ml_search_requests_total",
    "ml_vector_store_operations_total",
];

/// Alerts of the guide of models.
const ALERTS: [&str; 18] = [
    "CriticalErrorRate",
    "CriticalLatency",
    "DatabaseConnectionsHigh",
    "EmbeddingDimensionMismatch",
    "EmbeddingGenerationSlow",
    "HighCPUUsage",
    "HighErrorRate",
    "HighLatency",
    "HighMemoryUsage",
    "LowCacheHitRate",
    "ModelInferenceLatencyHigh",
    "ModelNotLoaded",
    "ModelReloadFailed",
    "QueueBacklogHigh",
    "SearchLatencyHigh",
    "SearchResultsEmpty",
    "ServiceDown",
    "VectorStoreQuerySlow",
];

fn deploy(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(file)).unwrap()
}

/// The series of `/metrics`, by name.
fn series(server: &Server) -> BTreeSet<String> {
    let reply = server.send("GET", "/metrics", &[], None);
    let lines = reply.text().lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split(['{', ' ']).next().unwrap().to_owned()).collect()
}

/// Requests of each kind, among them some that are refused.
fn traffic(server: &Server) {
    server.create("/api/v1/entities", &json!({"entity_id": "a"}));
    server.create(
        "/api/v1/interactions",
        &json!({"user_id": "ada", "entity_id": "a", "interaction_type": "view"}),
    );
    for path in ["recommendations/user/ada", "recommendations/trending", "entities/none"] {
        server.get(&format!("/api/v1/{path}"));
    }
}

/// The names of metrics in a query: every word but functions, keywords, labels and what is between quotes.
fn names(query: &str) -> BTreeSet<String> {
    const KEYWORDS: [&str; 10] =
        ["by", "without", "on", "ignoring", "and", "or", "unless", "group_left", "le", "offset"];
    let mut names = BTreeSet::new();
    // Odd parts stand between quotes; what is between braces, or behind `by`, names labels.
    let mut depth = 0_u32;
    for text in query.split('"').step_by(2) {
        let mut rest = text;
        while !rest.is_empty() {
            let end = rest
                .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
                .unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            let after_space = after.trim_start();
            if ["by", "without"].contains(&word) && after_space.starts_with('(') {
                rest = &after_space[after_space.find(')').unwrap() + 1..];
                continue;
            }
            let is_name = word.starts_with(|c: char| c.is_ascii_alphabetic()) && !KEYWORDS.contains(&word);
            let is_function = ["(", "by ", "without "].iter().any(|next| after_space.starts_with(next));
            if is_name && depth == 0 && !is_function {
                names.insert(word.to_owned());
            }
            let mut signs = after.chars();
            match signs.next() {
                Some('{') => depth += 1,
                Some('}') => depth -= 1,
                // A range, such as [5m].
                Some('[') => signs = after[after.find(']').unwrap()..].chars(),
                _ => {}
            }
            rest = signs.as_str();
        }
    }
    names
}

#[test]
fn names_are_found_in_queries() {
    let check = |query: &str, expected: &[&str]| {
        assert_eq!(names(query).into_iter().collect::<Vec<_>>(), expected, "{query}");
    };
    check("rate(a_total[5m]) / rate(b_total[5m]) > 0.05", &["a_total", "b_total"]);
    check("histogram_quantile(0.95, sum by (le, path) (rate(c_bucket{x=~\"$y\"}[5m])))", &["c_bucket"]);
    check("d == 0\n  and e{f=\"g h\", i!=\"j\"} >= k", &["d", "e", "k"]);
    check("sum without (method) (l{m=\"n\"}[1h])", &["l"]);
    check("rate(o[30m] offset 1d) > 0.05", &["o"]);
}

/// Every query of the rules and of the dashboard.
fn queries() -> Vec<String> {
    let rules = deploy("prometheus/watershed.rules.yml");
    let mut queries = Vec::new();
    let mut lines = rules.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(expression) = line.trim_start().strip_prefix("expr: ") else { continue };
        let mut query = expression.trim_start_matches('|').to_owned();
        let indent = line.len() - line.trim_start().len();
        while let Some(more) = lines.next_if(|next| next.len() - next.trim_start().len() > indent) {
            query.push_str(more);
            query.push('\n');
        }
        queries.push(query);
    }
    let dashboard: Value = serde_json::from_str(&deploy("grafana/recommendation-engine.json")).unwrap();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            queries.push(target["expr"].as_str().unwrap().to_owned());
        }
    }
    assert!(queries.len() > 20, "{queries:?}");
    queries
}

#[test]
fn every_alert_of_the_guide_of_models_is_there() {
    let rules = deploy("prometheus/watershed.rules.yml");
    let missing: Vec<_> =
        ALERTS.iter().filter(|name| !rules.contains(&format!("- alert: {name}\n"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_name_of_the_guides_is_there_with_true_values() {
    let server = Server::new();
    traffic(&server);
    let found = series(&server);
    let of_search = if cfg!(feature = "search") { &GUIDE_OF_SEARCH[..] } else { &[] };
    for name in GUIDE.iter().chain(&GUIDE_OF_MODELS).chain(of_search) {
        assert!(found.contains(*name), "no {name} in {found:?}");
    }
    // There is no pool without a database, and no name stands for what is not.
    assert!(found.iter().all(|name| !name.starts_with("database_")), "{found:?}");
}

#[test]
fn labels_have_patterns_and_never_what_a_caller_sent() {
    let server = Server::new();
    for number in 0..50 {
        server.get(&format!("/api/v1/entities/x-{number}"));
        server.get(&format!("/nowhere/x-{number}"));
        server.get(&format!("/api/v1/recommendations/user/x-{number}"));
    }
    server.send("BREW", "/api/v1/entities/x-1", &[], None);
    let reply = server.send("GET", "/metrics", &[], None);
    assert!(!reply.text().contains("x-1"), "{}", reply.text());
    let requests = |line: &&str| line.starts_with("http_requests_total{");
    assert!(reply.text().lines().filter(requests).count() <= 6, "{}", reply.text());
}

/// The names that queries ask for and a server does not have. A recorded one is made by the rules, `up` by Prometheus.
fn missing(server: &Server) -> BTreeSet<String> {
    let mut found = series(server);
    found.extend(registered(server));
    let mut asked: BTreeSet<String> = queries().iter().flat_map(|query| names(query)).collect();
    asked
        .retain(|name| !["http_requests_per_second", "up"].contains(&name.as_str()) && !found.contains(name));
    asked
}

/// A server that ships backups, so that it has the metrics of those, and its vault.
fn shipping() -> (Server, tempfile::TempDir) {
    let vault = tempfile::tempdir().unwrap();
    let section = format!("[backup]\nto = \"{}\"\nevery_secs = 60\n", vault.path().display());
    (Home::with_settings(&format!("{SETTINGS}{section}")).serve(), vault)
}

/// The metrics that a server registered, whether they have a series yet or not, by the name of a series.
fn registered(server: &Server) -> BTreeSet<String> {
    let reply = server.send("GET", "/metrics", &[], None);
    let name = |line: &str| {
        let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        Some(match kind {
            "counter" => format!("{name}_total"),
            "histogram" => format!("{name}_bucket"),
            _ => name.to_owned(),
        })
    };
    reply.text().lines().filter_map(name).collect()
}

/// The names in the first column of the guide's table of metrics, each with whether it may be absent.
fn documented() -> BTreeMap<String, bool> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/monitoring.md");
    let text = std::fs::read_to_string(path).unwrap();
    let table = text.split("| metric |").nth(1).unwrap().split("\n\n").next().unwrap();
    let mut names = BTreeMap::new();
    for row in table.lines().filter(|line| line.starts_with("| `")) {
        let names_of_row = row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2);
        let is_optional = row.contains("absent without");
        names.extend(
            names_of_row.filter(|name| !name.starts_with('_')).map(|name| (name.to_owned(), is_optional)),
        );
    }
    assert!(names.len() > 30, "{names:?}");
    names
}

#[test]
fn the_guide_has_every_metric_and_no_other() {
    let (server, _vault) = shipping();
    traffic(&server);
    let (found, documented) = (registered(&server), documented());
    let untold: Vec<_> = found.iter().filter(|name| !documented.contains_key(*name)).collect();
    assert!(untold.is_empty(), "not in docs/monitoring.md: {untold:?}");
    let gone: Vec<_> =
        documented.iter().filter(|(name, optional)| !**optional && !found.contains(*name)).collect();
    assert!(gone.is_empty(), "in docs/monitoring.md and not there: {gone:?}");
}

#[test]
fn every_metric_that_a_query_names_is_there_but_for_engines_that_are_not() {
    let (server, _vault) = shipping();
    traffic(&server);
    let mut missing = missing(&server);
    let search =
        if cfg!(feature = "search") { &[][..] } else { &["ml_search_", "ml_embedding_", "ml_cache_"] };
    let absent = [&["database_pool_", "redis_commands_"][..], search].concat();
    missing.retain(|name| !absent.iter().any(|prefix| name.starts_with(prefix)));
    assert!(missing.is_empty(), "asked for and not there: {missing:?}");
}

#[cfg(all(feature = "postgres", feature = "redis"))]
#[test]
fn every_metric_that_a_query_names_is_there() {
    let vault = tempfile::tempdir().unwrap();
    let section = format!("[backup]\nto = \"{}\"\nevery_secs = 60\n", vault.path().display());
    let home =
        Home::with_settings(&crate::replicas::shared(&section)).environment("TRENDING_CACHE_TTL_SECS", "60");
    home.run(&["migrate", "up"]).succeeded();
    let server = home.serve();
    traffic(&server);
    let missing = missing(&server);
    assert!(missing.is_empty(), "asked for and not there: {missing:?}");
    assert!(series(&server).contains("database_pool_idle_connections"));
    let (found, documented) = (registered(&server), documented());
    let untold: Vec<_> = found.iter().filter(|name| !documented.contains_key(*name)).collect();
    assert!(untold.is_empty(), "not in docs/monitoring.md: {untold:?}");
    crate::replicas::drop_schema(&server.stop());
}
