//! Exports of gorse: users, items and feedback as JSON lines (`UserId`, `Labels`, ...) or as CSV (`user_id`,
//! `labels`, ...), and the rows that its binary dump shares with them.
//!
//! Labels become attributes: a list of texts is the attribute `labels`, an object is one attribute for each
//! key, with dots for keys within keys. Lists of numbers have no place in attributes and are reported. An
//! item's `Categories` and `Comment` become attributes; where `IsHidden`, it is never recommended, and its
//! `Timestamp` is when it became available.

use kernel::{Id, Result, Timestamp};
use serde_json::{Map, Value};

use super::assemble::{Defaults, Ids};
use super::cells::tags;
use super::fields::{Fields, shown};
use super::json_lines::parse_object;
use super::text_file::Decode;
use super::times::TimeUnit;
use super::{Fault, Parts, Row};
use crate::attributes::{AttributeValue, Attributes, check_attributes};

/// Every field of an export, in lower case and without `_`.
const KEYS: [&str; 13] = [
    "userid",
    "itemid",
    "feedbacktype",
    "value",
    "timestamp",
    "updated",
    "ishidden",
    "categories",
    "labels",
    "comment",
    "description",
    "subscribe",
    "namespace",
];
const MAX_LABEL_DEPTH: usize = 8;
// What Go prints for a time that was never set.
const GO_ZERO_SECONDS: i64 = -62_135_596_800;

/// What a file is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Users,
    Items,
    Feedback,
}

impl Kind {
    /// Tells it by the keys of an object or the columns of a header.
    pub(super) fn of(keys: &[&str]) -> Option<Self> {
        // A table with columns of its own is not an export of gorse, and would lose them here.
        if !keys.iter().all(|key| KEYS.contains(&plain(key).as_str())) {
            return None;
        }
        let has = |name: &str| keys.iter().any(|key| plain(key) == name);
        match (has("feedbacktype"), has("userid"), has("itemid")) {
            (true, true, true) => Some(Self::Feedback),
            (false, true, false) if has("labels") => Some(Self::Users),
            (false, false, true) if has("labels") || has("ishidden") || has("categories") => {
                Some(Self::Items)
            }
            _ => None,
        }
    }
}

fn plain(name: &str) -> String {
    name.chars().filter(|letter| *letter != '_').flat_map(char::to_lowercase).collect()
}

/// One record before it is a row; what a kind does not have stays empty.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) user_id: String,
    pub(super) item_id: String,
    pub(super) feedback_type: String,
    pub(super) value: Option<f64>,
    pub(super) timestamp: Option<Timestamp>,
    pub(super) is_hidden: bool,
    pub(super) categories: Vec<String>,
    pub(super) labels: Value,
    pub(super) comment: String,
}

/// Makes rows of records.
pub(super) struct Rows {
    defaults: Defaults,
    ids: Ids,
}

impl Rows {
    pub(super) fn new(defaults: Defaults) -> Self {
        Self { defaults, ids: Ids::new() }
    }

    /// Adds the row of `record`; it is added even where a label is left out and reported.
    pub(super) fn add(&mut self, kind: Kind, record: Record, rows: &mut Parts) -> Result<(), Fault> {
        let timestamp = record.timestamp.filter(|time| time.as_second() != GO_ZERO_SECONDS);
        if kind == Kind::Feedback {
            let mut metadata = Attributes::new();
            add_text(&mut metadata, "comment", record.comment);
            check_attributes(&metadata, "metadata")?;
            let row = Row::Interaction {
                user_id: self.id(&record.user_id, "UserId")?,
                entity_id: self.id(&record.item_id, "ItemId")?,
                entity_type: self.defaults.entity_type.clone(),
                interaction_type: self.id(&record.feedback_type, "FeedbackType")?,
                value: record.value,
                timestamp,
                metadata,
            };
            rows.push((0, row));
            return Ok(());
        }
        let mut attributes = Attributes::new();
        let left_out = add_labels(&mut attributes, "", &record.labels, 0);
        add_text(&mut attributes, "comment", record.comment);
        if !record.categories.is_empty() {
            attributes.insert("categories".to_owned(), AttributeValue::Tags(record.categories));
        }
        check_attributes(&attributes, "attributes")?;
        let row = if kind == Kind::Users {
            Row::User { user_id: self.id(&record.user_id, "UserId")?, attributes }
        } else {
            let entity_id = self.id(&record.item_id, "ItemId")?;
            let (hidden, entity_type) = (record.is_hidden, self.defaults.entity_type.clone());
            Row::Entity { entity_id, entity_type, attributes, hidden, available_from: timestamp }
        };
        rows.push((0, row));
        left_out
    }

    fn id(&mut self, text: &str, column: &str) -> Result<Id, Fault> {
        self.ids.get(text, column)
    }
}

fn add_text(attributes: &mut Attributes, name: &str, text: String) {
    if !text.is_empty() {
        attributes.insert(name.to_owned(), AttributeValue::Text(text));
    }
}

