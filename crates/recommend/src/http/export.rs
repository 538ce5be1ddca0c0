//! `/api/v1/export/{entities,interactions,users}`: everything, as a stream, without a limit.
//!
//! Rows are read in small pieces while they are sent, so that an export of any size needs little memory and
//! holds no lock for long. An export that fails half-way breaks the connection off, so that no one takes a part
//! for the whole. A tenant may have so many at once (see [`edge::AnswerStream`]).

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use edge::extract::time;
use edge::{AnswerStream, ApiResult, Caller, Params};
use futures::{Stream, stream};
use kernel::{Error, Permission, Result, Scope, Timestamp, codes};
use serde::{Deserialize, Serialize};
use store::ReadLimit;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::entities::EntityResponse;
use super::interactions::InteractionResponse;
use super::whole_log::WholeLog;
use super::{HttpState, check_tenant, timestamp};
use crate::attributes::{AttributeValue, Attributes};
use crate::events::kinds;
use crate::views::Place;

/// Entities or users taken under one hold of the view's lock.
const ROWS_PER_HOLD: usize = 500;

pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::new().routes(routes!(entities)).routes(routes!(interactions)).routes(routes!(users))
}

/// How rows are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One array.
    #[default]
    Json,
    /// An object a line.
    Ndjson,
    /// RFC 4180 with a header; attributes and metadata as JSON text.
    Csv,
}

/// Which entities.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EntityParams {
    /// How rows are written.
    #[serde(default)]
    #[param(inline, example = "json")]
    format: Format,
    /// Only of this type.
    #[param(example = "film")]
    entity_type: Option<String>,
    /// Only those changed later.
    #[serde(default, deserialize_with = "time")]
    #[param(value_type = Option<String>, format = DateTime)]
    last_modified_after: Option<Timestamp>,
    /// Must be the credential's tenant where given.
    tenant_id: Option<String>,
}

/// Which interactions.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct InteractionParams {
    /// How rows are written.
    #[serde(default)]
    #[param(inline, example = "json")]
    format: Format,
    /// Not earlier.
    #[serde(default, deserialize_with = "time")]
    #[param(value_type = Option<String>, format = DateTime)]
    start_date: Option<Timestamp>,
    /// Earlier than.
    #[serde(default, deserialize_with = "time")]
    #[param(value_type = Option<String>, format = DateTime)]
    end_date: Option<Timestamp>,
    /// Must be the credential's tenant where given.
    tenant_id: Option<String>,
}

/// How users are written.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UserParams {
    /// How rows are written.
    #[serde(default)]
    #[param(inline, example = "json")]
    format: Format,
    /// Must be the credential's tenant where given.
    tenant_id: Option<String>,
}

/// A user in an export.
#[derive(Debug, Serialize, ToSchema)]
pub struct UserRow {
    user_id: String,
    #[schema(value_type = std::collections::HashMap<String, AttributeValue>)]
    attributes: Attributes,
    interactions: usize,
    tenant_id: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

/// Export the catalogue.
#[utoipa::path(get, path = "/api/v1/export/entities", tag = "export", operation_id = "export_entities",
    params(EntityParams),
    responses((status = 200, content((Vec<EntityResponse> = "application/json"), (String = "application/x-ndjson"),
        (String = "text/csv")))))]
async fn entities(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Params(params): Params<EntityParams>,
    answer: AnswerStream,
) -> ApiResult<Response> {
    scope.require(Permission::Read)?;
    check_tenant(&scope, params.tenant_id.as_deref())?;
    let after_ms = params.last_modified_after.map(Timestamp::as_millisecond);
    let pieces = stream::unfold(0, move |start| {
        let piece = {
            let view = state.views.of(&scope);
            let view = view.read();
            let all = view.entities.all();
            let piece = all.get(start..).unwrap_or_default().iter().take(ROWS_PER_HOLD);
            let kept = piece.clone().filter(|entity| {
                entity.exists()
                    && after_ms.is_none_or(|after| entity.updated_at_ms > after)
                    && params.entity_type.as_ref().is_none_or(|kind| view.entities.type_of(entity) == kind)
            });
            let rows =
                kept.map(|entity| EntityResponse::of(&scope, &view.entities, entity)).collect::<Vec<_>>();
            (piece.len() > 0).then_some((Ok(rows), start + ROWS_PER_HOLD))
        };
        std::future::ready(piece)
    });
    Ok(respond(answer, "entities", params.format, pieces))
}

