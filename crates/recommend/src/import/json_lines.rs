//! One JSON object a line, with a mapping by key, given or guessed from the keys of each shape of object.

use std::collections::HashMap;
use std::hash::Hasher;

use kernel::Result;
use rustc_hash::FxHasher;
use serde_json::{Map, Value};

use super::assemble::{Assembler, Defaults};
use super::cells::{Cell, Cells};
use super::fields::{Fields, Separator};
use super::mapping::Mapping;
use super::text_file::{Decode, Dialect};
use super::{Fault, Parts, guess};

pub(super) const DIALECT: Dialect =
    Dialect { separator: Separator::None, quotes: false, header: false, latin1: false };

// A file has one shape of object, or a few; more are read, only not remembered.
const MAX_SHAPES: usize = 256;

pub(super) struct JsonLines {
    defaults: Defaults,
    given: Option<Assembler>,
    guessed: HashMap<u64, Assembler>,
}

impl JsonLines {
    pub(super) fn new(mapping: Option<Mapping>, defaults: Defaults) -> Result<Self> {
        let given = mapping.map(|mapping| Assembler::by_name(mapping, &defaults)).transpose()?;
        Ok(Self { defaults, given, guessed: HashMap::new() })
    }

    fn assembler(&mut self, object: &Map<String, Value>) -> Result<&mut Assembler, Fault> {
        if let Some(given) = &mut self.given {
            return Ok(given);
        }
        let mut hasher = FxHasher::default();
        for key in object.keys() {
            hasher.write(key.as_bytes());
            hasher.write_u8(0);
        }
        let shape = hasher.finish();
        if !self.guessed.contains_key(&shape) {
            let keys: Vec<&str> = object.keys().map(String::as_str).collect();
            let mapping = guess::mapping_of(&keys).map_err(|error| Fault::line(error.message()))?;
            let assembler = Assembler::by_name(mapping, &self.defaults)?;
            if self.guessed.len() >= MAX_SHAPES {
                self.guessed.clear();
            }
            self.guessed.insert(shape, assembler);
        }
        self.guessed.get_mut(&shape).ok_or_else(|| Fault::line("its keys cannot be mapped"))
    }

    /// Adds the row of one object.
    pub(super) fn object(
        &mut self,
        object: &Map<String, Value>,
        line: u64,
        rows: &mut Parts,
    ) -> Result<(), Fault> {
        let row = self.assembler(object)?.row(&Keyed { object, line })?;
        rows.push((0, row));
        Ok(())
    }
}

impl Decode for JsonLines {
    fn record(&mut self, fields: &Fields<'_>, line: u64, rows: &mut Parts) -> Result<(), Fault> {
        self.object(&parse_object(fields.get(0).unwrap_or_default())?, line, rows)
    }
}

/// Reads an object.
///
/// # Errors
/// A fault with the place, for what is not JSON or not an object.
pub(super) fn parse_object(text: &str) -> Result<Map<String, Value>, Fault> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Fault::line("a line must be one JSON object")),
        Err(cause) => {
            let reason = cause.to_string();
            let reason = reason.split(" at line ").next().unwrap_or_default();
            Err(Fault::line(format!("not JSON at byte {}: {reason}", cause.column())))
        }
    }
}

struct Keyed<'a> {
    object: &'a Map<String, Value>,
    line: u64,
}

impl Cells for Keyed<'_> {
    fn column(&self, name: &str) -> Cell<'_> {
        if let Some(value) = self.object.get(name) {
            return Cell::Json(value);
        }
        let mut path = name.split('.');
        let first = path.next().and_then(|key| self.object.get(key));
        path.fold(first, |value, key| value?.get(key)).map_or(Cell::Missing, Cell::Json)
    }

    fn place(&self, _place: usize) -> Cell<'_> {
        Cell::Missing
    }

    fn line(&self) -> u64 {
        self.line
    }

    fn rest(&self, used: &[String], each: &mut dyn FnMut(&str, Cell<'_>)) {
        for (key, value) in self.object {
            if !value.is_null() && !used.contains(key) {
                each(key, Cell::Json(value));
            }
        }
    }
}
