//! CSV and its kin with a column mapping, given or guessed from the header.

use kernel::Result;

use super::assemble::{Assembler, Defaults};
use super::cells::{Cell, Cells};
use super::fields::Fields;
use super::mapping::{Mapping, fault};
use super::text_file::Decode;
use super::{Fault, Parts, guess};

pub(super) struct Delimited {
    mapping: Option<Mapping>,
    defaults: Defaults,
    assembler: Option<Assembler>,
    /// How many fields a record of a file without a header must have, where that is known.
    fields: Option<usize>,
}

impl Delimited {
    /// For a file with a header. Without a mapping the header is guessed from.
    pub(super) fn with_header(mapping: Option<Mapping>, defaults: Defaults) -> Self {
        Self { mapping, defaults, assembler: None, fields: None }
    }

    /// For `user item` a line, the lines of a user in the order of time.
    pub(super) fn sequences(defaults: Defaults) -> Result<Self> {
        Self::without_header(Some("user_id=#0,entity_id=#1,timestamp=@row:s".parse()?), defaults)
    }

    /// For a file without a header; the mapping is by place.
    pub(super) fn without_header(mapping: Option<Mapping>, defaults: Defaults) -> Result<Self> {
        let Some(mapping) = mapping else {
            return Err(fault(
                "a file without a header needs a mapping by place, such as user_id=#0,entity_id=#1",
            ));
        };
        let assembler = Assembler::by_place(mapping, None, &defaults)?;
        Ok(Self { mapping: None, defaults, assembler: Some(assembler), fields: None })
    }

    /// For a format without a header whose columns are known.
    pub(super) fn with_columns(mapping: Mapping, columns: &[&str], defaults: Defaults) -> Result<Self> {
        let assembler = Assembler::by_place(mapping, Some(columns), &defaults)?;
        Ok(Self { mapping: None, defaults, assembler: Some(assembler), fields: Some(columns.len()) })
    }
}

impl Decode for Delimited {
    fn header(&mut self, columns: &[&str]) -> Result<()> {
        let mapping = match self.mapping.take() {
            Some(mapping) => mapping,
            None => guess::mapping_of(columns)?,
        };
        self.assembler = Some(Assembler::by_place(mapping, Some(columns), &self.defaults)?);
        Ok(())
    }

    fn record(&mut self, fields: &Fields<'_>, line: u64, rows: &mut Parts) -> Result<(), Fault> {
        if let Some(count) = self.fields.filter(|count| *count != fields.len()) {
            return Err(Fault::line(format!("it has {} fields, this format has {count}", fields.len())));
        }
        // Without an assembler the file ended before its header did.
        if let Some(assembler) = &mut self.assembler {
            rows.push((0, assembler.row(&Placed { fields, line })?));
        }
        Ok(())
    }
}

struct Placed<'a> {
    fields: &'a Fields<'a>,
    line: u64,
}

impl Cells for Placed<'_> {
    fn column(&self, _name: &str) -> Cell<'_> {
        Cell::Missing
    }

    fn place(&self, place: usize) -> Cell<'_> {
        self.fields.get(place).map_or(Cell::Missing, Cell::Text)
    }

    fn line(&self) -> u64 {
        self.line
    }

    fn rest(&self, _used: &[String], _each: &mut dyn FnMut(&str, Cell<'_>)) {}
}