/// Export the users.
#[utoipa::path(get, path = "/api/v1/export/users", tag = "export", operation_id = "export_users",
    params(UserParams),
    responses((status = 200, content((Vec<UserRow> = "application/json"), (String = "application/x-ndjson"),
        (String = "text/csv")))))]
async fn users(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Params(params): Params<UserParams>,
    answer: AnswerStream,
) -> ApiResult<Response> {
    scope.require(Permission::Read)?;
    check_tenant(&scope, params.tenant_id.as_deref())?;
    let pieces = stream::unfold(0, move |start| {
        let piece = {
            let view = state.views.of(&scope);
            let view = view.read();
            let piece = view.users.all().get(start..).unwrap_or_default().iter().take(ROWS_PER_HOLD);
            let row = |user: &crate::views::User| UserRow {
                user_id: user.id.to_string(),
                attributes: user.attributes.clone(),
                interactions: user.history.len(),
                tenant_id: scope.tenant().to_string(),
                created_at: timestamp(user.created_at_ms),
            };
            let rows = piece.clone().filter(|user| !user.forgotten).map(row).collect::<Vec<_>>();
            (piece.len() > 0).then_some((Ok(rows), start + ROWS_PER_HOLD))
        };
        std::future::ready(piece)
    });
    Ok(respond(answer, "users", params.format, pieces))
}

/// Export the interactions, in the order they arrived.
#[utoipa::path(get, path = "/api/v1/export/interactions", tag = "export", operation_id = "export_interactions",
    params(InteractionParams),
    responses((status = 200, content((Vec<InteractionResponse> = "application/json"),
        (String = "application/x-ndjson"),
        (String = "text/csv")))))]
async fn interactions(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Params(params): Params<InteractionParams>,
    answer: AnswerStream,
) -> ApiResult<Response> {
    scope.require(Permission::Read)?;
    check_tenant(&scope, params.tenant_id.as_deref())?;
    if let (Some(start), Some(end)) = (params.start_date, params.end_date)
        && end < start
    {
        let message = format!("`{end}` must not be before `start_date`, which is `{start}`");
        return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("end_date").into());
    }
    let format = params.format;
    let log = Arc::clone(&state.log);
    let whole = WholeLog::begin(log, edge::ingest::EVENTS, ReadLimit::default()).await?;
    let reader = Arc::new((state, scope, params));
    let pieces = stream::try_unfold((whole, reader), |(mut whole, reader)| async move {
        let Some(events) = whole.next().await? else { return Ok(None) };
        let rows = interaction_rows(&reader, events)?;
        Ok(Some((rows, (whole, reader))))
    });
    Ok(respond(answer, "interactions", format, pieces))
}

fn interaction_rows(
    reader: &(HttpState, Scope, InteractionParams),
    events: Vec<(Place, kernel::Event)>,
) -> Result<Vec<InteractionResponse>> {
    let (state, scope, params) = reader;
    let view = state.views.of(scope);
    let view = view.read();
    let wanted = events.into_iter().filter(|(place, event)| {
        event.kind == kinds::INTERACTION_RECORDED
            && event.tenant == *scope.tenant()
            && params.start_date.is_none_or(|start| start <= event.time)
            && params.end_date.is_none_or(|end| event.time < end)
            && view.counts(event, *place)
    });
    wanted.map(|(_, event)| InteractionResponse::of(&view, event)).collect()
}

/// The columns of a CSV export, whether or not a row has a value for each.
trait Columns: Serialize + Send + 'static {
    const COLUMNS: &'static [&'static str];
}

impl Columns for EntityResponse {
    const COLUMNS: &'static [&'static str] = &[
        "entity_id",
        "entity_type",
        "attributes",
        "hidden",
        "available_from",
        "available_until",
        "tenant_id",
        "created_at",
        "updated_at",
    ];
}

impl Columns for InteractionResponse {
    const COLUMNS: &'static [&'static str] = &[
        "id",
        "user_id",
        "entity_id",
        "entity_type",
        "interaction_type",
        "weight",
        "answer_id",
        "metadata",
        "tenant_id",
        "timestamp",
    ];
}

