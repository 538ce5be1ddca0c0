//! What answers on the port of a part: its addresses, by the names that its clients know, behind the same keys and limits.
//!
//! It refuses every other address with 404, and says where it is answered. To add an address to a part: a line in
//! [`addresses`], or in [`RENAMED`] where another part has its name on the server's own port.

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::Uri;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use edge::ApiError;
use edge::dialect::Dialect;
use kernel::{Error, codes};

use crate::config::Part;

/// Addresses that mean something else on the port of embeddings than on the server's own.
const RENAMED: [(&str, &str); 4] = [
    ("/api/v1/batch", "/api/v1/embed/batch"),
    ("/api/v1/jobs", "/api/v1/embed/jobs"),
    ("/api/v1/models", "/api/v1/embed/models"),
    ("/api/v1/reindex", "/api/v1/embed/reindex"),
];

/// How errors are told to clients of other protocols, on every port.
pub(crate) const DIALECTS: &[Dialect] = &[
    registry::mlflow::DIALECT,
    runtime::http::DIALECT,
    #[cfg(feature = "search")]
    search::http::openai::DIALECT,
];

/// On every port: probes, metrics, and the document of all addresses.
const EVERYWHERE: [&str; 9] = [
    "/api/docs",
    "/grpc.health.v1.Health/*",
    "/health",
    "/health/*",
    "/healthz",
    "/live",
    "/metrics",
    "/ready",
    "/readyz",
];

/// The addresses of a part, as routes have them; `/*` stands for all that are behind. What changes a model's versions is the
/// registry's, what tells of their predictions is that of serving.
fn addresses(part: Part) -> &'static [&'static str] {
    match part {
        Part::Registry => &[
            "/version",
            "/api/2.0/*",
            "/api/3.0/*",
            "/api/v1/artifacts/cleanup",
            "/api/v1/models",
            "/api/v1/models/{name}",
            "/api/v1/models/{name}/history",
            "/api/v1/models/{name}/promote",
            "/api/v1/models/{name}/rollback",
            "/api/v1/models/{name}/versions",
        ],
        Part::Serving => &[
            "/v2",
            "/v2/*",
            "/inference.GRPCInferenceService/*",
            "/api/v1/batch",
            "/api/v1/feature-sets",
            "/api/v1/feature-sets/*",
            "/api/v1/jobs",
            "/api/v1/jobs/*",
            "/api/v1/models",
            "/api/v1/models/{name}",
            "/api/v1/models/{name}/accuracy",
            "/api/v1/models/{name}/canaries",
            "/api/v1/models/{name}/canaries/{sequence}",
            "/api/v1/models/{name}/canaries/{sequence}/promote",
            "/api/v1/models/{name}/canaries/{sequence}/rollback",
            "/api/v1/models/{name}/drift",
            "/api/v1/models/{name}/truths",
            "/api/v1/models/{name}/versions",
            "/api/v1/predict",
            "/reload",
        ],
        Part::Embedding => {
            &["/api/v1/embed", "/api/v1/embed/*", "/v1/embeddings", "/v1/models", "/v1/models/*"]
        }
        Part::Search => &["/api/v1/search", "/api/v1/search/*", "/index", "/index/*", "/search"],
    }
}

fn is_of(part: Part, route: &str) -> bool {
    EVERYWHERE.iter().chain(addresses(part)).any(|known| match known.strip_suffix('*') {
        Some(prefix) => route.starts_with(prefix),
        None => route == *known,
    })
}

/// What stands behind `prefix`, where it is a whole step of the path.
fn behind<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    path.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Those of the routes that are of a part. It stands within what counts and limits.
pub(crate) fn only(routes: Router, part: Part) -> Router {
    routes.layer(middleware::from_fn_with_state(part, gate))
}

async fn gate(
    State(part): State<Part>,
    route: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    // What has no route comes to the one who says so.
    if route.is_none_or(|route| is_of(part, route.as_str())) {
        return next.run(request).await;
    }
    let message = format!(
        "this port answers `{}` alone; the server's own (server.port) has all of /api/docs",
        part.name()
    );
    ApiError(Error::new(codes::NOT_FOUND, message)).into_response()
}

/// Gives the addresses of a port the names that they have on the server's own. It stands before everything.
pub(crate) fn renamed(router: Router, part: Part) -> Router {
    match part {
        // Within a router of its own, because a layer of `router` comes after the address has chosen the handler.
        Part::Embedding => Router::new().fallback_service(router).layer(middleware::from_fn(rename_request)),
        Part::Registry | Part::Serving | Part::Search => router,
    }
}

async fn rename_request(mut request: Request, next: Next) -> Response {
    if let Some(uri) = rename(request.uri()) {
        *request.uri_mut() = uri;
    }
    next.run(request).await
}

fn rename(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    let (new, rest) = RENAMED.iter().find_map(|(known, new)| behind(path, known).map(|rest| (*new, rest)))?;
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(format!("{new}{rest}{query}").parse().ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_has_its_routes_and_no_other() {
        let check = |part, of: &[&str], of_others: &[&str]| {
            for route in of.iter().chain(&["/health", "/live", "/metrics", "/ready", "/api/docs"]) {
                assert!(is_of(part, route), "{route} on the port of {}", part.name());
            }
            let of_none = ["/", "/api/v1/keys", "/api/v1/audit", "/api/config", "/debug/pprof/profile"];
            for route in of_others.iter().chain(&of_none) {
                assert!(!is_of(part, route), "{route} on the port of {}", part.name());
            }
        };
        let model = "/api/v1/models/{name}";
        let [promote, drift] = ["promote", "drift"].map(|step| format!("{model}/{step}"));
        check(
            Part::Serving,
            &["/v2", "/v2/models/{name}/infer", model, &drift],
            &["/v2x", &promote, "/version"],
        );
        check(Part::Registry, &["/version", "/api/2.0/mlflow/runs/get", model, &promote], &["/v2", &drift]);
        check(
            Part::Embedding,
            &["/v1/embeddings", "/v1/models/{id}", "/v1/models/{id}/{*rest}", "/api/v1/embed/jobs/{id}"],
            &[model, "/search", "/v1/modelsx"],
        );
        check(Part::Search, &["/search", "/index/{type}/{id}"], &["/api/v1/embed", "/searchx", "/indexes"]);
    }

    #[test]
    fn names_of_embeddings_keep_their_rest() {
        let check = |uri: &str, expected: Option<&str>| {
            let found = rename(&uri.parse().unwrap()).map(|uri| uri.to_string());
            assert_eq!(found.as_deref(), expected, "{uri}");
        };
        check("/api/v1/batch", Some("/api/v1/embed/batch"));
        check("/api/v1/jobs/j-1?tenant_id=a%20b", Some("/api/v1/embed/jobs/j-1?tenant_id=a%20b"));
        check("http://host:9006/api/v1/models", Some("http://host:9006/api/v1/embed/models"));
        check("/api/v1/batches", None);
        check("/api/v1/embed/batch", None);
    }
}
