//! Vectors of texts: `POST /v1/embeddings`, as OpenAI's clients ask, and `POST /api/v1/embed` as the operators' guide does.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use edge::{ApiResult, Body, Caller};
use kernel::Result;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::check_tenant;
use crate::encoder::{Encoded, shortened};
use crate::items::{TEXT_BYTES_MAX, invalid};
use crate::service::Search;

/// Texts of one request, at most.
const TEXTS_MAX: usize = 2_048;
/// Bytes of all texts of one request, at most.
const BYTES_MAX: usize = 4 << 20;

pub(super) fn routes() -> OpenApiRouter<Arc<Search>> {
    OpenApiRouter::new()
        .routes(routes!(create))
        .routes(routes!(embed))
        .routes(routes!(embed_batch))
        .routes(routes!(models))
}

/// One text or several.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(
    untagged,
    expecting = "a text or a list of texts; tokens are not taken, because models number them differently"
)]
#[schema(as = EmbeddingsInput)]
enum Input {
    One(String),
    Many(Vec<String>),
}

/// How vectors are written.
#[derive(Debug, Default, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = EmbeddingsEncoding)]
enum Encoding {
    /// As numbers.
    #[default]
    Float,
    /// As 32 bit floats, little endian, in base64.
    Base64,
}

/// What to embed, as OpenAI's API has it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = EmbeddingsRequest, example = json!({"model": "sentence-transformers/all-MiniLM-L6-v2", "input": ["gas prices rise"]}))]
pub struct EmbeddingsRequest {
    /// A text or up to 2,048; each at most 262,144 bytes. Of a text that the model does not read whole, the beginning
    /// counts, and the answer names it in `truncated`.
    input: Input,
    /// The model, by its name or version; the last step of the name is enough, or the name of the folder that it is in.
    model: String,
    /// How vectors are written.
    #[serde(default)]
    encoding_format: Encoding,
    /// So many first numbers of each vector, of length 1 again, where the model says that it was trained for that
    /// (`matryoshka_dimensions` of its `config.json`); else all of them and nothing less.
    #[schema(minimum = 1)]
    dimensions: Option<usize>,
    /// Not looked at.
    #[expect(dead_code, reason = "clients send it")]
    user: Option<String>,
}

/// A vector as numbers, or as base64 where that was asked for.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = EmbeddingVector)]
pub enum Written {
    /// One for each dimension.
    Float(Vec<f32>),
    /// 32 bit floats, little endian.
    Base64(String),
}

/// One vector.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Embedding)]
pub struct EmbeddingResponse {
    object: &'static str,
    index: usize,
    embedding: Written,
}

/// What it cost.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EmbeddingsUsage)]
pub struct UsageResponse {
    /// Tokens that were read.
    prompt_tokens: usize,
    total_tokens: usize,
}

/// The vectors.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Embeddings)]
pub struct EmbeddingsResponse {
    object: &'static str,
    data: Vec<EmbeddingResponse>,
    model: String,
    model_version: String,
    usage: UsageResponse,
    /// The places of texts of which the model read the beginning only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    truncated: Vec<usize>,
}

fn check_texts(texts: &[String], field: &str) -> Result<()> {
    if texts.is_empty() || texts.len() > TEXTS_MAX {
        return Err(invalid(field, format!("give 1 to {TEXTS_MAX} texts, not {}", texts.len())));
    }
    if let Some(place) = texts.iter().position(|text| text.trim().is_empty() || text.len() > TEXT_BYTES_MAX) {
        return Err(invalid(
            &format!("{field}[{place}]"),
            format!("a text is 1 to {TEXT_BYTES_MAX} bytes, not all spaces"),
        ));
    }
    let bytes: usize = texts.iter().map(String::len).sum();
    if bytes > BYTES_MAX {
        return Err(invalid(
            field,
            format!("the texts of a request have at most {BYTES_MAX} bytes, not {bytes}"),
        ));
    }
    Ok(())
}

/// Passes where the model makes vectors of so many numbers, and where there is no such model, which is refused later.
fn check_dimensions(search: &Search, model: &str, wanted: Option<usize>) -> Result<()> {
    let (Some(wanted), Ok(found)) = (wanted, search.model(Some(model))) else { return Ok(()) };
    if search.makes(Some(model), wanted)? {
        return Ok(());
    }
    let message = format!(
        "the model's vectors have {}, and it does not say that it was trained for {wanted}; leave `dimensions` out, or take a \
         model whose config.json names it in `matryoshka_dimensions`",
        found.dimensions
    );
    Err(invalid("dimensions", message))
}

fn truncated(encoded: &[Encoded]) -> Vec<usize> {
    encoded.iter().enumerate().filter(|(_, one)| one.is_truncated).map(|(place, _)| place).collect()
}

fn written(vector: &[f32], encoding: Encoding) -> Written {
    match encoding {
        Encoding::Float => Written::Float(vector.to_vec()),
        Encoding::Base64 => {
            let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
            Written::Base64(STANDARD.encode(bytes))
        }
    }
}

/// Embed texts, as OpenAI's clients ask.
#[utoipa::path(post, path = "/v1/embeddings", tag = "embeddings", operation_id = "create_embeddings",
    request_body = EmbeddingsRequest,
    responses((status = 200, body = EmbeddingsResponse),
        (status = 404, description = "There is no model of that name here, or none at all.", body = edge::Problem,
            content_type = "application/problem+json")))]
