//! The column mapping of the generic formats, as text:
//! `user_id=uid,entity_id=#1,timestamp=ts:ms,interaction_type='view'`.
//!
//! ```text
//! target    user_id, entity_id, entity_type, interaction_type, value, timestamp,
//!           attributes.NAME, metadata.NAME, attributes, metadata
//! source    a column, "a column, quoted", #0 (by place), 'a constant', @row (the number of the line), * (the rest)
//! form      timestamp=...:s|ms|us|ns|rfc3339|auto
//!           attributes.NAME=...:auto|number|boolean|text|tags|tags(;)
//! ```
//!
//! `attributes=COLUMN` takes a JSON object, `attributes=*` every column that is not mapped otherwise. In JSON
//! a column is a key, or a path of keys with dots. A row with a user and an entity is an interaction; with
//! one of them, it is about that one.

use std::str::FromStr;

use kernel::{Error, Result};

use super::times::TimeUnit;
use super::{Fault, IMPORT_MAPPING};

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// The column or key of this name.
    Column(String),
    /// The field at this place, from 0.
    Place(usize),
    /// Always this.
    Constant(String),
    /// The number of the line.
    Row,
    /// All columns that are not mapped otherwise.
    Rest,
}

/// How the text of an attribute is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Form {
    /// As a boolean or number where it looks like one, else as text.
    #[default]
    Auto,
    Number,
    Boolean,
    Text,
    /// As tags between this separator.
    Tags(char),
}

/// One `attributes.NAME=...` or `metadata.NAME=...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) origin: Origin,
    pub(super) form: Form,
}

/// Which column means what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mapping {
    pub(super) user_id: Option<Origin>,
    pub(super) entity_id: Option<Origin>,
    pub(super) entity_type: Option<Origin>,
    pub(super) interaction_type: Option<Origin>,
    pub(super) value: Option<Origin>,
    pub(super) timestamp: Option<(Origin, TimeUnit)>,
    pub(super) attributes: Vec<Named>,
    pub(super) metadata: Vec<Named>,
    /// A JSON object, or the rest.
    pub(super) all_attributes: Option<Origin>,
    pub(super) all_metadata: Option<Origin>,
}

pub(super) fn fault(message: impl Into<String>) -> Error {
    Error::new(IMPORT_MAPPING, message).with_field("map")
}

impl FromStr for Mapping {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut mapping = Self::default();
        for part in split_outside_quotes(text, ',')? {
            let Some((target, source)) = part.split_once('=') else {
                return Err(fault(format!("`{part}` should be target=column, such as user_id=uid")));
            };
            mapping.set(target.trim(), source.trim())?;
        }
        mapping.check()?;
        Ok(mapping)
    }
}

impl Mapping {
    fn set(&mut self, target: &str, source: &str) -> Result<()> {
        let (origin, form) = split_form(source)?;
        let form_is_of_time = target == "timestamp";
        let has_named_form = target.contains('.');
        if !form.is_empty() && !form_is_of_time && !has_named_form {
            return Err(fault(format!("`{target}` takes no form, `:{form}` was given")));
        }
        let twice = match target {
            "user_id" => self.user_id.replace(origin).is_some(),
            "entity_id" | "item_id" => self.entity_id.replace(origin).is_some(),
            "entity_type" => self.entity_type.replace(origin).is_some(),
            "interaction_type" => self.interaction_type.replace(origin).is_some(),
            "value" | "rating" => self.value.replace(origin).is_some(),
            "attributes" => self.all_attributes.replace(origin).is_some(),
            "metadata" => self.all_metadata.replace(origin).is_some(),
            "timestamp" => {
                let unit = if form.is_empty() { TimeUnit::Auto } else { form.parse().map_err(fault)? };
                self.timestamp.replace((origin, unit)).is_some()
            }
            _ => self.set_named(target, origin, form)?,
        };
        if twice { Err(fault(format!("`{target}` is mapped twice"))) } else { Ok(()) }
    }

    fn set_named(&mut self, target: &str, origin: Origin, form: &str) -> Result<bool> {
        let (list, name) = match target.split_once('.') {
            Some(("attributes", name)) if !name.is_empty() => (&mut self.attributes, name),
            Some(("metadata", name)) if !name.is_empty() => (&mut self.metadata, name),
            _ => {
                return Err(fault(format!(
                    "`{target}` is not a target: use user_id, entity_id, entity_type, interaction_type, value, \
                     timestamp, attributes, attributes.NAME, metadata or metadata.NAME"
                )));
            }
        };
        let twice = list.iter().any(|named| named.name == name);
        list.push(Named { name: name.to_owned(), origin, form: read_form(form)? });
        Ok(twice)
    }

