//! `/v2`: the Open Inference Protocol. Where the address names no version, the alias `champion` answers; an alias may stand
//! in the place of the version.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use edge::extract::{check_encoding, media_type, parse, read_all};
use edge::{ApiResult, Caller, Path};
use kernel::{Error, Result, codes};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::wire::{InferRequest, InferResponse, Output, is_set, text_of};
use super::{SERVER_NAME, binary};
use crate::canaries::Asker;
use crate::model::TensorSpec;
use crate::tensor::Tensor;
use crate::{Inference, Runtime, Selector};

pub(super) fn routes() -> OpenApiRouter<Runtime> {
    OpenApiRouter::new()
        .routes(routes!(server))
        .routes(routes!(metadata))
        .routes(routes!(metadata_of_version))
        .routes(routes!(ready))
        .routes(routes!(ready_of_version))
        .routes(routes!(infer))
        .routes(routes!(infer_by_version))
}

/// What the server is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InferenceServer)]
pub struct ServerResponse {
    name: &'static str,
    version: &'static str,
    /// Extensions of the protocol that it speaks.
    extensions: Vec<&'static str>,
}

/// A tensor that a model takes or gives.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InferenceTensor)]
pub struct SpecResponse {
    name: String,
    datatype: &'static str,
    /// The length of each axis, -1 for any.
    shape: Vec<i64>,
}

impl From<&TensorSpec> for SpecResponse {
    fn from(spec: &TensorSpec) -> Self {
        Self { name: spec.name.clone(), datatype: spec.kind.name(), shape: spec.wire_shape() }
    }
}

/// A model, as the version that answers now describes itself.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InferenceModel)]
pub struct ModelResponse {
    name: String,
    /// The version that answers.
    versions: Vec<String>,
    /// What serves it, such as `onnx_tract`.
    platform: &'static str,
    inputs: Vec<SpecResponse>,
    outputs: Vec<SpecResponse>,
    /// Whether requests are put together.
    batches: bool,
}

/// Whether a model answers.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InferenceReadiness)]
pub struct ReadyResponse {
    name: String,
    version: String,
    ready: bool,
}

/// Say what the inference server is.
#[utoipa::path(get, path = "/v2", tag = "inference", operation_id = "get_inference_server",
    responses((status = 200, body = ServerResponse)))]
async fn server(_caller: Caller) -> Json<ServerResponse> {
    Json(ServerResponse {
        name: SERVER_NAME,
        version: env!("CARGO_PKG_VERSION"),
        extensions: vec!["binary_tensor_data"],
    })
}

/// Describe a model by its inputs and outputs.
#[utoipa::path(get, path = "/v2/models/{name}", tag = "inference", operation_id = "get_inference_model",
    params(("name" = String, Path, description = "The registered model.")),
    responses((status = 200, body = ModelResponse),
        (status = 409, description = "the version cannot be served",
            body = edge::Problem, content_type = "application/problem+json")))]
async fn metadata(
    State(runtime): State<Runtime>,
    caller: Caller,
    Path(name): Path<String>,
) -> ApiResult<Json<ModelResponse>> {
    described(&runtime, &caller, name, Selector::default()).await
}

/// Describe a version of a model by its inputs and outputs.
#[utoipa::path(get, path = "/v2/models/{name}/versions/{version}", tag = "inference",
    operation_id = "get_inference_model_version",
    params(("name" = String, Path, description = "The registered model."),
        ("version" = String, Path, description = "A number, or an alias.", example = "champion")),
    responses((status = 200, body = ModelResponse),
        (status = 409, description = "the version cannot be served",
            body = edge::Problem, content_type = "application/problem+json")))]
async fn metadata_of_version(
    State(runtime): State<Runtime>,
    caller: Caller,
    Path((name, version)): Path<(String, String)>,
) -> ApiResult<Json<ModelResponse>> {
    described(&runtime, &caller, name, Selector::parse(&version)?).await
}

async fn described(
    runtime: &Runtime,
    caller: &Caller,
    name: String,
    selector: Selector,
) -> ApiResult<Json<ModelResponse>> {
    let found = runtime.describe(&caller.0, &name, selector).await?;
    Ok(Json(ModelResponse {
        name,
        versions: vec![found.version.to_string()],
        platform: found.platform,
        inputs: found.signature.inputs.iter().map(Into::into).collect(),
        outputs: found.signature.outputs.iter().map(Into::into).collect(),
        batches: found.batches,
    }))
}

/// Make a model ready, and say when it is.
#[utoipa::path(get, path = "/v2/models/{name}/ready", tag = "inference", operation_id = "get_inference_model_ready",
    params(("name" = String, Path, description = "The registered model.")),
    responses((status = 200, body = ReadyResponse),
        (status = 409, description = "the version cannot be served",
            body = edge::Problem, content_type = "application/problem+json")))]
async fn ready(
    State(runtime): State<Runtime>,
    caller: Caller,
    Path(name): Path<String>,
) -> ApiResult<Json<ReadyResponse>> {
    is_ready(&runtime, &caller, name, Selector::default()).await
}

/// Make a version of a model ready, and say when it is.
#[utoipa::path(get, path = "/v2/models/{name}/versions/{version}/ready", tag = "inference",
    operation_id = "get_inference_model_version_ready",
    params(("name" = String, Path, description = "The registered model."),
        ("version" = String, Path, description = "A number, or an alias.", example = "champion")),
    responses((status = 200, body = ReadyResponse),
        (status = 409, description = "the version cannot be served",
            body = edge::Problem, content_type = "application/problem+json")))]
