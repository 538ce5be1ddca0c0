//! `/api/v1/users/{id}/consent`: what a user agreed to.

use axum::Json;
use axum::extract::State;
use edge::{ApiResult, Body, Caller, Path};
use kernel::{Permission, Scope, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::users::user_id;
use super::{HttpState, timestamp};
use crate::events::{ConsentData, kinds};
use crate::views::Consent;

pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::new().routes(routes!(read, replace))
}

/// What a user agrees to from now on. What is missing stays as it was.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ConsentChange, example = json!({"personalisation": true, "training": false}))]
pub struct ChangeRequest {
    /// Answers may rest on what the user did. Without it they get what many choose.
    personalisation: Option<bool>,
    /// Models may learn from what the user did.
    training: Option<bool>,
}

/// What a user agreed to. Who never said anything agrees to both.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Consent)]
pub struct ConsentResponse {
    user_id: String,
    personalisation: bool,
    training: bool,
    /// When the user last said so; missing for one who never did.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    updated_at: Option<Timestamp>,
}

/// Read what a user agreed to.
#[utoipa::path(get, path = "/api/v1/users/{id}/consent", tag = "privacy", operation_id = "get_consent",
    params(("id" = String, Path, description = "The id of the user.", example = "ada")),
    responses((status = 200, body = ConsentResponse)))]
async fn read(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Path(id): Path<String>,
) -> ApiResult<Json<ConsentResponse>> {
    scope.require(Permission::Read)?;
    let id = user_id(&id)?;
    Ok(Json(show(&state, &scope, id.as_str())))
}

/// Change what a user agreed to. The next answer and the next training heed it.
#[utoipa::path(put, path = "/api/v1/users/{id}/consent", tag = "privacy", operation_id = "put_consent",
    params(("id" = String, Path, description = "The id of the user.", example = "ada")),
    request_body = ChangeRequest,
    responses((status = 200, body = ConsentResponse)))]
async fn replace(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Path(id): Path<String>,
    Body(request): Body<ChangeRequest>,
) -> ApiResult<Json<ConsentResponse>> {
    let ChangeRequest { personalisation, training } = request;
    let data = ConsentData { user_id: user_id(&id)?, personalisation, training };
    state.writer.write(&scope, kinds::USER_CONSENT, None, None, &data).await?;
    Ok(Json(show(&state, &scope, &id)))
}

fn show(state: &HttpState, scope: &Scope, id: &str) -> ConsentResponse {
    let view = state.views.of(scope);
    let view = view.read();
    let user = view.users.find(id).and_then(|index| view.users.get(index));
    let Consent { personalisation, training, updated_at_ms } =
        user.map(|user| user.consent).unwrap_or_default();
    ConsentResponse {
        user_id: id.to_owned(),
        personalisation,
        training,
        updated_at: updated_at_ms.map(timestamp),
    }
}