async fn create(
    State(search): State<Arc<Search>>,
    Caller(scope): Caller,
    Body(request): Body<EmbeddingsRequest>,
) -> ApiResult<Json<EmbeddingsResponse>> {
    let texts = match request.input {
        Input::One(text) => vec![text],
        Input::Many(texts) => texts,
    };
    check_texts(&texts, "input")?;
    check_dimensions(&search, &request.model, request.dimensions)?;
    let (encoded, model) = search.embed(&scope, Some(&request.model), texts).await?;
    let tokens = encoded.iter().map(|one| one.tokens).sum();
    let data = encoded
        .iter()
        .enumerate()
        .map(|(index, one)| EmbeddingResponse {
            object: "embedding",
            index,
            embedding: match request.dimensions {
                Some(wanted) if wanted < one.vector.len() => {
                    written(&shortened(&one.vector, wanted), request.encoding_format)
                }
                _ => written(&one.vector, request.encoding_format),
            },
        })
        .collect();
    let (model, model_version) = (model.name.clone(), model.version.clone());
    Ok(Json(EmbeddingsResponse {
        object: "list",
        data,
        model,
        model_version,
        usage: UsageResponse { prompt_tokens: tokens, total_tokens: tokens },
        truncated: truncated(&encoded),
    }))
}

/// One text.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = EmbedItem)]
pub struct EmbedItem {
    /// At most 262,144 bytes.
    #[schema(min_length = 1, max_length = 262_144)]
    text: String,
    /// Not looked at.
    #[serde(rename = "type")]
    #[expect(dead_code, reason = "the guide's clients send it")]
    kind: Option<String>,
    /// Not looked at.
    #[expect(dead_code, reason = "the guide's clients send it")]
    id: Option<String>,
    /// Must be the credential's tenant where given.
    tenant_id: Option<String>,
}

/// What to embed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = EmbedRequest, example = json!({"items": [{"text": "gas prices rise"}]}))]
pub struct EmbedRequest {
    /// 2,048 at most.
    #[schema(min_items = 1, max_items = 2048)]
    items: Vec<EmbedItem>,
    /// The model, by its name or version; the one that searches are answered by where missing.
    model: Option<String>,
    /// Not looked at: batches are made by their tokens.
    #[expect(dead_code, reason = "the guide's clients send it")]
    batch_size: Option<usize>,
    /// Must be the credential's tenant where given.
    tenant_id: Option<String>,
}

/// The vectors.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EmbedResponse)]
pub struct EmbedResponse {
    model_version: String,
    vectors: Vec<Vec<f32>>,
    count: usize,
    latency_ms: f64,
    /// The places of texts of which the model read the beginning only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    truncated: Vec<usize>,
}

/// Embed texts.
#[utoipa::path(post, path = "/api/v1/embed", tag = "embeddings", operation_id = "embed_texts",
    request_body = EmbedRequest,
    responses((status = 200, body = EmbedResponse),
        (status = 404, description = "There is no model of that name here, or none at all.", body = edge::Problem,
            content_type = "application/problem+json")))]
async fn embed(
    State(search): State<Arc<Search>>,
    Caller(scope): Caller,
    Body(request): Body<EmbedRequest>,
) -> ApiResult<Json<EmbedResponse>> {
    check_tenant(&scope, request.tenant_id.as_deref())?;
    request.items.iter().try_for_each(|item| check_tenant(&scope, item.tenant_id.as_deref()))?;
    let texts: Vec<String> = request.items.into_iter().map(|item| item.text).collect();
    check_texts(&texts, "items")?;
    let began = search.clock().elapsed();
    let (encoded, model) = search.embed(&scope, request.model.as_deref(), texts).await?;
    Ok(Json(EmbedResponse {
        model_version: model.version.clone(),
        count: encoded.len(),
        latency_ms: search.clock().elapsed().saturating_sub(began).as_secs_f64() * 1e3,
        truncated: truncated(&encoded),
        vectors: encoded.into_iter().map(|one| one.vector).collect(),
    }))
}

/// Embed texts, under the guide's other name: the answer is the same, and has the vectors.
#[utoipa::path(post, path = "/api/v1/embed/batch", tag = "embeddings", operation_id = "embed_batch",
    request_body = EmbedRequest,
    responses((status = 200, body = EmbedResponse),
        (status = 404, description = "There is no model of that name here, or none at all.", body = edge::Problem,
            content_type = "application/problem+json")))]
async fn embed_batch(
    search: State<Arc<Search>>,
    caller: Caller,
    body: Body<EmbedRequest>,
) -> ApiResult<Json<EmbedResponse>> {
    embed(search, caller, body).await
}

/// An encoder.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EmbeddingModel)]
pub struct ModelResponse {
    name: String,
    version: String,
    dimension: usize,
    /// Tokens of a text that it reads.
    max_length: usize,
}

/// List the encoders.
#[utoipa::path(get, path = "/api/v1/embed/models", tag = "embeddings", operation_id = "list_embedding_models",
    responses((status = 200, body = [ModelResponse])))]
async fn models(
    State(search): State<Arc<Search>>,
    Caller(scope): Caller,
) -> ApiResult<Json<Vec<ModelResponse>>> {
    scope.require(kernel::Permission::Read)?;
    let told = |model: &crate::encoder::ModelIdentity| ModelResponse {
        name: model.name.clone(),
        version: model.version.clone(),
        dimension: model.dimensions,
        max_length: model.tokens_max,
    };
    Ok(Json(search.models().map(told).collect()))
}
