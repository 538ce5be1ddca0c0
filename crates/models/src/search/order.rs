//! Orders: `metrics.loss DESC, start_time`. What has no value, and NaN, comes last either way round.

use std::cmp::Ordering;

use kernel::Result;
use serde::{Deserialize, Serialize};

use super::filter::identifier;
use super::lexer::{Token, tokens};
use super::{Entity, Grammar, Subject, Value, invalid};

/// The place of a subject by one part of an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Key {
    /// It has no value there.
    Missing,
    /// Its bits, because JSON has no numbers that are not finite.
    Number(u64),
    /// A text.
    Text(String),
}

#[derive(Debug, Clone, PartialEq)]
struct By {
    entity: Entity,
    key: String,
    descending: bool,
}

/// What comes first.
#[derive(Debug, Clone, PartialEq)]
pub struct Order(Vec<By>);

impl Order {
    /// The order that was asked for, or `default` where none was; ids settle what is equal.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for a part that cannot be understood.
    pub fn parse(asked: &[String], default: &str, grammar: &Grammar) -> Result<Self> {
        let mut parts = Vec::new();
        for part in asked.iter().flat_map(|part| split(part)) {
            parts.push(by(&part, grammar)?);
        }
        if parts.is_empty() {
            parts.push(by(default, grammar)?);
        }
        Ok(Self(parts))
    }

    pub(super) fn keys(&self, subject: &impl Subject) -> Vec<Key> {
        let key = |by: &By| match subject.values(by.entity, &by.key).into_iter().next() {
            None => Key::Missing,
            Some(Value::Number(value)) => Key::Number(value.to_bits()),
            Some(Value::Text(text)) => Key::Text(text),
        };
        self.0.iter().map(key).collect()
    }

    pub(super) fn compare(&self, left: (&[Key], &str), right: (&[Key], &str)) -> Ordering {
        let by_keys = self.0.iter().zip(left.0.iter().zip(right.0)).map(|(by, (left, right))| {
            match (is_last(left), is_last(right)) {
                (false, false) if by.descending => compare(right, left),
                (false, false) => compare(left, right),
                (left, right) => left.cmp(&right),
            }
        });
        by_keys.fold(Ordering::Equal, Ordering::then).then_with(|| left.1.cmp(right.1))
    }
}

fn is_last(key: &Key) -> bool {
    match key {
        Key::Missing => true,
        Key::Number(bits) => f64::from_bits(*bits).is_nan(),
        Key::Text(_) => false,
    }
}

fn compare(left: &Key, right: &Key) -> Ordering {
    match (left, right) {
        (Key::Number(left), Key::Number(right)) => {
            let (left, right) = (f64::from_bits(*left), f64::from_bits(*right));
            left.partial_cmp(&right).unwrap_or(Ordering::Equal)
        }
        (Key::Text(left), Key::Text(right)) => left.cmp(right),
        (Key::Number(_), _) => Ordering::Less,
        _ => Ordering::Greater,
    }
}

/// A part may itself be several, joined by commas.
fn split(part: &str) -> Vec<String> {
    if part.contains(['`', '"', '\'']) {
        return vec![part.to_owned()];
    }
    part.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

fn by(part: &str, grammar: &Grammar) -> Result<By> {
    let mut words = tokens(part)?.into_iter().peekable();
    let (entity, key, _) = identifier(&mut words, grammar)?;
    let descending = match words.next() {
        None => false,
        Some(Token::Word(word)) if word.eq_ignore_ascii_case("asc") => false,
        Some(Token::Word(word)) if word.eq_ignore_ascii_case("desc") => true,
        _ => return Err(invalid(format!("`{part}` is not a name with ASC or DESC after it"))),
    };
    if words.next().is_some() || entity == Entity::Dataset {
        return Err(invalid(format!("`{part}` is not a name with ASC or DESC after it")));
    }
    Ok(By { entity, key, descending })
}
