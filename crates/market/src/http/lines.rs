//! Lists that are answered as lines of JSON or as CSV: the names of its fields are the header, and a time and a number stand there as
//! they stand in JSON.

use axum::Json;
use axum::http::header;
use axum::response::{AppendHeaders, IntoResponse, Response};
use kernel::{Error, Result, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The header of answers that are not JSON: where the next page begins.
const NEXT_FROM: &str = "next-from";

/// How bars are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = BarFormat)]
pub(super) enum Format {
    /// One object.
    #[default]
    Json,
    /// An object a line.
    Ndjson,
    /// RFC 4180 with a header.
    Csv,
}

impl Format {
    /// Lines in this form. `header` names their fields in their order; `whole` is the object that has them, and the rest.
    pub(super) fn answer<L: Serialize, W: Serialize>(
        self,
        header: &[&str],
        lines: Vec<L>,
        next_from: Option<Timestamp>,
        whole: impl FnOnce(Vec<L>) -> W,
    ) -> Result<Response> {
        let (kind, text) = match self {
            Self::Json => return Ok(Json(whole(lines)).into_response()),
            Self::Ndjson => ("application/x-ndjson", ndjson(&lines)?),
            Self::Csv => ("text/csv; charset=utf-8", csv(header, &lines)?),
        };
        let told = next_from.map(|time| AppendHeaders([(NEXT_FROM, time.to_string())]));
        Ok((told, [(header::CONTENT_TYPE, kind)], text).into_response())
    }
}

/// An object a line.
fn ndjson<T: Serialize>(lines: &[T]) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut text, line).map_err(Error::internal)?;
        text.push(b'\n');
    }
    Ok(text)
}

/// RFC 4180 with a header, also where there are no lines. `header` names the fields in their order.
fn csv<T: Serialize>(header: &[&str], lines: &[T]) -> Result<Vec<u8>> {
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    writer.write_record(header).map_err(Error::internal)?;
    for line in lines {
        writer.serialize(line).map_err(Error::internal)?;
    }
    writer.into_inner().map_err(|fault| Error::internal(fault.into_error()))
}
