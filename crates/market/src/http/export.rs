//! `GET /api/v1/market/export/{table}`: prices, quotes and bars of a range, all of them, as lines of JSON, CSV, Parquet or
//! Arrow.
//!
//! An export that fails half-way breaks the connection off, so that no one takes a part for the whole; a Parquet file
//! without its end is none. A tenant may have so many at once (see [`edge::AnswerStream`]).
//!
//! To add a format: its name in [`Format`], what writes it beside `text`, `parquet` and `arrow`.

mod arrow;
mod batches;
mod parquet;
#[cfg(test)]
mod tests;
mod text;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use edge::extract::time;
use edge::{AnswerStream, ApiResult, Caller, Params, Path};
use kernel::{Error, Result, Timestamp, codes};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{HttpState, earliest, latest};
use crate::service::export::ExportTable;

const MOST_INSTRUMENTS: usize = 200;

pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::new().routes(routes!(get))
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = MarketExportFormat)]
pub enum Format {
    /// An object a line.
    Ndjson,
    /// RFC 4180 with a header.
    Csv,
    /// Parquet, with times in microseconds of UTC.
    Parquet,
    /// Apache Arrow's streaming format, uncompressed, with times in microseconds of UTC.
    Arrow,
}

impl Format {
    const ALL: [Self; 4] = [Self::Ndjson, Self::Csv, Self::Parquet, Self::Arrow];

    fn media_type(self) -> &'static str {
        match self {
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv",
            Self::Parquet => "application/vnd.apache.parquet",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }

    fn ending(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
            Self::Arrow => "arrows",
        }
    }

    /// The first that the caller takes; lines of JSON for who takes anything.
    fn accepted(headers: &HeaderMap) -> Result<Self> {
        let mut is_asked = false;
        for value in headers.get_all(header::ACCEPT) {
            for range in value.to_str().unwrap_or_default().split(',') {
                is_asked = true;
                let kind = range.split(';').next().unwrap_or_default().trim();
                if matches!(kind, "*/*" | "application/*") {
                    return Ok(Self::Ndjson);
                }
                let is_named = |format: &&Self| kind.eq_ignore_ascii_case(format.media_type());
                if let Some(format) = Self::ALL.iter().find(is_named) {
                    return Ok(*format);
                }
            }
        }
        if !is_asked {
            return Ok(Self::Ndjson);
        }
        let names = Self::ALL.map(Self::media_type).join(", ");
        let message = format!("has none of {names}; send one of them, or the parameter `format`");
        Err(Error::new(codes::VALIDATION_ERROR, message).with_field("accept"))
    }
}

/// Which rows.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ExportParams {
    /// The ids of instruments, with commas between, 200 at most; all of them where missing.
    #[param(example = "MISO_INDIANA_HUB")]
    symbols: Option<String>,
    /// From then on; the earliest where missing.
    #[serde(default, deserialize_with = "time")]
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// Before this; the newest where missing.
    #[serde(default, deserialize_with = "time")]
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<Timestamp>,
    /// How rows are written; counts before the header `Accept`.
    #[param(inline, example = "ndjson")]
    format: Option<Format>,
}

/// Export prices, quotes or bars.
///
/// Of one instrument after another, oldest first, each row in its newest revision. Bars that were not told yet are left out.
#[utoipa::path(get, path = "/api/v1/market/export/{table}", tag = "market", operation_id = "export_market_rows",
    params(("table" = String, Path, description = "`prices`, `quotes`, `bars_5m`, `bars_1h` or `bars_1d`.", example = "prices"),
        ExportParams),
    responses((status = 200, content((String = "application/x-ndjson"), (String = "text/csv"),
        (String = "application/vnd.apache.parquet"), (String = "application/vnd.apache.arrow.stream")))))]
async fn get(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Path(table): Path<String>,
    Params(params): Params<ExportParams>,
    headers: HeaderMap,
    answer: AnswerStream,
) -> ApiResult<Response> {
    let format = params.format.map_or_else(|| Format::accepted(&headers), Ok)?;
    let table = ExportTable::named(&table)?;
    let names = params.symbols.as_deref().unwrap_or_default().split(',').map(str::trim);
    let instruments: std::collections::BTreeSet<String> =
        names.filter(|name| !name.is_empty()).map(str::to_owned).collect();
    if instruments.len() > MOST_INSTRUMENTS {
        let message = format!("are {MOST_INSTRUMENTS} at most; leave them out, or ask more than once");
        return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("symbols").into());
    }
    let range = (params.from.unwrap_or_else(earliest), params.to.unwrap_or_else(latest));
    let export = state.service.export(&scope, table, instruments, range)?;
    let body = match format {
        Format::Ndjson | Format::Csv => answer.body(text::pieces(export, format)),
        Format::Parquet => answer.body(parquet::pieces(export)?),
        Format::Arrow => answer.body(arrow::pieces(export)?),
    };
    let file = format!("attachment; filename=\"{}.{}\"", table.name, format.ending());
    let headers = [
        (header::CONTENT_TYPE, format.media_type().to_owned()),
        (header::CONTENT_DISPOSITION, file),
        (header::VARY, "accept".to_owned()),
    ];
    Ok((headers, body).into_response())
}
