//! Who may do what: every endpoint without a credential, with too little permission and from another tenant; keys
//! that are made, rotated and revoked; the audit of it.
//!
//! A new endpoint needs a line in [`ENDPOINTS`]; one that is in no document, which is none of a tenant's, in [`OTHERS`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};

use crate::models::registered;
use crate::serving::{fixture, promote};
use crate::support::{Home, KEY, Server, encode, files, refused, wait};

/// Method, path as documented, path as asked, the permission it needs, a body that is fine. In the path as asked `{key}` and
/// the like stand for ids of [`Planted`].
type Endpoint = (&'static str, &'static str, &'static str, &'static str, Option<&'static str>);

const INTERACTION: &str = r#"{"user_id":"planted-user","entity_id":"planted","interaction_type":"view"}"#;
const EVENT: &str = r#"{"specversion":"1.0","id":"planted-event","source":"/test",
    "type":"recommend.user.put.v1","data":{"user_id":"planted-user"}}"#;

#[cfg(feature = "search")]
const ITEM: &str = r#"{"entity_type":"note","entity_id":"planted","text":"planted planted-mark"}"#;
const WEBHOOK: &str = r#"{"url":"https://planted.example/","events":["model.updated"]}"#;

const TICK: &str = r#"{"source_system":"planted","symbol":"planted","timestamp":"2024-01-01T00:00:00Z","price":1,"bid":1,"ask":2}"#;

const CURVE_QUOTES: &str =
    r#"{"as_of":"2024-01-01T00:00:00Z","quotes":[{"tenor":"1y","rate":0.05},{"tenor":"2y","rate":0.04}]}"#;

const PREDICT: &str = r#"{"model_name":"planted-model","inputs":[{"x":[1,2]}]}"#;
const BATCH: &str = r#"{"model_name":"planted-model","inputs":[{"x":[1,2]}]}"#;
const INFER: &str = r#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}"#;

const TRUTHS: &str =
    r#"{"truths":[{"prediction_id":"0123456789abcdef0123456789abcdef","values":{"y":[1]}}]}"#;
const FEATURE_SET: &str = r#"{"entity_type":"item","features":{"mark":"text"},"ttl_secs":3600}"#;
const FEATURES: &str =
    r#"{"rows":[{"entity":"one","event_time":"2026-01-31T12:00:00Z","values":{"mark":"one"}}]}"#;
const MOMENTS: &str = r#"{"rows":[{"entity":"planted","as_of":"2026-01-31T12:30:00Z"}]}"#;