    /// Whether it names a column, or asks for the rest of them.
    pub(super) fn needs_header(&self) -> bool {
        self.origins().any(|origin| matches!(origin, Origin::Column(_) | Origin::Rest))
    }

    pub(super) fn origins(&self) -> impl Iterator<Item = &Origin> {
        let single = [
            &self.user_id,
            &self.entity_id,
            &self.entity_type,
            &self.interaction_type,
            &self.value,
            &self.all_attributes,
            &self.all_metadata,
        ];
        let named = self.attributes.iter().chain(&self.metadata).map(|named| &named.origin);
        single.into_iter().flatten().chain(self.timestamp.as_ref().map(|(origin, _)| origin)).chain(named)
    }

    pub(super) fn origins_mut(&mut self) -> impl Iterator<Item = &mut Origin> {
        let single = [
            &mut self.user_id,
            &mut self.entity_id,
            &mut self.entity_type,
            &mut self.interaction_type,
            &mut self.value,
            &mut self.all_attributes,
            &mut self.all_metadata,
        ];
        let named = self.attributes.iter_mut().chain(&mut self.metadata).map(|named| &mut named.origin);
        single.into_iter().flatten().chain(self.timestamp.as_mut().map(|(origin, _)| origin)).chain(named)
    }

    /// Refuses what can make no row.
    pub(super) fn check(&self) -> Result<()> {
        let has_attributes = !self.attributes.is_empty() || self.all_attributes.is_some();
        let has_metadata = !self.metadata.is_empty() || self.all_metadata.is_some();
        let single = [&self.user_id, &self.entity_id, &self.entity_type, &self.interaction_type, &self.value];
        let time = self.timestamp.as_ref().map(|(origin, _)| origin);
        let named = self.attributes.iter().chain(&self.metadata).map(|named| &named.origin);
        if single.into_iter().flatten().chain(time).chain(named).any(|origin| *origin == Origin::Rest) {
            return Err(fault("only attributes and metadata can be `*`"));
        }
        match (&self.user_id, &self.entity_id) {
            (None, None) => Err(fault("map user_id, entity_id or both")),
            (Some(_), Some(_)) if has_attributes => Err(fault(
                "a row with a user and an entity is an interaction, which has metadata, not attributes",
            )),
            (Some(_), Some(_)) => Ok(()),
            _ if has_metadata
                || self.timestamp.is_some()
                || self.interaction_type.is_some()
                || self.value.is_some() =>
            {
                Err(fault("interaction_type, value, timestamp and metadata need both user_id and entity_id"))
            }
            _ => Ok(()),
        }
    }
}

/// Cuts off `:form`. A quoted source may hold anything, a plain one no colon.
fn split_form(source: &str) -> Result<(Origin, &str)> {
    let quote = source.chars().next().filter(|first| matches!(first, '\'' | '"'));
    let (origin, rest) = match quote {
        Some(quote) => {
            let Some(length) = source[1..].find(quote) else {
                return Err(fault(format!("`{source}` has no closing quote")));
            };
            let text = source[1..=length].to_owned();
            let origin = if quote == '\'' { Origin::Constant(text) } else { Origin::Column(text) };
            (origin, &source[length + 2..])
        }
        None => {
            let stop = source.find(':').unwrap_or(source.len());
            (plain_origin(source[..stop].trim())?, &source[stop..])
        }
    };
    match rest.trim().strip_prefix(':') {
        Some(form) if !form.trim().is_empty() => Ok((origin, form.trim())),
        None if rest.trim().is_empty() => Ok((origin, "")),
        _ => Err(fault(format!("`{rest}` after a column should be `:` and a form"))),
    }
}

fn plain_origin(text: &str) -> Result<Origin> {
    Ok(match text {
        "" => return Err(fault("a target has no column: quote an empty constant as ''")),
        "*" => Origin::Rest,
        "@row" => Origin::Row,
        _ => match text.strip_prefix('#') {
            Some(place) => Origin::Place(
                place
                    .parse()
                    .map_err(|_| fault(format!("`{text}` should be # and a place, the first is #0")))?,
            ),
            None => Origin::Column(text.to_owned()),
        },
    })
}

