//! Names the field at which JSON stopped being JSON.
//!
//! Many producers write `NaN` and `Infinity` bare, which JSON does not have: the parser only knows the column, an
//! operator wants the field. This runs for broken messages alone, so it may read the text again.

use super::rejection::{Rejection, RejectionCode};

/// The rejection for a fault that the parser found at `offset`, where it knows one.
pub(super) fn explain(text: &str, fault: &serde_json::Error) -> Rejection {
    let offset = offset_of(text, fault.line(), fault.column());
    let (field, value) = last_field(&text[..offset], text);
    // The words stand in front of the place: `line 1 column 5` is of no use to who reads a field name.
    let said = fault.to_string();
    let said = said.split(" at line ").next().unwrap_or_default().to_owned();
    let is_word = ["NaN", "nan", "Infinity", "-Infinity", "inf", "-inf"]
        .iter()
        .any(|word| value.strip_prefix(word).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric)));
    if is_word || said == "number out of range" {
        return Rejection::new(
            RejectionCode::NotFinite,
            field,
            "is not a finite number; leave it out or mend it",
        );
    }
    Rejection::new(RejectionCode::Malformed, field, said)
}

/// The byte of a place that is told as a line and a column, both from 1.
fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let begin: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let mut offset = (begin + column).min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// The last name before the place, and the text of its value from its first character.
fn last_field<'a>(before: &str, text: &'a str) -> (String, &'a str) {
    let mut found = (String::new(), "");
    let mut open = None;
    let mut escaped = false;
    let mut last_string = None;
    for (place, character) in before.char_indices() {
        match (open, character) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(start), '"') => {
                last_string = Some(start..place);
                open = None;
            }
            (None, '"') => open = Some(place + 1),
            (None, ':') => {
                if let Some(range) = last_string.take() {
                    found = (before[range].to_owned(), text[place + 1..].trim_start());
                }
            }
            (None, ',' | '{' | '}') => last_string = None,
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    use super::*;

    fn found(text: &str) -> (RejectionCode, String) {
        let fault = serde_json::from_str::<IgnoredAny>(text).unwrap_err();
        let rejection = explain(text, &fault);
        (rejection.code, rejection.field)
    }

    #[test]
    fn the_field_is_named() {
        let check = |text: &str, code: RejectionCode, field: &str| {
            assert_eq!(found(text), (code, field.to_owned()), "{text}");
        };
        check(r#"{"a":1,"price":NaN}"#, RejectionCode::NotFinite, "price");
        check(r#"{"a":"x:,\"y","bid": -Infinity ,"b":1}"#, RejectionCode::NotFinite, "bid");
        check("{\"a\":1,\n \"volume\": Infinity}", RejectionCode::NotFinite, "volume");
        check(r#"{"price":nothing}"#, RejectionCode::Malformed, "price");
        check(r#"{"a":1"#, RejectionCode::Malformed, "a");
        check("", RejectionCode::Malformed, "");
        check("{", RejectionCode::Malformed, "");
    }

    #[test]
    fn numbers_beyond_a_double_are_not_finite() {
        let text = r#"{"price":1e999}"#;
        let fault = serde_json::from_str::<serde_json::Value>(text).unwrap_err();
        assert_eq!(explain(text, &fault).code, RejectionCode::NotFinite);
    }

    proptest! {
        #[test]
        fn never_panics(text in "[\\PC\"\\\\:,{}\n]{0,60}") {
            if let Err(fault) = serde_json::from_str::<IgnoredAny>(&text) {
                let _ = explain(&text, &fault);
            }
        }
    }
}
