//! What the client asks of the server itself.

use edge::Caller;
use serde_json::json;

use super::{Answer, answer};

/// The release of MLflow whose API this is.
const MLFLOW: &str = "3.17.2";

pub(super) async fn version(_: Caller) -> &'static str {
    MLFLOW
}

/// Artifacts go through this server, in one request each.
pub(super) async fn info(_: Caller) -> Answer {
    answer(json!({
        "store_type": "Watershed",
        "workspaces_enabled": false,
        "trace_archival_enabled": false,
        "multipart_uploads_enabled": false,
        "multipart_downloads_enabled": false,
        "presigned_upload_run_id_supported": false,
        "presigned_upload_model_id_supported": false,
        "features_enabled": {"gateway": false},
    }))
}

pub(super) async fn features(_: Caller) -> Answer {
    answer(json!({"workspaces_enabled": false}))
}