/// Adds what can be an attribute and reports the first that cannot.
fn add_labels(attributes: &mut Attributes, path: &str, labels: &Value, depth: usize) -> Result<(), Fault> {
    let name = if path.is_empty() { "labels" } else { path };
    let value = match labels {
        Value::Null => return Ok(()),
        Value::Bool(flag) => AttributeValue::Boolean(*flag),
        Value::Number(number) => AttributeValue::Number(number.as_f64().unwrap_or_default()),
        Value::String(text) => AttributeValue::Text(text.clone()),
        Value::Array(list) => {
            let texts: Option<Vec<String>> = list.iter().map(|tag| tag.as_str().map(str::to_owned)).collect();
            match texts {
                Some(texts) => AttributeValue::Tags(texts),
                None => return Err(Fault::new(name, "a list of anything but texts is left out")),
            }
        }
        Value::Object(_) if depth == MAX_LABEL_DEPTH => {
            return Err(Fault::new(name, format!("labels more than {MAX_LABEL_DEPTH} deep are left out")));
        }
        Value::Object(object) => {
            let mut result = Ok(());
            for (key, value) in object {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let added = add_labels(attributes, &path, value, depth + 1);
                result = result.and(added);
            }
            return result;
        }
    };
    attributes.insert(name.to_owned(), value);
    Ok(())
}

/// JSON lines; each line says by its keys what it is.
pub(super) struct Json {
    rows: Rows,
}

impl Json {
    pub(super) fn new(defaults: Defaults) -> Self {
        Self { rows: Rows::new(defaults) }
    }
}

impl Decode for Json {
    fn record(&mut self, fields: &Fields<'_>, _line: u64, rows: &mut Parts) -> Result<(), Fault> {
        let object = parse_object(fields.get(0).unwrap_or_default())?;
        let keys: Vec<&str> = object.keys().map(String::as_str).collect();
        let kind = Kind::of(&keys)
            .ok_or_else(|| Fault::line("its keys are those of no user, item or feedback of gorse"))?;
        self.rows.add(kind, json_record(object)?, rows)
    }
}

fn json_record(object: Map<String, Value>) -> Result<Record, Fault> {
    let mut record = Record::default();
    for (key, value) in object {
        if value.is_null() {
            continue;
        }
        match plain(&key).as_str() {
            "userid" => record.user_id = json_text(&key, value)?,
            "itemid" => record.item_id = json_text(&key, value)?,
            "feedbacktype" => record.feedback_type = json_text(&key, value)?,
            "comment" => record.comment = json_text(&key, value)?,
            "labels" => record.labels = value,
            "value" => {
                record.value = Some(value.as_f64().ok_or_else(|| Fault::new(&key, "it is not a number"))?);
            }
            "ishidden" => {
                record.is_hidden =
                    value.as_bool().ok_or_else(|| Fault::new(&key, "it is not true or false"))?;
            }
            "timestamp" => {
                let text = json_text(&key, value)?;
                record.timestamp = read_time(&key, &text)?;
            }
            "categories" => {
                record.categories = serde_json::from_value(value)
                    .map_err(|_| Fault::new(key.as_str(), "it is not a list of texts"))?;
            }
            _ => {}
        }
    }
    Ok(record)
}

fn json_text(key: &str, value: Value) -> Result<String, Fault> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(Fault::new(key, format!("{} is not a text", shown(&other.to_string())))),
    }
}

fn read_time(column: &str, text: &str) -> Result<Option<Timestamp>, Fault> {
    if text.is_empty() {
        return Ok(None);
    }
    TimeUnit::Auto.read(text).map(Some).map_err(|reason| Fault::new(column, reason))
}

/// CSV with a header.
pub(super) struct Csv {
    rows: Rows,
    columns: Vec<String>,
    kind: Option<Kind>,
}

impl Csv {
    pub(super) fn new(defaults: Defaults) -> Self {
        Self { rows: Rows::new(defaults), columns: Vec::new(), kind: None }
    }
}

impl Decode for Csv {
    fn header(&mut self, columns: &[&str]) -> Result<()> {
        self.kind = Kind::of(columns);
        self.columns = columns.iter().map(|column| plain(column)).collect();
        if self.kind.is_none() {
            return Err(super::mapping::fault("the header is that of no user, item or feedback of gorse"));
        }
        Ok(())
    }

    fn record(&mut self, fields: &Fields<'_>, _line: u64, rows: &mut Parts) -> Result<(), Fault> {
        let Some(kind) = self.kind else { return Ok(()) };
        let mut record = Record::default();
        for (column, text) in self.columns.iter().zip(fields.iter()) {
            match column.as_str() {
                "userid" => text.clone_into(&mut record.user_id),
                "itemid" => text.clone_into(&mut record.item_id),
                "feedbacktype" => text.clone_into(&mut record.feedback_type),
                "description" | "comment" => text.clone_into(&mut record.comment),
                "timestamp" => record.timestamp = read_time("time_stamp", text)?,
                "ishidden" => record.is_hidden = text == "true",
                "categories" => record.categories = tags(text, '|'),
                "labels" => record.labels = csv_labels(text),
                "value" if !text.is_empty() => {
                    let value = text.parse().ok().filter(|value: &f64| value.is_finite());
                    let fault = || Fault::new("value", format!("{} is not a finite number", shown(text)));
                    record.value = Some(value.ok_or_else(fault)?);
                }
                _ => {}
            }
        }
        self.rows.add(kind, record, rows)
    }
}

/// JSON in newer exports, words between bars in older ones.
pub(super) fn csv_labels(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value @ (Value::Object(_) | Value::Array(_) | Value::Null)) => value,
        _ if text.is_empty() => Value::Null,
        _ => tags(text, '|').into(),
    }
}
