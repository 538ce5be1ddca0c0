//! JSON text to values, with faults that name the field by its path: `attributes.year`, `items[1].value`.
//!
//! Refuses nothing by itself: what a field may hold is the business of its type.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Whole numbers of one text that may be written with a point.
const WHOLE_MAX: usize = 100;
/// As much text is read again for them: one at a time, from the beginning.
const WHOLE_BYTES_MAX: usize = 8 << 20;

/// Why JSON text is not what was asked for.
#[derive(Debug)]
pub struct Fault {
    /// The path of the field; none where it is the whole.
    pub field: Option<String>,
    /// What is wrong, with the place in the text.
    pub message: String,
    /// Whether the text is JSON, but not that of such a value.
    pub is_data: bool,
}

impl Fault {
    /// The message without the place in the text, for a text that the caller did not send by itself.
    #[must_use]
    pub fn message_without_place(&self) -> &str {
        self.message.rfind(" at line ").map_or(&self.message, |end| &self.message[..end])
    }
}

/// Reads all of `text`. Only a text with a fault is read a second time, to find the field.
///
/// # Errors
/// The first fault.
pub fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Fault> {
    serde_json::from_str(text).map_err(|cause| fault::<T>(text, &cause))
}

/// What is wrong, with the field, which reading with its path finds.
fn fault<'a, T: Deserialize<'a>>(text: &'a str, cause: &serde_json::Error) -> Fault {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let path = match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        Err(fault) => fault.path().to_string(),
        Ok(_) => ".".to_owned(),
    };
    let message = cause.to_string();
    Fault { field: field(&path, &message), message: in_words(&message), is_data: cause.is_data() }
}

/// As [`read`], and takes `30.0` for a whole number, as JSON Schema does and some clients write it: up to 100 times, fewer in a
/// text of more than 80 KiB.
///
/// # Errors
/// The first fault that is not of this kind.
pub fn read_lenient<T: DeserializeOwned>(text: &str) -> Result<T, Fault> {
    let mut left = WHOLE_MAX.min(WHOLE_BYTES_MAX / text.len().max(1)).max(1);
    let mut text = Cow::Borrowed(text);
    loop {
        let cause = match serde_json::from_str(&text) {
            Ok(value) => return Ok(value),
            Err(cause) => cause,
        };
        let Some(mended) = whole_at(&text, &cause).filter(|_| left > 0) else {
            return Err(fault::<T>(&text, &cause));
        };
        text = Cow::Owned(mended);
        left -= 1;
    }
}

/// The text with a whole number where the one is that a fault is of. Blanks stand for what is left out, so that the places of
/// other faults stay.
fn whole_at(text: &str, cause: &serde_json::Error) -> Option<String> {
    let message = in_words(&cause.to_string());
    let is_of_whole =
        message.starts_with("invalid type: floating point") && message.contains("expected a whole number");
    if !cause.is_data() || !is_of_whole {
        return None;
    }
    let before: usize = text.split_inclusive('\n').take(cause.line().checked_sub(1)?).map(str::len).sum();
    let end = before + cause.column();
    let known = text.get(..end)?;
    let whole = known.trim_end_matches('0').strip_suffix('.')?;
    let is_ended =
        !text[end..].starts_with(|next: char| next.is_ascii_alphanumeric() || matches!(next, '.' | '"'));
    let has_zeros = whole.len() + 1 < end;
    (is_ended && has_zeros && whole.ends_with(|last: char| last.is_ascii_digit()))
        .then(|| format!("{whole}{}{}", " ".repeat(end - whole.len()), &text[end..]))
}

/// A message of serde without the names that types have in the code.
#[must_use]
pub fn in_words(message: &str) -> String {
    let Some((begin, expected)) = message.split_once("expected ") else { return message.to_owned() };
    let (kind, rest) = expected.find(" at line ").map_or((expected, ""), |end| expected.split_at(end));
    let words = match kind {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number that is not negative",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a JSON object",
        kind if kind.starts_with("struct ") => "a JSON object",
        kind => kind,
    };
    format!("{begin}expected {words}{rest}")
}

