//! The lists of LightGCN and its successors: `user item item item ...`, split into `train.txt` and
//! `test.txt`.
//!
//! There are no times and no types. Rows of `test.txt` carry `split: test` in their metadata, so that a
//! held-out interaction can be told from one to learn from. What is stored is learned from, so whoever stores rows
//! leaves `test.txt` out ([`super::Plan::without_held_out`]), unless that file itself was named.

use kernel::{Id, Result};

use super::assemble::{Defaults, Ids};
use super::fields::{Fields, Separator};
use super::text_file::{Decode, Dialect};
use super::{Fault, Parts, Row};
use crate::attributes::{AttributeValue, Attributes};

pub(super) const DIALECT: Dialect =
    Dialect { separator: Separator::Whitespace, quotes: false, header: false, latin1: false };

pub(super) struct LightGcn {
    entity_type: Id,
    interaction_type: Id,
    metadata: Attributes,
    ids: Ids,
}

impl LightGcn {
    pub(super) fn new(is_test: bool, defaults: Defaults) -> Result<Self> {
        let split = ("split".to_owned(), AttributeValue::Text("test".to_owned()));
        Ok(Self {
            interaction_type: defaults.interaction_type(false)?,
            entity_type: defaults.entity_type,
            metadata: is_test.then_some(split).into_iter().collect(),
            ids: Ids::new(),
        })
    }

    fn row(&mut self, user_id: &Id, item: &str, column: &str) -> Result<Row, Fault> {
        Ok(Row::Interaction {
            user_id: user_id.clone(),
            entity_id: checked(&mut self.ids, item, column)?,
            entity_type: self.entity_type.clone(),
            interaction_type: self.interaction_type.clone(),
            value: None,
            timestamp: None,
            metadata: self.metadata.clone(),
        })
    }
}

// The format is numbers only: anything else is another format, or damage.
fn checked(ids: &mut Ids, text: &str, column: &str) -> Result<Id, Fault> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Fault::new(column, format!("{} is not a whole number", super::fields::shown(text))));
    }
    ids.get(text, column)
}

impl Decode for LightGcn {
    fn record(&mut self, fields: &Fields<'_>, _line: u64, rows: &mut Parts) -> Result<(), Fault> {
        let user_id = checked(&mut self.ids, fields.required(0, "user")?, "user")?;
        let mut first_fault = None;
        for (place, item) in fields.iter().enumerate().skip(1) {
            match self.row(&user_id, item, "item") {
                Ok(row) => rows.push((place as u32, row)),
                Err(fault) => first_fault = first_fault.or(Some((place, fault))),
            }
        }
        match first_fault {
            Some((place, fault)) => Err(Fault::new(format!("item {place}"), fault.reason)),
            None => Ok(()),
        }
    }
}
