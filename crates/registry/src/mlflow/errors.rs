//! Errors as MLflow's clients know them: to each problem its `error_code` and `message` are added.

use edge::dialect::Dialect;
use serde_json::{Map, Value, json};

/// Of MLflow's own addresses.
pub const DIALECT: Dialect = Dialect { is_ours, add };

fn is_ours(path: &str) -> bool {
    ["/api/2.0/mlflow", "/api/3.0/mlflow"].iter().any(|prefix| path.starts_with(prefix))
}

fn add(problem: &mut Map<String, Value>) {
    let code = problem.get("code").and_then(Value::as_str).unwrap_or_default();
    let is_address =
        problem.get("detail").and_then(Value::as_str).is_some_and(|text| text.contains("/api/docs"));
    let code = if is_address { "ENDPOINT_NOT_FOUND" } else { mlflow_code(code) };
    let message = problem.get("detail").cloned().unwrap_or_default();
    problem.insert("error_code".to_owned(), json!(code));
    problem.insert("message".to_owned(), message);
}

/// The name that MLflow has for one of our codes.
fn mlflow_code(code: &str) -> &'static str {
    match code {
        "NOT_FOUND" => "RESOURCE_DOES_NOT_EXIST",
        "ALREADY_EXISTS" => "RESOURCE_ALREADY_EXISTS",
        "CONFLICT" => "RESOURCE_CONFLICT",
        // The second is the code of the crate `runtime`, which stands beside this one.
        "INVALID_STATE" | "MODEL_UNUSABLE" => "INVALID_STATE",
        "AUTH_ERROR" => "UNAUTHENTICATED",
        "PERMISSION_DENIED" | "TENANT_MISMATCH" => "PERMISSION_DENIED",
        "TOO_LARGE" => "RESOURCE_LIMIT_EXCEEDED",
        "RATE_LIMIT_EXCEEDED" | "TOO_MANY_STREAMS" | "STREAM_TOO_SLOW" => "REQUEST_LIMIT_EXCEEDED",
        "OVERLOADED" | "UNAVAILABLE" | "TIMED_OUT" => "TEMPORARILY_UNAVAILABLE",
        "STORAGE_FULL" => "RESOURCE_EXHAUSTED",
        "CORRUPTED" => "DATA_LOSS",
        "INVALID_REQUEST" => "MALFORMED_REQUEST",
        "METHOD_NOT_ALLOWED" => "ENDPOINT_NOT_FOUND",
        "VALIDATION_ERROR" | "REFUSED_FORMAT" | "UNSUPPORTED_MEDIA_TYPE" | "INVALID_ID" => {
            "INVALID_PARAMETER_VALUE"
        }
        _ => "INTERNAL_ERROR",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_of_mlflow_know_the_codes() {
        let check = |code: &str, expected: &str| {
            let problem = json!({"code": code, "detail": "why"});
            let mut problem = problem.as_object().unwrap().clone();
            add(&mut problem);
            assert_eq!((&problem["error_code"], &problem["message"]), (&json!(expected), &json!("why")));
        };
        for (code, expected) in [
            ("NOT_FOUND", "RESOURCE_DOES_NOT_EXIST"),
            ("CONFLICT", "RESOURCE_CONFLICT"),
            ("INVALID_STATE", "INVALID_STATE"),
            // A promotion that was refused is no fault of the server.
            ("MODEL_UNUSABLE", "INVALID_STATE"),
            ("SOMETHING_ELSE", "INTERNAL_ERROR"),
        ] {
            check(code, expected);
        }
    }
}