/// The path of the field that a message of serde is about: that of the object where a field is missing in it or is
/// given twice, and so its name is added.
#[must_use]
pub fn field(path: &str, message: &str) -> Option<String> {
    // Where the text ends being JSON, the path ends in `?`: no field has that name.
    let path = path.strip_suffix('?').map_or(path, |path| path.trim_end_matches('.'));
    let parent = (path != "." && !path.is_empty()).then_some(path);
    let named = ["missing field `", "duplicate field `"].iter().find_map(|begin| message.strip_prefix(begin));
    match (parent, named.and_then(|rest| rest.split('`').next())) {
        (None, name) => name.map(str::to_owned),
        (Some(parent), Some(name)) if parent != name && !parent.ends_with(&format!(".{name}")) => {
            Some(format!("{parent}.{name}"))
        }
        (Some(parent), _) => Some(parent.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its shape is tested")]
    struct Shape {
        name: String,
        inner: Option<Box<Shape>>,
        #[serde(default)]
        list: Vec<u8>,
    }

    #[test]
    fn whole_numbers_may_have_a_point() {
        #[derive(Debug, Default, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        struct Asked {
            days: u32,
            more: Vec<i64>,
            name: String,
            other: serde_json::Value,
        }
        let text =
            "{\"other\": {\"w\": 5.0, \"é\": \"1.0\"},\n \"days\":30.0, \"more\":[1.00,-2.0 ,3 ,4.0\n]}";
        let asked: Asked = read_lenient(text).unwrap();
        assert_eq!((asked.days, asked.more), (30, vec![1, -2, 3, 4]));
        assert_eq!(asked.other["w"].to_string(), "5.0", "what may have a point keeps it");
        let many = format!("{{\"more\":[{}]}}", vec!["1.0"; WHOLE_MAX + 1].join(","));
        for (text, field, part) in [
            (r#"{"days":1.5}"#, "days", "floating point `1.5`"),
            (r#"{"days":"1.0"}"#, "days", "string"),
            (r#"{"days":-1.0}"#, "days", "integer `-1`"),
            (r#"{"name":5.0}"#, "name", "floating point `5.0`, expected a string at line 1 column 11"),
            (r#"{"days":1e0}"#, "days", "floating point"),
            (r#"{"days":30.0,"days":1}"#, "days", "duplicate"),
            (r#"{"days":30.0,"more":[.0]}"#, "more[0]", "expected value at line 1 column 22"),
            (r#"{"days":30.0,"more":[1.5]}"#, "more[0]", "column 24"),
            (many.as_str(), "more[100]", "floating point"),
        ] {
            let fault = read_lenient::<Asked>(text).unwrap_err();
            assert!(
                fault.field.as_deref() == Some(field) && fault.message.contains(part),
                "{text}: {fault:?}"
            );
        }
        let long = format!(r#"{{"name":"{}","more":[1.0,2.0]}}"#, "x".repeat(WHOLE_BYTES_MAX));
        let fault = read_lenient::<Asked>(&long).unwrap_err();
        assert_eq!(fault.field.as_deref(), Some("more[1]"), "one is mended, whatever the length");
    }

    #[test]
    fn faults_name_the_field() {
        let check = |text: &str, field: Option<&str>, is_data: bool| {
            let fault = read::<Shape>(text).unwrap_err();
            assert_eq!((fault.field.as_deref(), fault.is_data), (field, is_data), "{text}: {fault:?}");
        };
        check("{}", Some("name"), true);
        check(r#"{"name":1}"#, Some("name"), true);
        check(r#"{"name":"a","name":"b"}"#, Some("name"), true);
        check(r#"{"name":"a","inner":{}}"#, Some("inner.name"), true);
        check(r#"{"name":"a","inner":{"name":"b","name":"c"}}"#, Some("inner.name"), true);
        check(r#"{"name":"a","list":[1,256]}"#, Some("list[1]"), true);
        check(r#"{"name":"a","colour":1}"#, Some("colour"), true);
        check("7", None, true);
        check("", None, false);
        check("{broken", None, false);
        check(r#"{"name":"a","inner":{broken"#, Some("inner"), false);
        assert_eq!(read::<Shape>("{}").unwrap_err().message_without_place(), "missing field `name`");
        let fault = read::<Shape>("7").unwrap_err();
        assert_eq!(fault.message, "invalid type: integer `7`, expected a JSON object at line 1 column 1");
    }
}