const ENDPOINTS: &[Endpoint] = &[
    (
        "POST",
        "/api/v1/artifacts/cleanup",
        "/api/v1/artifacts/cleanup",
        "admin",
        Some(r#"{"days":0,"dry_run":true}"#),
    ),
    ("GET", "/api/v1/audit", "/api/v1/audit", "admin", None),
    ("GET", "/api/v1/canaries", "/api/v1/canaries", "read", None),
    ("POST", "/api/v1/canaries", "/api/v1/canaries", "admin", Some(r#"{"algorithm":"popular"}"#)),
    ("GET", "/api/v1/canaries/{name}", "/api/v1/canaries/planted-canary", "read", None),
    (
        "POST",
        "/api/v1/canaries/{name}/rollback",
        "/api/v1/canaries/planted-canary/rollback",
        "admin",
        Some("{}"),
    ),
    (
        "POST",
        "/api/v1/canaries/{name}/promote",
        "/api/v1/canaries/planted-canary/promote",
        "admin",
        Some("{}"),
    ),
    ("GET", "/api/v1/dead-letters", "/api/v1/dead-letters", "admin", None),
    ("GET", "/api/v1/dead-letters/{id}", "/api/v1/dead-letters/{letter}", "admin", None),
    ("DELETE", "/api/v1/dead-letters/{id}", "/api/v1/dead-letters/{letter}", "admin", None),
    ("POST", "/api/v1/entities", "/api/v1/entities", "write", Some(r#"{"entity_id":"one"}"#)),
    ("POST", "/api/v1/entities/bulk", "/api/v1/entities/bulk", "write", Some(r#"{"entities":[]}"#)),
    ("GET", "/api/v1/entities/{id}", "/api/v1/entities/planted?entity_type=item", "read", None),
    (
        "PATCH",
        "/api/v1/entities/{id}",
        "/api/v1/entities/planted?entity_type=item",
        "write",
        Some(r#"{"hidden":false}"#),
    ),
    (
        "PUT",
        "/api/v1/entities/{id}",
        "/api/v1/entities/planted?entity_type=item",
        "write",
        Some(r#"{"attributes":{}}"#),
    ),
    ("DELETE", "/api/v1/entities/{id}", "/api/v1/entities/planted-too?entity_type=item", "write", None),
    ("POST", "/api/v1/events", "/api/v1/events", "write", Some(EVENT)),
    ("GET", "/api/v1/erasures", "/api/v1/erasures", "admin", None),
    ("GET", "/api/v1/export/entities", "/api/v1/export/entities", "read", None),
    ("GET", "/api/v1/export/interactions", "/api/v1/export/interactions", "read", None),
    ("GET", "/api/v1/export/users", "/api/v1/export/users", "read", None),
    ("GET", "/api/v1/feature-sets", "/api/v1/feature-sets", "read", None),
    ("GET", "/api/v1/feature-sets/{name}", "/api/v1/feature-sets/planted-set", "read", None),
    ("PUT", "/api/v1/feature-sets/{name}", "/api/v1/feature-sets/planted-set", "write", Some(FEATURE_SET)),
    (
        "GET",
        "/api/v1/feature-sets/{name}/features",
        "/api/v1/feature-sets/planted-set/features?entity=planted&as_of=2026-01-31T12:30:00Z",
        "read",
        None,
    ),
    (
        "POST",
        "/api/v1/feature-sets/{name}/features",
        "/api/v1/feature-sets/planted-set/features",
        "write",
        Some(FEATURES),
    ),
    (
        "POST",
        "/api/v1/feature-sets/{name}/features/read",
        "/api/v1/feature-sets/planted-set/features/read",
        "read",
        Some(MOMENTS),
    ),
    (
        "DELETE",
        "/api/v1/feature-sets/{name}/entities/{entity}",
        "/api/v1/feature-sets/planted-set/entities/another",
        "admin",
        None,
    ),
    ("GET", "/api/v1/interaction-types", "/api/v1/interaction-types", "read", None),
    (
        "POST",
        "/api/v1/interaction-types",
        "/api/v1/interaction-types",
        "write",
        Some(r#"{"interaction_type":"share","weight":2}"#),
    ),
    ("GET", "/api/v1/interaction-types/{type}", "/api/v1/interaction-types/planted-kind", "read", None),
    (
        "PUT",
        "/api/v1/interaction-types/{type}",
        "/api/v1/interaction-types/planted-kind",
        "write",
        Some(r#"{"weight":2}"#),
    ),
    ("DELETE", "/api/v1/interaction-types/{type}", "/api/v1/interaction-types/planted-kind", "write", None),
    ("POST", "/api/v1/interactions", "/api/v1/interactions", "write", Some(INTERACTION)),
    (
        "POST",
        "/api/v1/interactions/bulk",
        "/api/v1/interactions/bulk",
        "write",
        Some(r#"{"interactions":[]}"#),
    ),
    ("GET", "/api/v1/interactions/entity/{id}", "/api/v1/interactions/entity/planted", "read", None),
    ("GET", "/api/v1/interactions/user/{id}", "/api/v1/interactions/user/planted-user", "read", None),
    ("POST", "/api/v1/batch", "/api/v1/batch", "write", Some(BATCH)),
    ("GET", "/api/v1/jobs", "/api/v1/jobs", "read", None),
    ("GET", "/api/v1/jobs/{id}", "/api/v1/jobs/{job}", "read", None),
    ("GET", "/api/v1/jobs/{id}/results", "/api/v1/jobs/{job}/results", "read", None),
    ("POST", "/api/v1/jobs/{id}/cancel", "/api/v1/jobs/{job}/cancel", "write", None),
    ("GET", "/api/v1/keys", "/api/v1/keys", "admin", None),
    ("POST", "/api/v1/keys", "/api/v1/keys", "admin", Some(r#"{"name":"another","permission":"read"}"#)),
    ("GET", "/api/v1/models", "/api/v1/models", "read", None),
    ("GET", "/api/v1/models/{name}", "/api/v1/models/planted-model", "read", None),
    ("GET", "/api/v1/models/{name}/drift", "/api/v1/models/planted-model/drift", "read", None),
    ("GET", "/api/v1/models/{name}/accuracy", "/api/v1/models/planted-model/accuracy", "read", None),
    ("POST", "/api/v1/models/{name}/truths", "/api/v1/models/planted-model/truths", "write", Some(TRUTHS)),
    ("GET", "/api/v1/models/{name}/canaries", "/api/v1/models/planted-model/canaries", "read", None),
    (
        "POST",
        "/api/v1/models/{name}/canaries",
        "/api/v1/models/planted-model/canaries",
        "admin",
        Some(r#"{"version":"2"}"#),
    ),
    (
        "GET",
        "/api/v1/models/{name}/canaries/{sequence}",
        "/api/v1/models/planted-model/canaries/1",
        "read",
        None,
    ),
    (
        "POST",
        "/api/v1/models/{name}/canaries/{sequence}/rollback",
        "/api/v1/models/planted-model/canaries/1/rollback",
        "admin",
        Some("{}"),
    ),
    (
        "POST",
        "/api/v1/models/{name}/canaries/{sequence}/promote",
        "/api/v1/models/planted-model/canaries/1/promote",
        "admin",
        Some("{}"),
    ),
    ("POST", "/api/v1/predict", "/api/v1/predict", "read", Some(PREDICT)),
    ("POST", "/reload", "/reload", "admin", None),
    ("GET", "/v2", "/v2", "read", None),
    ("GET", "/v2/models/{name}", "/v2/models/planted-model", "read", None),
    ("GET", "/v2/models/{name}/ready", "/v2/models/planted-model/ready", "read", None),
    ("POST", "/v2/models/{name}/infer", "/v2/models/planted-model/infer", "read", Some(INFER)),
    (
        "GET",
        "/v2/models/{name}/versions/{version}",
        "/v2/models/planted-model/versions/champion",
        "read",
        None,
    ),
    (
        "GET",
        "/v2/models/{name}/versions/{version}/ready",
        "/v2/models/planted-model/versions/champion/ready",
        "read",
        None,
    ),
    (
        "POST",
        "/v2/models/{name}/versions/{version}/infer",
        "/v2/models/planted-model/versions/champion/infer",
        "read",
        Some(INFER),
    ),
    ("GET", "/api/v1/models/{name}/history", "/api/v1/models/planted-model/history", "read", None),
    ("GET", "/api/v1/models/{name}/versions", "/api/v1/models/planted-model/versions", "read", None),
    ("POST", "/api/v1/models/{name}/promote", "/api/v1/models/planted-model/promote", "admin", Some("{}")),
    ("POST", "/api/v1/models/{name}/rollback", "/api/v1/models/planted-model/rollback", "admin", Some("{}")),
    ("GET", "/api/v1/market/bars/{instrument}", "/api/v1/market/bars/planted", "read", None),
    ("GET", "/api/v1/market/curves/{name}", "/api/v1/market/curves/planted", "read", None),
    ("GET", "/api/v1/market/curves/{name}/quotes", "/api/v1/market/curves/planted/quotes", "read", None),
    (
        "POST",
        "/api/v1/market/curves/{name}/quotes",
        "/api/v1/market/curves/planted/quotes",
        "write",
        Some(CURVE_QUOTES),
    ),
    ("GET", "/api/v1/market/dead-letters", "/api/v1/market/dead-letters", "admin", None),
    (
        "GET",
        "/api/v1/market/dead-letters/{id}",
        "/api/v1/market/dead-letters/normalization-0-0",
        "admin",
        None,
    ),
    (
        "POST",
        "/api/v1/market/dead-letters/{id}/replay",
        "/api/v1/market/dead-letters/normalization-0-0/replay",
        "admin",
        None,
    ),
    ("GET", "/api/v1/market/export/{table}", "/api/v1/market/export/prices", "read", None),
    ("GET", "/api/v1/market/instruments", "/api/v1/market/instruments", "read", None),
    ("GET", "/api/v1/market/instruments/{id}", "/api/v1/market/instruments/planted", "read", None),
    ("GET", "/api/v1/market/prices", "/api/v1/market/prices", "read", None),
    ("GET", "/api/v1/market/prices/{instrument}", "/api/v1/market/prices/planted", "read", None),
    ("GET", "/api/v1/market/projections", "/api/v1/market/projections", "read", None),
    ("GET", "/api/v1/market/projections/{name}", "/api/v1/market/projections/planted", "read", None),
    (
        "GET",
        "/api/v1/market/projections/{name}/{key}",
        "/api/v1/market/projections/planted/planted",
        "read",
        None,
    ),
    ("GET", "/api/v1/market/spreads/{instrument}", "/api/v1/market/spreads/planted", "read", None),
    (
        "GET",
        "/api/v1/market/spreads/{instrument}/history",
        "/api/v1/market/spreads/planted/history",
        "read",
        None,
    ),
    ("GET", "/api/v1/market/statistics/{instrument}", "/api/v1/market/statistics/planted", "read", None),
    ("GET", "/api/v1/market/stream", "/api/v1/market/stream?from=earliest&follow=false", "read", None),
    ("GET", "/ws/prices", "/ws/prices?from=earliest&follow=false", "read", None),
    ("GET", "/api/v1/market/taxonomy", "/api/v1/market/taxonomy", "read", None),
    ("GET", "/api/v1/market/taxonomy/{instrument_id}", "/api/v1/market/taxonomy/NG_HH_BALMO", "read", None),
    ("POST", "/api/v1/market/ticks", "/api/v1/market/ticks", "write", Some(TICK)),
    ("POST", "/api/v1/market/validate", "/api/v1/market/validate", "read", Some(TICK)),
    ("DELETE", "/api/v1/keys/{id}", "/api/v1/keys/{key}", "admin", None),
    ("POST", "/api/v1/keys/{id}/rotate", "/api/v1/keys/{key}/rotate", "admin", Some("{}")),
    (
        "GET",
        "/api/v1/recommendations/bought-together/{id}",
        "/api/v1/recommendations/bought-together/planted",
        "read",
        None,
    ),
    ("GET", "/api/v1/recommendations/entity/{id}", "/api/v1/recommendations/entity/planted", "read", None),
    ("GET", "/api/v1/recommendations/latest", "/api/v1/recommendations/latest", "read", None),
    ("GET", "/api/v1/recommendations/popular", "/api/v1/recommendations/popular", "read", None),
    (
        "POST",
        "/api/v1/recommendations/session",
        "/api/v1/recommendations/session",
        "read",
        Some(r#"{"interactions":[]}"#),
    ),
    (
        "GET",
        "/api/v1/recommendations/similar-users/{id}",
        "/api/v1/recommendations/similar-users/planted-user",
        "read",
        None,
    ),
    ("GET", "/api/v1/recommendations/trending", "/api/v1/recommendations/trending", "read", None),
    ("GET", "/api/v1/recommendations/user/{id}", "/api/v1/recommendations/user/planted-user", "read", None),
    #[cfg(feature = "search")]
    ("POST", "/api/v1/embed", "/api/v1/embed", "read", Some(r#"{"items":[{"text":"gas"}]}"#)),
    #[cfg(feature = "search")]
    ("POST", "/api/v1/embed/batch", "/api/v1/embed/batch", "read", Some(r#"{"items":[{"text":"gas"}]}"#)),
    #[cfg(feature = "search")]
    ("GET", "/api/v1/embed/jobs", "/api/v1/embed/jobs", "read", None),
    #[cfg(feature = "search")]
    ("GET", "/api/v1/embed/jobs/{id}", "/api/v1/embed/jobs/none", "read", None),
    #[cfg(feature = "search")]
    ("GET", "/api/v1/embed/models", "/api/v1/embed/models", "read", None),
    #[cfg(feature = "search")]
    ("POST", "/api/v1/embed/reindex", "/api/v1/embed/reindex", "admin", None),
    #[cfg(feature = "search")]
    ("POST", "/api/v1/search", "/api/v1/search", "read", Some(r#"{"query":"planted"}"#)),
    #[cfg(feature = "search")]
    ("POST", "/api/v1/search/fusion/learn", "/api/v1/search/fusion/learn", "read", Some(r#"{"queries":[]}"#)),
    #[cfg(feature = "search")]
    ("POST", "/api/v1/search/index", "/api/v1/search/index", "write", Some(ITEM)),
    #[cfg(feature = "search")]
    ("POST", "/api/v1/search/index/bulk", "/api/v1/search/index/bulk", "write", Some(r#"{"items":[]}"#)),
    #[cfg(feature = "search")]
    ("POST", "/api/v1/search/index/rebuild", "/api/v1/search/index/rebuild", "admin", None),
    #[cfg(feature = "search")]
    ("GET", "/api/v1/search/index/stats", "/api/v1/search/index/stats", "read", None),
    #[cfg(feature = "search")]
    ("DELETE", "/api/v1/search/index/{type}/{id}", "/api/v1/search/index/note/planted", "write", None),
    ("GET", "/api/v1/users/{id}", "/api/v1/users/planted-user", "read", None),
    ("PUT", "/api/v1/users/{id}", "/api/v1/users/planted-user", "write", Some(r#"{"attributes":{}}"#)),
    ("GET", "/api/v1/users/{id}/consent", "/api/v1/users/planted-user/consent", "read", None),
    (
        "PUT",
        "/api/v1/users/{id}/consent",
        "/api/v1/users/planted-user/consent",
        "write",
        Some(r#"{"training":false}"#),
    ),
    ("DELETE", "/api/v1/users/{id}/data", "/api/v1/users/planted-user/data", "admin", None),
    ("GET", "/api/v1/users/{id}/data-export", "/api/v1/users/planted-user/data-export", "admin", None),
    ("GET", "/api/v1/webhook-deliveries", "/api/v1/webhook-deliveries", "admin", None),
    ("POST", "/api/v1/webhook-deliveries/replay", "/api/v1/webhook-deliveries/replay", "admin", Some("{}")),
    ("GET", "/api/v1/webhook-deliveries/{id}", "/api/v1/webhook-deliveries/{delivery}", "admin", None),
    (
        "POST",
        "/api/v1/webhook-deliveries/{id}/replay",
        "/api/v1/webhook-deliveries/{delivery}/replay",
        "admin",
        None,
    ),
    ("GET", "/api/v1/webhooks", "/api/v1/webhooks", "admin", None),
    ("POST", "/api/v1/webhooks", "/api/v1/webhooks", "admin", Some(WEBHOOK)),
    ("GET", "/api/v1/webhooks/{id}", "/api/v1/webhooks/{webhook}", "admin", None),
    ("PATCH", "/api/v1/webhooks/{id}", "/api/v1/webhooks/{webhook}", "admin", Some(r#"{"active":false}"#)),
    ("DELETE", "/api/v1/webhooks/{id}", "/api/v1/webhooks/{webhook}", "admin", None),
    ("POST", "/api/v1/webhooks/{id}/test", "/api/v1/webhooks/{webhook}/test", "admin", None),
    (
        "POST",
        "/api/v1/webhooks/{id}/rotate-secret",
        "/api/v1/webhooks/{webhook}/rotate-secret",
        "admin",
        Some("{}"),
    ),
    #[cfg(feature = "search")]
    ("GET", "/v1/models", "/v1/models", "read", None),
    #[cfg(feature = "search")]
    ("GET", "/v1/models/{id}", "/v1/models/planted", "read", None),
    #[cfg(feature = "search")]
    ("POST", "/v1/embeddings", "/v1/embeddings", "read", Some(r#"{"model":"planted","input":"gas"}"#)),
];

/// What the sources route besides, and what it answers without a credential. `path` and `INFERENCE_READY` stand for the probes of
/// readiness; their number is not looked at.
const OTHERS: &[(&str, u16)] = &[
    // MLflow's, which have a test of their own.
    ("$path", 404),
    ("/api/config", 401),
    ("/api/docs", 401),
    ("/debug/pprof/profile", 401),
    // Those of gRPC, which have a test of their own.
    ("/grpc.health.v1.Health/Check", 405),
    ("/health", 200),
    ("/health/live", 200),
    ("/healthz", 200),
    // The guide's names of what is under `/api/v1/search`.
    ("/index", 401),
    ("/index/bulk", 401),
    ("/index/rebuild", 401),
    ("/index/stats", 401),
    ("/index/{type}/{id}", 401),
    ("/inference.GRPCInferenceService/ModelInfer", 401),
    ("/inference.GRPCInferenceService/ModelMetadata", 401),
    ("/inference.GRPCInferenceService/ModelReady", 401),
    ("/inference.GRPCInferenceService/ServerLive", 405),
    ("/inference.GRPCInferenceService/ServerMetadata", 401),
    ("/inference.GRPCInferenceService/ServerReady", 405),
    ("/live", 200),
    ("/metrics", 200),
    ("/search", 401),
    // The same as `/v1/models/{id}`, where the slashes of a name are left as they are.
    ("/v1/models/{id}/{*rest}", 401),
    ("/v2/health/live", 200),
    ("INFERENCE_READY", 404),
    ("path", 404),
];

/// What time alone changes, of an answer, of a key that is used, of a delivery that is tried.
const PASSING: [&str; 11] = [
    "answer_id",
    "attempts",
    "due_at",
    "finished_at",
    "generated_at",
    "last_error",
    "last_status",
    "last_used_at",
    "score",
    "serving_version",
    "state",
];

/// Ids that the server gave, by the name that stands for them in a path.
type Planted = BTreeMap<&'static str, String>;

fn filled(path: &str, planted: &Planted) -> String {
    planted.iter().fold(path.to_owned(), |path, (name, id)| path.replace(name, id))
}

fn ask(server: &Server, endpoint: &Endpoint, planted: &Planted, key: Option<&str>) -> (u16, String) {
    let (method, _, path, _, body) = endpoint;
    let kind = if *path == "/api/v1/events" { "application/cloudevents+json" } else { "application/json" };
    let path = &filled(path, planted);
    let mut headers = vec![("content-type", kind)];
    headers.extend(key.map(|key| ("x-api-key", key)));
    let reply = server.send(method, path, &headers, body.map(str::as_bytes));
    (reply.status, reply.text().to_owned())
}

fn key(server: &Server, permission: &str) -> String {
    let made = server.create("/api/v1/keys", &json!({"name": permission, "permission": permission}));
    made["api_key"].as_str().unwrap().to_owned()
}

/// With a projection that the planted tick is in.
fn projecting() -> Home {
    let projection = "[[market.projections]]\nname = \"planted\"\nfrom = \"price\"\nfields = { price = \"event.price\" }\n";
    let home = Home::new();
    home.append_settings(projection);
    home
}

fn plant(server: &Server) -> Planted {
    for id in ["planted", "planted-too"] {
        server.create("/api/v1/entities", &json!({"entity_id": id, "attributes": {"mark": "planted-mark"}}));
    }
    server.create("/api/v1/interactions", &serde_json::from_str(INTERACTION).unwrap());
    server.create("/api/v1/interaction-types", &json!({"interaction_type": "planted-kind", "weight": 1}));
    server.create("/api/v1/canaries", &json!({"name": "planted-canary", "algorithm": "latest"}));
    // One that runs counts who asks.
    assert_eq!(server.post("/api/v1/canaries/planted-canary/rollback", &json!({})).0, 200);
    server.create("/api/v1/market/ticks", &serde_json::from_str(TICK).unwrap());
    for resource in ["prices", "spreads", "projections/planted"] {
        assert!(wait(|| server.get(&format!("/api/v1/market/{resource}/planted")).0 == 200));
    }
    server.create("/api/v1/market/curves/planted/quotes", &serde_json::from_str(CURVE_QUOTES).unwrap());
    assert_eq!(
        server.put("/api/v1/feature-sets/planted-set", &serde_json::from_str(FEATURE_SET).unwrap()).0,
        200
    );
    let row = json!({"entity": "planted", "event_time": "2026-01-31T12:00:00Z", "values": {"mark": "planted-mark"}});
    assert_eq!(server.post("/api/v1/feature-sets/planted-set/features", &json!({"rows": [row]})).0, 200);
    registered(server, "planted-model", &[&[("model.onnx", &fixture("linear.onnx"))]]);
    if cfg!(feature = "onnx") {
        promote(server, "planted-model", 1);
    }
    #[cfg(feature = "search")]
    {
        server.post("/api/v1/search/index", &serde_json::from_str(ITEM).unwrap());
        let (_, found) = server.post("/api/v1/search", &json!({"query": "planted"}));
        assert!(found.to_string().contains("planted-mark"), "{found}");
    }
    let user = json!({"attributes": {"mark": "planted-mark"}});
    assert_eq!(server.put("/api/v1/users/planted-user", &user).0, 200);
    assert_eq!(server.put("/api/v1/users/planted-user/consent", &json!({"training": true})).0, 200);
    let refused = json!({"specversion": "1.0", "id": "planted-letter", "source": "/test",
        "type": "recommend.user.put.v1", "data": {"nobody": "planted-mark"}});
    assert_eq!(server.post("/api/v1/events", &refused).0, 400);
    let key = server.create("/api/v1/keys", &json!({"name": "planted-key", "permission": "read"}));
    let webhook = server.create("/api/v1/webhooks", &serde_json::from_str(WEBHOOK).unwrap());
    let id = |value: &Value| value["id"].as_str().unwrap_or_else(|| panic!("no id in {value}")).to_owned();
    let (status, sent) = server.post(&format!("/api/v1/webhooks/{}/test", id(&webhook)), &json!({}));
    assert!(status < 300, "{sent}");
    let first = |path: &str| {
        let listed = server.read(path);
        let list = listed.as_object().unwrap().values().find_map(Value::as_array);
        id(&list.unwrap_or_else(|| panic!("no list in {listed}"))[0])
    };
    let mut planted = Planted::from([
        ("{key}", id(&key)),
        ("{webhook}", id(&webhook)),
        ("{delivery}", first("/api/v1/webhook-deliveries")),
        ("{letter}", first("/api/v1/dead-letters")),
    ]);
    if cfg!(feature = "onnx") {
        let (status, job) = server.post("/api/v1/batch", &serde_json::from_str(BATCH).unwrap());
        assert_eq!(status, 202, "{job}");
        let job = job["job_id"].as_str().unwrap().to_owned();
        assert!(wait(|| server.read(&format!("/api/v1/jobs/{job}"))["status"] == "completed"));
        planted.insert("{job}", job);
    }
    planted
}

/// A server whose own tenant has planted things, their ids, and an administrator's key of another tenant.
fn two_tenants() -> (Server, Planted, String) {
    let home = projecting();
    let made = home.run(&["keys", "create", "--name", "other", "--permission", "admin", "--tenant", "other"]);
    let other = made.succeeded().stdout.trim().to_owned();
    let server = home.serve();
    let planted = plant(&server);
    (server, planted, other)
}

/// What the tenant itself reads everywhere, by path, without what time alone changes.
fn reads(server: &Server, planted: &Planted) -> BTreeMap<&'static str, String> {
    let read = |endpoint: &Endpoint| {
        let (status, body) = ask(server, endpoint, planted, Some(KEY));
        assert!(status < 500, "{endpoint:?}: {status} {body}");
        let lines = body.lines().map(|line| match serde_json::from_str::<Value>(line) {
            Ok(value) => stored(value).to_string(),
            Err(_) => line.to_owned(),
        });
        (endpoint.1, lines.collect::<Vec<_>>().join("\n"))
    };
    ENDPOINTS.iter().filter(|endpoint| endpoint.0 == "GET").map(read).collect()
}

fn stored(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let lasting = fields.into_iter().filter(|(name, _)| !PASSING.contains(&name.as_str()));
            Value::Object(lasting.map(|(name, value)| (name, stored(value))).collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(stored).collect()),
        value => value,
    }
}

/// The first argument of every `.route(` in the sources: a path, or the name of one.
fn routed() -> BTreeSet<String> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let sources = files(crates).into_iter().filter(|path| {
        let is_source =
            path.extension().is_some_and(|end| end == "rs") && path.iter().any(|part| part == "src");
        is_source && !path.ends_with("tests.rs")
    });
    let mut found = BTreeSet::new();
    for path in sources {
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for other in [".route_service(", ".nest_service(", ".nest("] {
            assert!(!text.contains(other), "{}: {other} is not looked at here", path.display());
        }
        for part in text.split(".route(").skip(1) {
            let argument = part.split(',').next().unwrap().trim();
            found.insert(argument.trim_matches('"').to_owned());
        }
    }
    found
}

#[test]
fn what_is_in_no_document_is_named_here() {
    let named: BTreeSet<String> = OTHERS.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(routed(), named);
    let server = Server::new();
    let is_here = |path: &str| {
        let is_search = ["/search", "/index", "/v1/models"].iter().any(|prefix| path.starts_with(prefix));
        let is_grpc = path.starts_with("/grpc.") || path.starts_with("/inference.");
        path.starts_with('/')
            && (cfg!(feature = "profile") || !path.contains("pprof"))
            && (cfg!(feature = "search") || !is_search)
            && (cfg!(feature = "grpc") || !is_grpc)
    };
    for (path, expected) in OTHERS.iter().filter(|(path, _)| is_here(path)) {
        assert_eq!(server.send("GET", path, &[], None).status, *expected, "{path}");
    }
}

#[test]
fn every_endpoint_is_listed_here() {
    let server = Server::new();
    let documented = server.read("/api/docs");
    let mut found = BTreeSet::new();
    for (path, methods) in documented["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            found.insert((method.to_uppercase(), path.clone()));
        }
    }
    let listed: BTreeSet<_> =
        ENDPOINTS.iter().map(|(method, path, ..)| ((*method).to_owned(), (*path).to_owned())).collect();
    assert_eq!(found, listed);
}

#[test]
fn every_endpoint_needs_a_credential_and_its_permission() {
    let server = projecting().serve();
    let planted = plant(&server);
    let (reader, writer, admin) = (key(&server, "read"), key(&server, "write"), key(&server, "admin"));
    let (start, last) = reader.split_at(reader.len() - 1);
    let forged = format!("{start}{}", if last == "0" { "1" } else { "0" });
    for endpoint in ENDPOINTS {
        for wrong in [None, Some("wrong-key-of-length"), Some(forged.as_str())] {
            let (status, body) = ask(&server, endpoint, &planted, wrong);
            assert!(status == 401 && body.contains("AUTH_ERROR"), "{endpoint:?} {wrong:?}: {status} {body}");
        }
        let (too_weak, enough) = match endpoint.3 {
            "read" => (None, &reader),
            "write" => (Some(&reader), &writer),
            _ => (Some(&writer), &admin),
        };
        if let Some(too_weak) = too_weak {
            let (status, body) = ask(&server, endpoint, &planted, Some(too_weak));
            assert!(status == 403 && body.contains("PERMISSION_DENIED"), "{endpoint:?}: {status} {body}");
        }
        let (status, body) = ask(&server, endpoint, &planted, Some(enough));
        assert!(status != 401 && status != 403 && status < 500, "{endpoint:?}: {status} {body}");
    }
}

/// MLflow's endpoints are in no document of ours; the list that the routes are made of is asked.
#[test]
fn every_endpoint_of_mlflow_needs_a_credential_and_its_permission() {
    let server = Server::new();
    let (reader, writer, admin) = (key(&server, "read"), key(&server, "write"), key(&server, "admin"));
    for (method, path, permission) in registry::mlflow::ENDPOINTS {
        let path = path.replace("{id}", "m-1").replace("{key}", "k").replace("{*path}", "0/none/artifacts/a");
        let ask = |key: Option<&str>| {
            let mut headers = vec![("content-type", "application/json")];
            headers.extend(key.map(|key| ("x-api-key", key)));
            let body = (*method != "GET").then_some(&b"{}"[..]);
            let reply = server.send(method, &path, &headers, body);
            (reply.status, reply.text().to_owned())
        };
        for wrong in [None, Some("wrong-key-of-length")] {
            let (status, body) = ask(wrong);
            assert!(status == 401 && body.contains("AUTH_ERROR"), "{method} {path}: {status} {body}");
        }
        let (too_weak, enough) = match *permission {
            "read" => (None, &reader),
            "write" => (Some(&reader), &writer),
            _ => (Some(&writer), &admin),
        };
        if let Some(too_weak) = too_weak {
            let (status, body) = ask(Some(too_weak));
            assert!(status == 403 && body.contains("PERMISSION_DENIED"), "{method} {path}: {status} {body}");
        }
        let (status, body) = ask(Some(enough));
        assert!(status != 401 && status != 403 && status < 500, "{method} {path}: {status} {body}");
    }
}

/// gRPC tells of problems by its own status: 16 for no credential, 12 for no such method, 5 for what is not there.
#[test]
#[cfg(feature = "grpc")]
fn every_method_of_grpc_needs_a_credential() {
    let (server, _, other) = two_tenants();
    let reader = key(&server, "read");
    let ask = |method: &str, key: Option<&str>, message: &[u8]| {
        let mut body = vec![0];
        body.extend((message.len() as u32).to_be_bytes());
        body.extend(message);
        let mut headers = vec![("content-type", "application/grpc")];
        headers.extend(key.map(|key| ("x-api-key", key)));
        let reply = server.send("POST", &format!("/{method}"), &headers, Some(&body));
        assert_eq!(reply.status, 200, "{method}: {}", reply.text());
        // What went well says so behind its message.
        let is_well = reply.bytes.len() >= 5;
        if is_well { "0".to_owned() } else { reply.header("grpc-status").to_owned() }
    };
    // The field 1 of both is the model's name.
    let named = [&[10, 13][..], b"planted-model"].concat();
    for (method, message, to_reader, to_other) in [
        ("inference.GRPCInferenceService/ServerMetadata", &[][..], "0", "0"),
        ("inference.GRPCInferenceService/ModelReady", &named, "0", "0"),
        (
            "inference.GRPCInferenceService/ModelMetadata",
            &named,
            if cfg!(feature = "onnx") { "0" } else { "5" },
            "5",
        ),
        (
            "inference.GRPCInferenceService/ModelInfer",
            &named,
            if cfg!(feature = "onnx") { "3" } else { "5" },
            "5",
        ),
    ] {
        for wrong in [None, Some("wrong-key-of-length")] {
            assert_eq!(ask(method, wrong, message), "16", "{method}");
        }
        assert_eq!(ask(method, Some(&reader), message), to_reader, "{method}");
        assert_eq!(ask(method, Some(&other), message), to_other, "{method}");
    }
    for probe in [
        "inference.GRPCInferenceService/ServerLive",
        "inference.GRPCInferenceService/ServerReady",
        "grpc.health.v1.Health/Check",
    ] {
        assert_eq!(ask(probe, None, &[]), "0", "{probe}");
    }
    assert_eq!(ask("inference.GRPCInferenceService/None", Some(&reader), &[]), "12");
}

#[test]
fn no_endpoint_shows_or_changes_another_tenant() {
    let (server, planted, other) = two_tenants();
    let before = reads(&server, &planted);
    let marked = before.values().filter(|body| body.contains("planted")).count();
    // Encoders and their jobs are the server's.
    let of_server = |path: &str| path.starts_with("/api/v1/embed/") || path.starts_with("/v1/models");
    let of_tenants = before.keys().filter(|path| !of_server(path)).count();
    assert!(marked * 4 > of_tenants * 3, "almost every answer has something to show: {before:#?}");
    // Reads first: what it writes itself has the same names.
    let (reading, writing): (Vec<_>, Vec<_>) = ENDPOINTS.iter().partition(|endpoint| endpoint.0 == "GET");
    for endpoint in reading.into_iter().chain(writing) {
        let (status, body) = ask(&server, endpoint, &planted, Some(&other));
        // An answer may name what it was asked for.
        let told = body.replace("\"planted\"", "").replace("\"planted-user\"", "");
        let is_shown = endpoint.0 == "GET" && status == 200 && told.contains("planted");
        assert!(!is_shown && !body.contains("planted-mark") && status < 500, "{endpoint:?}: {status} {body}");
        if planted.keys().any(|name| endpoint.2.contains(name)) {
            // To forget a letter that is not there is fine; that it is there is looked at below.
            let is_hidden = status == 404 || (endpoint.0 == "DELETE" && status == 204);
            assert!(is_hidden, "{endpoint:?}: {status} {body}");
        }
    }
    // Of streams, places in topics that tenants share, and when to come back, are of the server.
    let of_tenant = |path: &str, body: &str| -> String {
        let is_stream = path == "/api/v1/market/stream" || path == "/ws/prices";
        let is_of_server = |line: &&str| line.starts_with("id: ") || line.starts_with("retry: ");
        body.lines().filter(|line| !(is_stream && is_of_server(line))).collect()
    };
    for (path, after) in reads(&server, &planted) {
        assert_eq!(of_tenant(path, &after), of_tenant(path, &before[path]), "{path}");
    }
    // The tenant comes from the credential; whatever else names one must agree.
    let named = json!({"entity_id": "x", "tenant_id": "default"}).to_string();
    let headers =
        [("x-api-key", other.as_str()), ("x-tenant-id", "default"), ("content-type", "application/json")];
    let reply = server.send("POST", "/api/v1/entities", &headers, Some(named.as_bytes()));
    assert_eq!((reply.status, reply.json()["code"].as_str()), (403, Some("TENANT_MISMATCH")));
}

#[test]
fn a_key_lives_until_it_is_revoked() {
    let mut server = Server::new();
    let made = server.create("/api/v1/keys", &json!({"name": "shop", "permission": "read"}));
    let (id, first) = (made["id"].as_str().unwrap().to_owned(), made["api_key"].as_str().unwrap().to_owned());
    let works = |server: &Server, key: &str| {
        server.send("GET", "/api/v1/export/users", &[("x-api-key", key)], None).status == 200
    };
    assert!(works(&server, &first));
    let (status, rotated) = server.post(&format!("/api/v1/keys/{id}/rotate"), &json!({"grace_secs": 0}));
    assert_eq!(status, 200, "{rotated}");
    let second = rotated["api_key"].as_str().unwrap().to_owned();
    assert!(!works(&server, &first) && works(&server, &second));
    server.restart();
    assert!(!works(&server, &first) && works(&server, &second), "keys outlive the process");
    let listed = server.read("/api/v1/keys");
    assert!(!listed.to_string().contains(second.rsplit('_').next().unwrap()), "{listed}");
    assert!(listed["keys"][0]["last_used_at"].is_string(), "{listed}");
    assert_eq!(server.delete(&format!("/api/v1/keys/{id}")).0, 204);
    assert!(!works(&server, &second));
    refused(&server.delete("/api/v1/keys/unknown"), 404, "NOT_FOUND", None);
    let actions = |audit: &Value| -> Vec<String> {
        let entries = audit["entries"].as_array().unwrap().iter();
        entries.map(|entry| entry["action"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(actions(&server.read("/api/v1/audit")), ["key.revoked", "key.rotated", "key.created"]);
    let log = server.log();
    assert!(!log.contains(first.rsplit('_').next().unwrap()), "a secret in the log");
    let home = server.stop();
    let verified = home.run(&["audit", "verify"]).succeeded().stdout;
    assert!(verified.starts_with("whole: 3 entries"), "{verified}");
    home.run(&["audit", "verify", "--head", "00"]).failed_with("it was rewritten");
    assert!(home.run(&["keys", "list"]).succeeded().stdout.contains("revoked"));
}

#[test]
fn settings_are_shown_to_administrators_without_secrets() {
    let server = Server::new();
    let config = server.read("/api/config");
    assert_eq!(config["auth"]["tenant"], "default", "{config}");
    assert!(!config.to_string().contains(KEY));
    let writer = key(&server, "write");
    assert_eq!(server.send("GET", "/api/config", &[("x-api-key", &writer)], None).status, 403);
    assert_eq!(server.send("GET", "/api/config", &[], None).status, 401);
    let (server, _, other) = two_tenants();
    for path in ["/api/config", "/debug/pprof/profile?seconds=1"] {
        let status = server.send("GET", path, &[("x-api-key", &other)], None).status;
        let expected = if path.contains("pprof") && cfg!(not(feature = "profile")) { 404 } else { 403 };
        assert_eq!(status, expected, "{path} is the operator's");
    }
}

#[test]
fn a_key_that_asks_too_often_is_told_when_to_come_again() {
    let settings = "[server.rate_limit]\nrequests_per_minute = 1\nburst_size = 3\n";
    let server = Home::with_settings(settings).serve();
    let told = |reply: &crate::support::Reply| {
        let number = |name: &str| reply.header(name).parse::<u64>().unwrap();
        (reply.status, number("ratelimit-limit"), number("ratelimit-remaining"))
    };
    let ask = || server.fetch("/api/v1/recommendations/popular");
    let passed: Vec<_> = (0..3).map(|_| told(&ask())).collect();
    assert_eq!(passed, [(200, 3, 2), (200, 3, 1), (200, 3, 0)]);
    let over = ask();
    assert_eq!((told(&over), over.json()["code"].as_str()), ((429, 3, 0), Some("RATE_LIMIT_EXCEEDED")));
    let wait: u64 = over.header("retry-after").parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    // Neither a wrong key nor a header changes the count, and probes are not counted.
    let headers = [("x-api-key", KEY), ("x-forwarded-for", "10.0.0.1"), ("x-ratelimit-bypass", "1")];
    assert_eq!(server.send("GET", "/api/v1/recommendations/popular", &headers, None).status, 429);
    assert_eq!(server.send("GET", "/health", &[], None).status, 200);
}

#[test]
fn bad_keys_are_refused_with_the_field() {
    let server = Server::new();
    let check = |body: Value, field: Option<&str>| {
        refused(&server.post("/api/v1/keys", &body), 400, "VALIDATION_ERROR", field);
    };
    check(json!({"name": "", "permission": "read"}), Some("name"));
    check(json!({"name": "x", "permission": "all"}), Some("permission"));
    check(
        json!({"name": "x", "permission": "read", "expires_at": "2001-01-01T00:00:00Z"}),
        Some("expires_at"),
    );
    check(json!({"permission": "read"}), Some("name"));
}

#[test]
fn keys_are_listed_in_pages() {
    let server = Server::new();
    for name in ["one", "two", "three"] {
        server.create("/api/v1/keys", &json!({"name": name, "permission": "read"}));
    }
    let first = server.read("/api/v1/keys?limit=2");
    let cursor = encode(first["next_cursor"].as_str().unwrap());
    let rest = server.read(&format!("/api/v1/keys?limit=2&cursor={cursor}"));
    assert!(rest["next_cursor"].is_null(), "{rest}");
    let listed = |page: &Value| page["keys"].as_array().unwrap().clone();
    let all = listed(&server.read("/api/v1/keys"));
    assert_eq!([listed(&first), listed(&rest)].concat(), all);
    assert_eq!((listed(&first).len(), all.len()), (2, 3));
    refused(&server.get("/api/v1/keys?limit=0"), 400, "VALIDATION_ERROR", Some("limit"));
    refused(&server.get("/api/v1/keys?cursor=x"), 400, "VALIDATION_ERROR", Some("cursor"));
}