async fn ready_of_version(
    State(runtime): State<Runtime>,
    caller: Caller,
    Path((name, version)): Path<(String, String)>,
) -> ApiResult<Json<ReadyResponse>> {
    is_ready(&runtime, &caller, name, Selector::parse(&version)?).await
}

async fn is_ready(
    runtime: &Runtime,
    caller: &Caller,
    name: String,
    selector: Selector,
) -> ApiResult<Json<ReadyResponse>> {
    let version = runtime.describe(&caller.0, &name, selector).await?.version.to_string();
    Ok(Json(ReadyResponse { name, version, ready: true }))
}

/// Ask a model.
#[utoipa::path(post, path = "/v2/models/{name}/infer", tag = "inference", operation_id = "infer_by_model",
    params(("name" = String, Path, description = "The registered model.")),
    request_body = InferRequest,
    responses((status = 200, body = InferResponse),
        (status = 409, description = "the version cannot be served",
            body = edge::Problem, content_type = "application/problem+json")))]
async fn infer(
    State(runtime): State<Runtime>,
    caller: Caller,
    Path(name): Path<String>,
    request: Request,
) -> ApiResult<Response> {
    inferred(&runtime, &caller, name, Selector::default(), request).await
}

/// Ask a version of a model.
#[utoipa::path(post, path = "/v2/models/{name}/versions/{version}/infer", tag = "inference",
    operation_id = "infer_by_model_version",
    params(("name" = String, Path, description = "The registered model."),
        ("version" = String, Path, description = "A number, or an alias.", example = "champion")),
    request_body = InferRequest,
    responses((status = 200, body = InferResponse),
        (status = 409, description = "the version cannot be served",
            body = edge::Problem, content_type = "application/problem+json")))]
async fn infer_by_version(
    State(runtime): State<Runtime>,
    caller: Caller,
    Path((name, version)): Path<(String, String)>,
    request: Request,
) -> ApiResult<Response> {
    inferred(&runtime, &caller, name, Selector::parse(&version)?, request).await
}

async fn inferred(
    runtime: &Runtime,
    caller: &Caller,
    name: String,
    selector: Selector,
    request: Request,
) -> ApiResult<Response> {
    let headers = request.headers().clone();
    let is_binary = headers.contains_key(&binary::LENGTH);
    let kind = media_type(&headers);
    let is_taken = matches!(kind.as_deref(), None | Some("application/json"))
        || (is_binary && kind.as_deref() == Some("application/octet-stream"));
    if !is_taken {
        let message = format!("send `content-type: application/json`, not `{}`", kind.unwrap_or_default());
        return Err(Error::new(codes::UNSUPPORTED_MEDIA_TYPE, message).into());
    }
    check_encoding(&headers)?;
    let (json, mut behind) = binary::split(&headers, read_all(request, &()).await?)?;
    let mut asked: InferRequest = parse(&json, codes::VALIDATION_ERROR)?;
    let given = std::mem::take(&mut asked.inputs).into_iter().enumerate();
    let inputs =
        given.map(|(number, input)| input.0.tensor(number, &mut behind)).collect::<Result<Vec<_>>>()?;
    behind.end()?;
    let (keeps, subject) =
        (is_set(asked.parameters.as_ref(), "keep"), text_of(asked.parameters.as_ref(), "subject"));
    let asker = Asker { subject, keeps };
    let inference = runtime.infer_for(&caller.0, &name, selector, &asker, |_| Ok(inputs)).await?;
    answer(name, asked, inference)
}

fn answer(model_name: String, asked: InferRequest, inference: Inference) -> ApiResult<Response> {
    let all_binary = is_set(asked.parameters.as_ref(), "binary_data_output");
    let mut chosen: Vec<(Tensor, bool)> = Vec::new();
    match asked.outputs {
        None => chosen.extend(inference.outputs.into_iter().map(|tensor| (tensor, all_binary))),
        Some(wanted) => {
            for (number, wanted) in wanted.into_iter().enumerate() {
                let tensor = inference.output(number, &wanted.0.name)?;
                let says = wanted.0.parameters.as_ref().and_then(|parameters| parameters.get("binary_data"));
                chosen.push((tensor, says.map_or(all_binary, |says| says == true)));
            }
        }
    }
    let mut behind = Vec::new();
    let outputs = chosen.into_iter().map(|(tensor, is_binary)| {
        let size = is_binary.then(|| binary::write(&tensor.values, &mut behind));
        Output::new(tensor, size)
    });
    let outputs: Vec<Output> = outputs.collect();
    let has_binary = outputs.iter().any(Output::is_binary);
    let model_version = inference.version.to_string();
    let told =
        [("prediction_id", inference.prediction_id), ("arm", inference.arm.map(|arm| arm.name().to_owned()))];
    let told: Map<String, Value> =
        told.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text?.into()))).collect();
    let parameters = (!told.is_empty()).then_some(Value::Object(told));
    let response = InferResponse { model_name, model_version, id: asked.id, parameters, outputs };
    if !has_binary {
        return Ok(Json(response).into_response());
    }
    let mut body = serde_json::to_vec(&response).map_err(Error::internal)?;
    let length = HeaderValue::from(body.len());
    body.append(&mut behind);
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(binary::LENGTH.clone(), length);
    Ok(response)
}
