//! Parameters of recommendations that come as text: lists, numbers, shares; and those that are refused.
//!
//! To add a kind: a function here that names the field in its error.

use kernel::{Error, Result, codes};

/// Refuses the first of these parameters that is given.
pub(super) fn refuse(parameters: &[(&str, &Option<String>)], message: &str) -> Result<()> {
    match parameters.iter().find(|(_, value)| value.is_some()) {
        Some((field, _)) => Err(Error::new(codes::VALIDATION_ERROR, message).with_field(*field)),
        None => Ok(()),
    }
}

/// The parts between separators, without spaces around them and without empty ones.
pub(super) fn split(text: Option<&str>, separator: char) -> impl Iterator<Item = &str> {
    text.into_iter()
        .flat_map(move |text| text.split(separator))
        .map(str::trim)
        .filter(|part| !part.is_empty())
}

/// The value that a text stands for.
pub(super) fn parsed<T: std::str::FromStr>(text: Option<&str>, field: &str) -> Result<Option<T>> {
    let Some(text) = text else { return Ok(None) };
    text.parse().map(Some).map_err(|_| {
        let kind = if std::any::type_name::<T>() == "bool" { "true or false" } else { "a number" };
        Error::new(codes::VALIDATION_ERROR, format!("`{}` is not {kind}", text.escape_debug()))
            .with_field(field)
    })
}

/// A number from 0 to 1.
pub(super) fn share(text: Option<&str>, field: &str) -> Result<Option<f32>> {
    match parsed::<f32>(text, field)? {
        Some(value) if !(0.0..=1.0).contains(&value) => {
            Err(Error::new(codes::VALIDATION_ERROR, "must be between 0 and 1").with_field(field))
        }
        other => Ok(other),
    }
}
