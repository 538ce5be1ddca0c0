//! Makes rows of cells by a [`Mapping`]: the part that CSV, JSON lines and Parquet share.

use std::borrow::Cow;
use std::hash::Hasher;

use kernel::{Id, Result};
use rustc_hash::FxHasher;
use serde_json::Value;

use super::cells::{Cell, Cells, attribute, number, object, time};
use super::fields::shown;
use super::mapping::{Form, Mapping, Named, Origin, fault};
use super::{Fault, Row};
use crate::attributes::{Attributes, check_attributes};

/// The types that rows have where the file does not say.
#[derive(Debug, Clone)]
pub(super) struct Defaults {
    pub(super) entity_type: Id,
    pub(super) interaction_type: Option<Id>,
}

impl Defaults {
    /// What was asked for; else `rating` for what has a value, and `view` for what has none.
    pub(super) fn interaction_type(&self, has_value: bool) -> Result<Id> {
        match &self.interaction_type {
            Some(given) => Ok(given.clone()),
            None => Id::new(if has_value { "rating" } else { "view" }),
        }
    }
}

pub(super) struct Assembler {
    mapping: Mapping,
    /// The names of the columns, where they are known; for messages.
    columns: Vec<String>,
    used: Vec<String>,
    entity_type: Id,
    interaction_type: Id,
    ids: Ids,
}

impl Assembler {
    fn new(mapping: Mapping, columns: Vec<String>, used: Vec<String>, defaults: &Defaults) -> Result<Self> {
        let interaction_type = defaults.interaction_type(mapping.value.is_some())?;
        let entity_type = defaults.entity_type.clone();
        Ok(Self { mapping, columns, used, entity_type, interaction_type, ids: Ids::new() })
    }

    /// Prepares rows by name (JSON).
    pub(super) fn by_name(mapping: Mapping, defaults: &Defaults) -> Result<Self> {
        let mut used = Vec::new();
        for origin in mapping.origins() {
            match origin {
                Origin::Place(place) => {
                    return Err(fault(format!("`#{place}` has no meaning here: name the key instead")));
                }
                Origin::Column(name) => used.push(name.split('.').next().unwrap_or(name).to_owned()),
                _ => {}
            }
        }
        Self::new(mapping, Vec::new(), used, defaults)
    }

    /// Prepares rows by place, names turned into places once.
    pub(super) fn by_place(
        mut mapping: Mapping,
        columns: Option<&[&str]>,
        defaults: &Defaults,
    ) -> Result<Self> {
        let mut used = Vec::new();
        for origin in mapping.origins_mut() {
            if let Origin::Column(name) = origin {
                *origin = Origin::Place(place_of(name, columns)?);
            }
            if let (Origin::Place(place), Some(columns)) = (&*origin, columns)
                && *place >= columns.len()
            {
                return Err(fault(format!("there is no column #{place}: the header has {}", columns.len())));
            }
            if let Origin::Place(place) = origin {
                used.push(*place);
            }
        }
        for (all, list) in [
            (&mut mapping.all_attributes, &mut mapping.attributes),
            (&mut mapping.all_metadata, &mut mapping.metadata),
        ] {
            if *all == Some(Origin::Rest) {
                let Some(columns) = columns else {
                    return Err(fault("`*` needs a header that names the columns"));
                };
                *all = None;
                let rest = columns
                    .iter()
                    .enumerate()
                    .filter(|(place, name)| !used.contains(place) && !name.is_empty());
                list.extend(rest.map(|(place, name)| Named {
                    name: (*name).to_owned(),
                    origin: Origin::Place(place),
                    form: Form::Auto,
                }));
            }
        }
        let columns = columns.unwrap_or_default().iter().map(|name| (*name).to_owned()).collect();
        Self::new(mapping, columns, Vec::new(), defaults)
    }

    /// The row that these cells make.
    ///
    /// # Errors
    /// A fault that names the column as the file does.
    pub(super) fn row(&mut self, cells: &dyn Cells) -> Result<Row, Fault> {
        self.assemble(cells).map_err(|fault| Fault { column: self.name_in_file(&fault.column), ..fault })
    }

    fn name_in_file(&self, target: &str) -> String {
        let origin = match target {
            "user_id" => self.mapping.user_id.as_ref(),
            "entity_id" => self.mapping.entity_id.as_ref(),
            "entity_type" => self.mapping.entity_type.as_ref(),
            "interaction_type" => self.mapping.interaction_type.as_ref(),
            "value" => self.mapping.value.as_ref(),
            "timestamp" => self.mapping.timestamp.as_ref().map(|(origin, _)| origin),
            _ => None,
        };
        let name = match origin {
            Some(Origin::Column(name)) => Some(name),
            Some(Origin::Place(place)) => self.columns.get(*place),
            _ => None,
        };
        name.cloned().unwrap_or_else(|| target.to_owned())
    }