fn read_form(form: &str) -> Result<Form> {
    Ok(match form {
        "" | "auto" => Form::Auto,
        "number" => Form::Number,
        "boolean" => Form::Boolean,
        "text" => Form::Text,
        "tags" => Form::Tags('|'),
        _ => {
            let inside = form.strip_prefix("tags(").and_then(|rest| rest.strip_suffix(')'));
            match inside.map(|text| (text.chars().next(), text.chars().nth(1))) {
                Some((Some(separator), None)) => Form::Tags(separator),
                _ => {
                    return Err(fault(format!(
                        "`{form}` is not a form: use auto, number, boolean, text, tags or tags(;)"
                    )));
                }
            }
        }
    })
}

fn split_outside_quotes(text: &str, separator: char) -> Result<Vec<&str>> {
    let mut parts = Vec::new();
    let (mut from, mut quote, mut previous) = (0, None, separator);
    for (at, character) in text.char_indices() {
        match quote {
            Some(open) if open == character => quote = None,
            Some(_) => {}
            // A quote elsewhere is part of a name.
            None if matches!(character, '\'' | '"') && previous == '=' => quote = Some(character),
            None if character == separator && !text[from..at].ends_with('(') => {
                parts.push(&text[from..at]);
                from = at + character.len_utf8();
            }
            None => {}
        }
        if !character.is_whitespace() {
            previous = character;
        }
    }
    if quote.is_some() {
        return Err(fault("a quote in the mapping is not closed"));
    }
    parts.push(&text[from..]);
    Ok(parts.into_iter().filter(|part| !part.trim().is_empty()).collect())
}

impl Form {
    /// The separator of tags, where there are tags.
    pub(super) fn fault(self, name: &str, text: &str) -> Fault {
        let expected = match self {
            Self::Boolean => "true or false",
            _ => "a finite number",
        };
        Fault::new(name, format!("{} is not {expected}", super::fields::shown(text)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn mappings_are_read() {
        let mapping: Mapping = "user_id=uid, entity_id=#1,timestamp=ts:unix_ms,interaction_type='a, b:c',\
             value=\"the: rating\",metadata.who=x:text,metadata.tags=y:tags(,)"
            .parse()
            .unwrap();
        let column = |name: &str| Origin::Column(name.to_owned());
        assert_eq!(mapping.user_id, Some(column("uid")));
        assert_eq!(mapping.entity_id, Some(Origin::Place(1)));
        assert_eq!(mapping.timestamp, Some((column("ts"), TimeUnit::Milliseconds)));
        assert_eq!(mapping.interaction_type, Some(Origin::Constant("a, b:c".to_owned())));
        assert_eq!(mapping.value, Some(column("the: rating")));
        assert_eq!(mapping.metadata[0].form, Form::Text);
        assert_eq!(mapping.metadata[1].form, Form::Tags(','));
        let rest: Mapping = "entity_id=id,attributes=*,attributes.price=p:number".parse().unwrap();
        assert_eq!(rest.all_attributes, Some(Origin::Rest));
    }

    #[test]
    fn faults_say_what_to_do() {
        let check = |text: &str, part: &str| {
            let error = text.parse::<Mapping>().unwrap_err();
            assert_eq!((error.code(), error.field()), (IMPORT_MAPPING, Some("map")));
            assert!(error.message().contains(part), "{text}: {error}");
        };
        check("", "map user_id, entity_id or both");
        check("user_id", "should be target=column");
        check("user_id=", "no column");
        check("user_id=a,user_id=b", "mapped twice");
        check("user_id=a,value=v", "need both");
        check("user_id=a,entity_id=b,attributes=*", "metadata, not attributes");
        check("uid=a", "is not a target");
        check("attributes.=a", "is not a target");
        check("user_id='a", "not closed");
        check("user_id=#x", "the first is #0");
        check("user_id=a:s", "takes no form");
        check("user_id=a,entity_id=b,timestamp=c:days", "not a time unit");
        check("entity_id=b,attributes.x=c:tags()", "not a form");
        check("user_id=*", "only attributes and metadata");
        check("user_id='a'x", "should be `:`");
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "\\PC{0,40}|[a-z_.=,:'\"#*@() ]{0,60}") {
            let _ = text.parse::<Mapping>();
        }
    }
}
