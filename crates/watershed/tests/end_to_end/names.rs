//! The variables of the earlier system, all at once, with the values that its operators set: each sets something here, or the
//! start says why not.

use serde_json::json;

use crate::replicas::{Place, drop_schema, engine};
use crate::support::{Home, KEY};

/// Of its ConfigMap and of its example of an environment; addresses and `API_KEY` are those of the test.
const NAMES: &[(&str, &str)] = &[
    ("PORT", "8080"),
    ("HOST", "0.0.0.0"),
    ("LOG_LEVEL", "info"),
    ("RUST_LOG", "info,recommendation_api=debug"),
    ("LOG_FORMAT", "json"),
    ("COLLABORATIVE_WEIGHT", "0.6"),
    ("CONTENT_BASED_WEIGHT", "0.4"),
    ("SIMILARITY_THRESHOLD", "0.6"),
    ("DEFAULT_RECOMMENDATION_COUNT", "10"),
    ("MAX_RECOMMENDATION_COUNT", "100"),
    ("FEATURE_VECTOR_DIMENSION", "256"),
    ("DATABASE_MAX_CONNECTIONS", "20"),
    ("DATABASE_MIN_CONNECTIONS", "5"),
    ("DATABASE_ACQUIRE_TIMEOUT_SECS", "3"),
    ("DATABASE_IDLE_TIMEOUT_SECS", "600"),
    ("DATABASE_MAX_LIFETIME_SECS", "1800"),
    ("REDIS_POOL_SIZE", "10"),
    ("REDIS_CONNECTION_TIMEOUT_SECS", "5"),
    ("REDIS_CLUSTER_MODE", "false"),
    ("WORKER_THREADS", "4"),
    ("MAX_BLOCKING_THREADS", "512"),
    ("RECOMMENDATION_CACHE_TTL_SECS", "300"),
    ("TRENDING_CACHE_TTL_SECS", "3600"),
    ("USER_PREFERENCE_CACHE_TTL_SECS", "600"),
    ("ENTITY_FEATURE_CACHE_TTL_SECS", "3600"),
    ("RATE_LIMIT_ENABLED", "true"),
    ("RATE_LIMIT_REQUESTS_PER_MINUTE", "1000"),
    ("RATE_LIMIT_BURST_SIZE", "100"),
    ("INCREMENTAL_UPDATE_INTERVAL_SECS", "10"),
    ("FULL_REBUILD_INTERVAL_HOURS", "24"),
    ("TRENDING_UPDATE_INTERVAL_HOURS", "1"),
    ("MODEL_UPDATE_BATCH_SIZE", "1000"),
    ("SHUTDOWN_TIMEOUT_SECS", "30"),
    ("DRAIN_REQUESTS_ON_SHUTDOWN", "true"),
    ("USE_TFIDF_FOR_TEXT", "true"),
    ("NORMALIZE_NUMERICAL_FEATURES", "true"),
    ("REQUIRE_API_KEY", "true"),
    ("METRICS_ENABLED", "true"),
    ("METRICS_PORT", "9090"),
    ("TRACING_ENABLED", "false"),
    ("TRACING_ENDPOINT", "http://localhost:4317"),
    ("COLD_START_MIN_INTERACTIONS", "5"),
    ("TRENDING_WINDOW_DAYS", "7"),
    ("POPULAR_ENTITIES_COUNT", "100"),
    ("COLLABORATIVE_K_NEIGHBORS", "50"),
    ("COLLABORATIVE_MIN_SIMILARITY", "0.1"),
    ("DEFAULT_TENANT_ID", "default"),
    ("ENABLE_MULTI_TENANCY", "false"),
    ("WEBHOOK_ENABLED", "false"),
    ("WEBHOOK_URL", "https://hooks.example/in"),
    ("WEBHOOK_SECRET", "a-secret"),
    ("WEBHOOK_RETRY_MAX_ATTEMPTS", "3"),
    ("WEBHOOK_RETRY_BACKOFF_SECS", "5"),
    ("BULK_IMPORT_BATCH_SIZE", "1000"),
    ("BULK_IMPORT_MAX_RECORDS", "100000"),
    ("BULK_EXPORT_BATCH_SIZE", "5000"),
    ("ENABLE_CORS", "true"),
    ("CORS_ALLOWED_ORIGINS", "*"),
    ("ENABLE_COMPRESSION", "true"),
    ("MAX_REQUEST_SIZE_MB", "10"),
];

/// Those that do not do what they say.
const TOLD: [&str; 14] = [
    "ENABLE_MULTI_TENANCY",
    "METRICS_PORT",
    "WEBHOOK_URL",
    "WEBHOOK_SECRET",
    "USER_PREFERENCE_CACHE_TTL_SECS",
    "ENTITY_FEATURE_CACHE_TTL_SECS",
    "TRENDING_UPDATE_INTERVAL_HOURS",
    "POPULAR_ENTITIES_COUNT",
    "COLLABORATIVE_MIN_SIMILARITY",
    "MODEL_UPDATE_BATCH_SIZE",
    "BULK_IMPORT_BATCH_SIZE",
    "BULK_IMPORT_MAX_RECORDS",
    "BULK_EXPORT_BATCH_SIZE",
    "COLLABORATIVE_K_NEIGHBORS",
];

#[test]
fn every_name_is_taken_or_told_of() {
    const TELLS: &str = "does not do what it says";
    let place = Place::new();
    let mut home = Home::with_settings(&place.settings("")).allowing(TELLS);
    for (name, value) in NAMES {
        home = home.environment(name, *value);
    }
    for name in ["DATABASE_URL", "DATABASE_WRITE_URL", "DATABASE_READ_URL"] {
        home = home.environment(name, engine("WATERSHED_TEST_POSTGRES_URL"));
    }
    home = home.environment("REDIS_URL", engine("WATERSHED_TEST_REDIS_URL"));
    home.run(&["migrate", "up"]).succeeded();
    let server = home.serve();
    let log = server.log();
    let told: Vec<_> = log.lines().filter(|line| line.contains(TELLS)).collect();
    assert_eq!(told.len(), TOLD.len(), "{told:#?}");
    for name in TOLD {
        let is_it = |line: &&&str| line.contains(&format!("\"{name}\"")) && line.contains("\"why\"");
        assert_eq!(told.iter().filter(is_it).count(), 1, "{name}: {told:#?}");
    }
    let config = server.read("/api/config");
    let settings = &config["recommend"]["training"]["algorithm_settings"];
    let content = &settings["content"];
    assert_eq!(content["feature_vector_dimension"], json!(256), "{settings}");
    assert!((content["similarity_threshold"].as_f64().unwrap() - 0.6).abs() < 1e-6, "{settings}");
    assert_eq!(content["use_tfidf_for_text"], json!(true));
    assert_eq!(settings["neighbours"]["neighbour_count"], json!(50));
    let page = [("origin", "https://shop.example"), ("x-api-key", KEY), ("accept-encoding", "gzip")];
    let answer = server.send("GET", "/api/docs", &page, None);
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, "*"));
    assert_eq!(answer.header("content-encoding"), "gzip");
    assert_eq!(answer.header("access-control-allow-credentials"), "");
    drop_schema(&server.stop());
}