    fn assemble(&mut self, cells: &dyn Cells) -> Result<Row, Fault> {
        let Self { mapping, used, entity_type, interaction_type, ids, .. } = self;
        let user_id = required_id(ids, cells, mapping.user_id.as_ref(), "user_id")?;
        let entity_id = required_id(ids, cells, mapping.entity_id.as_ref(), "entity_id")?;
        let mut typed = |origin: &Option<Origin>, column: &str, default: &Id| -> Result<Id, Fault> {
            origin.as_ref().map_or_else(
                || Ok(default.clone()),
                |origin| Ok(optional_id(ids, cells, origin, column)?.unwrap_or_else(|| default.clone())),
            )
        };
        Ok(match (user_id, entity_id) {
            (Some(user_id), Some(entity_id)) => Row::Interaction {
                user_id,
                entity_id,
                entity_type: typed(&mapping.entity_type, "entity_type", entity_type)?,
                interaction_type: typed(&mapping.interaction_type, "interaction_type", interaction_type)?,
                value: match &mapping.value {
                    Some(origin) => number(cell(cells, origin), "value")?,
                    None => None,
                },
                timestamp: match &mapping.timestamp {
                    Some((origin, unit)) => time(cell(cells, origin), *unit)?,
                    None => None,
                },
                metadata: attributes(
                    cells,
                    &mapping.metadata,
                    mapping.all_metadata.as_ref(),
                    used,
                    "metadata",
                )?,
            },
            (None, Some(entity_id)) => Row::described(
                entity_id,
                typed(&mapping.entity_type, "entity_type", entity_type)?,
                attributes(cells, &mapping.attributes, mapping.all_attributes.as_ref(), used, "attributes")?,
            ),
            (Some(user_id), None) => Row::User {
                user_id,
                attributes: attributes(
                    cells,
                    &mapping.attributes,
                    mapping.all_attributes.as_ref(),
                    used,
                    "attributes",
                )?,
            },
            (None, None) => return Err(Fault::line("neither user_id nor entity_id is mapped")),
        })
    }
}

fn place_of(name: &str, columns: Option<&[&str]>) -> Result<usize> {
    let Some(columns) = columns else {
        return Err(fault(format!(
            "the file has no header, so `{name}` cannot be found: use places such as #0"
        )));
    };
    let found = columns.iter().position(|column| *column == name);
    found.ok_or_else(|| {
        fault(format!("there is no column `{name}`: the header has {}", list_of(columns.iter().copied())))
    })
}

/// Column names for a message.
pub(super) fn list_of<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.take(50).map(shown).collect();
    names.join(", ")
}

fn cell<'a>(cells: &'a dyn Cells, origin: &'a Origin) -> Cell<'a> {
    let found = match origin {
        Origin::Column(name) => cells.column(name),
        Origin::Place(place) => cells.place(*place),
        Origin::Constant(text) => return Cell::Text(text),
        Origin::Row => return Cell::Number(cells.line()),
        Origin::Rest => Cell::Missing,
    };
    match found {
        Cell::Text("") | Cell::Json(Value::Null) => Cell::Missing,
        found => found,
    }
}

fn required_id(
    ids: &mut Ids,
    cells: &dyn Cells,
    origin: Option<&Origin>,
    column: &str,
) -> Result<Option<Id>, Fault> {
    match origin {
        None => Ok(None),
        Some(origin) => match optional_id(ids, cells, origin, column)? {
            Some(id) => Ok(Some(id)),
            None => Err(Fault::new(column, "it is missing or empty")),
        },
    }
}

fn optional_id(ids: &mut Ids, cells: &dyn Cells, origin: &Origin, column: &str) -> Result<Option<Id>, Fault> {
    let text: Cow<'_, str> = match cell(cells, origin).plain() {
        Cell::Missing => return Ok(None),
        Cell::Text(text) => Cow::Borrowed(text),
        Cell::Number(number) => Cow::Owned(number.to_string()),
        Cell::Json(Value::Number(number)) if number.is_i64() || number.is_u64() => {
            Cow::Owned(number.to_string())
        }
        Cell::Json(value) => {
            return Err(Fault::new(
                column,
                format!("{} is not a text or a whole number", shown(&value.to_string())),
            ));
        }
    };
    ids.get(&text, column).map(Some)
}

fn attributes(
    cells: &dyn Cells,
    list: &[Named],
    all: Option<&Origin>,
    used: &[String],
    parent: &str,
) -> Result<Attributes, Fault> {
    let mut found = match all {
        Some(Origin::Rest) => {
            let mut rest = Attributes::new();
            let mut result = Ok(());
            cells.rest(used, &mut |name, cell| match attribute(cell, Form::Auto, name) {
                Ok(Some(value)) => drop(rest.insert(name.to_owned(), value)),
                Ok(None) => {}
                Err(fault) => result = Err(fault),
            });
            result.map(|()| rest)?
        }
        Some(origin) => object(cell(cells, origin), parent)?,
        None => Attributes::new(),
    };
    for named in list {
        if let Some(value) = attribute(cell(cells, &named.origin), named.form, &named.name)? {
            found.insert(named.name.clone(), value);
        }
    }
    check_attributes(&found, parent)?;
    Ok(found)
}

/// Ids seen lately, so that the few that repeat for ever share their memory and skip their checks.
pub(super) struct Ids {
    slots: Vec<Option<Id>>,
}

impl Ids {
    const SLOTS: usize = 1 << 13;

    pub(super) fn new() -> Self {
        Self { slots: vec![None; Self::SLOTS] }
    }

    pub(super) fn get(&mut self, text: &str, column: &str) -> Result<Id, Fault> {
        let mut hasher = FxHasher::default();
        hasher.write(text.as_bytes());
        let slot = &mut self.slots[(hasher.finish() >> 32) as usize % Self::SLOTS];
        if let Some(id) = slot
            && id.as_str() == text
        {
            return Ok(id.clone());
        }
        let id = Id::new(text).map_err(|error| Fault::new(column, error.message()))?;
        *slot = Some(id.clone());
        Ok(id)
    }
}
