//! What a record holds at one place, whatever the file, and how it becomes a number, a time or an attribute.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::Fault;
use super::fields::shown;
use super::mapping::Form;
use super::times::TimeUnit;
use crate::attributes::{AttributeValue, Attributes, deserialize_attributes};

/// What one place of a record holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cell<'a> {
    Missing,
    Text(&'a str),
    Json(&'a Value),
    Number(u64),
}

impl Cell<'_> {
    /// The same with a text in JSON as a text, for where it makes no difference.
    pub(super) fn plain(self) -> Self {
        match self {
            Cell::Json(Value::String(text)) => Cell::Text(text),
            other => other,
        }
    }
}

/// A record as the assembler sees it.
pub(super) trait Cells {
    fn column(&self, name: &str) -> Cell<'_>;
    fn place(&self, place: usize) -> Cell<'_>;
    fn line(&self) -> u64;
    /// Calls back with every cell that is not named in `used`. Records whose columns are known beforehand do
    /// nothing, as their rest is known beforehand too.
    fn rest(&self, used: &[String], each: &mut dyn FnMut(&str, Cell<'_>));
}

/// Reads a number; nothing where the cell is empty.
pub(super) fn number(cell: Cell<'_>, column: &str) -> Result<Option<f64>, Fault> {
    let (number, text) = match cell.plain() {
        Cell::Missing => return Ok(None),
        Cell::Number(number) => return Ok(Some(number as f64)),
        Cell::Text(text) => (text.trim().parse().ok(), Cow::Borrowed(text)),
        Cell::Json(value) => (value.as_f64(), Cow::Owned(value.to_string())),
    };
    match number {
        Some(number) if number.is_finite() => Ok(Some(number)),
        _ => Err(Form::Number.fault(column, &text)),
    }
}

/// Reads a time; nothing where the cell is empty.
pub(super) fn time(cell: Cell<'_>, unit: TimeUnit) -> Result<Option<kernel::Timestamp>, Fault> {
    let read = match cell.plain() {
        Cell::Missing => return Ok(None),
        Cell::Number(number) => unit.of_number(number as f64),
        Cell::Text(text) => unit.read(text),
        Cell::Json(Value::Number(number)) => unit.read(&number.to_string()),
        Cell::Json(value) => Err(format!("{} is not a time", shown(&value.to_string()))),
    };
    read.map(Some).map_err(|reason| Fault::new("timestamp", reason))
}

/// Reads attributes from a JSON object; none where the cell is empty.
pub(super) fn object(cell: Cell<'_>, column: &str) -> Result<Attributes, Fault> {
    let read = match cell {
        Cell::Missing => return Ok(Attributes::new()),
        Cell::Json(value) => tracked(value),
        Cell::Text(text) => {
            let mut reader = serde_json::Deserializer::from_str(text);
            tracked(&mut reader).and_then(|found| match reader.end() {
                Ok(()) => Ok(found),
                Err(cause) => Err(cause.to_string()),
            })
        }
        Cell::Number(_) => return Err(Fault::new(column, "it is not a JSON object")),
    };
    read.map_err(|cause| Fault::new(column, cause))
}

/// Reads attributes; a fault begins with the name of the attribute.
fn tracked<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Attributes, String> {
    let mut track = serde_path_to_error::Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(deserializer, &mut track);
    deserialize_attributes(deserializer).map_err(|cause| match track.path().to_string().as_str() {
        "." => cause.to_string(),
        name => format!("{name}: {cause}"),
    })
}

/// Reads one attribute; nothing where the cell is empty.
pub(super) fn attribute(cell: Cell<'_>, form: Form, name: &str) -> Result<Option<AttributeValue>, Fault> {
    let text = match (&cell, form) {
        (Cell::Missing, _) => return Ok(None),
        (Cell::Number(number), _) => return Ok(Some(AttributeValue::Number(*number as f64))),
        (Cell::Json(Value::String(text)), form) if form != Form::Auto => text.as_str(),
        (Cell::Json(value), _) => {
            return AttributeValue::deserialize(*value)
                .map(Some)
                .map_err(|cause| Fault::new(name, cause.to_string()));
        }
        (Cell::Text(text), _) => text,
    };
    if text.is_empty() {
        return Ok(None);
    }
    Ok(Some(match form {
        Form::Number => AttributeValue::Number(
            text.trim()
                .parse()
                .ok()
                .filter(|number: &f64| number.is_finite())
                .ok_or_else(|| form.fault(name, text))?,
        ),
        Form::Boolean => AttributeValue::Boolean(boolean(text.trim()).ok_or_else(|| form.fault(name, text))?),
        Form::Text => AttributeValue::Text(text.to_owned()),
        Form::Tags(separator) => AttributeValue::Tags(tags(text, separator)),
        Form::Auto => guessed(text),
    }))
}

/// The parts of `text` that are not empty.
pub(super) fn tags(text: &str, separator: char) -> Vec<String> {
    text.split(separator).map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned).collect()
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "1" => Some(true),
        "false" | "f" | "no" | "n" | "0" => Some(false),
        _ => None,
    }
}

fn guessed(text: &str) -> AttributeValue {
    match text {
        "true" | "True" | "TRUE" => return AttributeValue::Boolean(true),
        "false" | "False" | "FALSE" => return AttributeValue::Boolean(false),
        _ => {}
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    // `007` is a code, and `inf` and `nan` are words.
    let is_code = digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.");
    if digits.starts_with(|first: char| first.is_ascii_digit() || first == '.')
        && !is_code
        && let Ok(number) = text.parse::<f64>()
        && number.is_finite()
    {
        return AttributeValue::Number(number);
    }
    AttributeValue::Text(text.to_owned())
}