impl Columns for UserRow {
    const COLUMNS: &'static [&'static str] =
        &["user_id", "attributes", "interactions", "tenant_id", "created_at"];
}

fn respond<R: Columns>(
    answer: AnswerStream,
    name: &str,
    format: Format,
    pieces: impl Stream<Item = Result<Vec<R>>> + Send + 'static,
) -> Response {
    let (media_type, ending) = match format {
        Format::Json => ("application/json", "json"),
        Format::Ndjson => ("application/x-ndjson", "ndjson"),
        Format::Csv => ("text/csv; charset=utf-8", "csv"),
    };
    let headers = [
        (header::CONTENT_TYPE, media_type.to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}.{ending}\"")),
    ];
    (headers, answer.body(written(format, pieces))).into_response()
}

/// The rows as text, piece by piece, with what begins and ends the whole.
fn written<R: Columns>(
    format: Format,
    pieces: impl Stream<Item = Result<Vec<R>>> + Send + 'static,
) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
    enum Step<S> {
        Rows(std::pin::Pin<Box<S>>, bool),
        End,
    }
    let start = Step::Rows(Box::pin(pieces), true);
    stream::try_unfold(start, move |step| async move {
        use futures::StreamExt;
        let Step::Rows(mut pieces, first) = step else { return Ok(None) };
        let Some(rows) = pieces.next().await else {
            let end = match (format, first) {
                (Format::Json, true) => "[]".to_owned(),
                (Format::Json, false) => "\n]\n".to_owned(),
                (Format::Csv, true) => format!("{}\n", R::COLUMNS.join(",")),
                _ => String::new(),
            };
            return Ok(Some((Bytes::from(end), Step::End)));
        };
        let rows = rows?;
        let text = write_rows(format, &rows, first)?;
        let first = first && rows.is_empty();
        Ok(Some((Bytes::from(text), Step::Rows(pieces, first))))
    })
}

fn write_rows<R: Columns>(format: Format, rows: &[R], first: bool) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let head = first && index == 0;
        match format {
            Format::Json => {
                text.extend_from_slice(if head { b"[\n" } else { b",\n" });
                serde_json::to_writer(&mut text, row).map_err(Error::internal)?;
            }
            Format::Ndjson => {
                serde_json::to_writer(&mut text, row).map_err(Error::internal)?;
                text.push(b'\n');
            }
            Format::Csv => write_csv(&mut text, row, head)?,
        }
    }
    Ok(text)
}

/// A row of an object's fields. What is not a plain value is written as JSON text.
fn write_csv<R: Columns>(text: &mut Vec<u8>, row: &R, head: bool) -> Result<()> {
    let value = serde_json::to_value(row).map_err(Error::internal)?;
    let mut writer = csv::Writer::from_writer(text);
    if head {
        writer.write_record(R::COLUMNS).map_err(Error::internal)?;
    }
    let cell = |column: &&str| match value.get(*column) {
        None | Some(serde_json::Value::Null) => String::new(),
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    writer.write_record(R::COLUMNS.iter().map(cell)).map_err(Error::internal)?;
    writer.flush().map_err(Error::internal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernel::codes;

    #[tokio::test]
    async fn an_export_that_fails_half_way_does_not_end_well() {
        let row = || UserRow {
            user_id: "ada".to_owned(),
            attributes: Attributes::default(),
            interactions: 1,
            tenant_id: "shop".to_owned(),
            created_at: Timestamp::UNIX_EPOCH,
        };
        for format in [Format::Json, Format::Ndjson, Format::Csv] {
            let check = async |pieces: Vec<Result<Vec<UserRow>>>, whole: bool| {
                let body =
                    respond(AnswerStream::default(), "users", format, stream::iter(pieces)).into_body();
                assert_eq!(axum::body::to_bytes(body, usize::MAX).await.is_ok(), whole, "{format:?}");
            };
            check(vec![Ok(vec![row()]), Ok(vec![row()])], true).await;
            check(vec![Ok(vec![row()]), Err(Error::new(codes::CORRUPTED, "a hole"))], false).await;
        }
    }
}
