//! One pass over a message that takes out what a mapping names and skips the rest, without building a tree.
//!
//! The names of a mapping are a tree of their own ([`Node`]); the parser walks both together. A raw payload that
//! travels as JSON text is read where it stands, in the parser's buffer. `walk` is the part that talks to the parser. Of several names for one role the first in
//! the mapping counts.

use std::borrow::Cow;

use serde::de::DeserializeSeed;
use serde_json::value::RawValue;

use super::rejection::{Rejection, RejectionCode};
use super::syntax;
use super::walk::Object;

/// What a field means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Role {
    EventId,
    TraceId,
    Tenant,
    Source,
    EnvelopeTime,
    IngestedAt,
    Market,
    Symbol,
    InstrumentId,
    Sequence,
    Time,
    Price,
    Volume,
    Bid,
    Ask,
    Currency,
    Unit,
    Encoding,
    Metadata,
    RawPayload,
}

pub(super) const ROLE_COUNT: usize = Role::RawPayload as usize + 1;

/// A name of the mapping: what it means, and the names under it.
#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    name: Box<str>,
    pub(super) leaf: Option<(Role, u16)>,
    pub(super) children: Vec<Node>,
}

impl Node {
    /// Says that the field at `path` (names with dots between) has a role. An earlier role at the same path stays.
    pub(super) fn insert(&mut self, path: &str, role: Role, number: u16) {
        let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
        let place = self.children.iter().position(|child| *child.name == *name).unwrap_or_else(|| {
            self.children.push(Self { name: name.into(), ..Self::default() });
            self.children.len() - 1
        });
        match rest {
            Some(rest) => self.children[place].insert(rest, role, number),
            None => {
                self.children[place].leaf.get_or_insert((role, number));
            }
        }
    }

    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| *child.name == *name)
    }
}

/// A value that was taken out.
#[derive(Debug, Clone)]
pub(super) enum Scalar<'a> {
    Integer(i64),
    Float(f64),
    Text(Cow<'a, str>),
    Raw(&'a RawValue),
    /// Neither a number nor text: what it is, for the message.
    Other(&'static str),
}

/// What was found, by role: the number of the path, and the value.
#[derive(Debug)]
pub(super) struct Captured<'a> {
    slots: [Option<(u16, Scalar<'a>)>; ROLE_COUNT],
    repeated: Option<u16>,
    nested: Option<Rejection>,
}

impl<'a> Captured<'a> {
    /// Reads `text` by the names of `root`.
    ///
    /// # Errors
    /// When it is not a JSON object, names the field where it stopped.
    pub(super) fn read(text: &'a str, root: &Node) -> Result<Self, Rejection> {
        let mut captured = Self { slots: [const { None }; ROLE_COUNT], repeated: None, nested: None };
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let read = Object { node: root, captured: &mut captured }.deserialize(&mut deserializer);
        read.and_then(|()| deserializer.end()).map_err(|fault| syntax::explain(text, &fault))?;
        Ok(captured)
    }

    /// The fault of a nested payload, or the path that came twice.
    pub(super) fn fault(&mut self) -> Option<Result<u16, Rejection>> {
        self.nested.take().map(Err).or_else(|| self.repeated.map(Ok))
    }

    pub(super) fn take(&mut self, role: Role) -> Option<(u16, Scalar<'a>)> {
        self.slots[role as usize].take()
    }

    pub(super) fn put(&mut self, (role, path): (Role, u16), value: Scalar<'a>) {
        let slot = &mut self.slots[role as usize];
        match slot {
            Some((known, _)) if *known == path => self.repeated = Some(path),
            Some((known, _)) if *known < path => {}
            _ => *slot = Some((path, value)),
        }
    }

    /// Takes over what a nested text gave, with its own copy of every text.
    pub(super) fn adopt(&mut self, nested: Result<Captured<'_>, Rejection>) {
        let nested = match nested {
            Ok(nested) => nested,
            Err(rejection) => {
                self.nested = Some(rejection);
                return;
            }
        };
        self.repeated = self.repeated.or(nested.repeated);
        self.nested = self.nested.take().or(nested.nested);
        for (place, slot) in nested.slots.into_iter().enumerate() {
            let Some((path, value)) = slot else { continue };
            let value = match value {
                Scalar::Integer(number) => Scalar::Integer(number),
                Scalar::Float(number) => Scalar::Float(number),
                Scalar::Text(text) => Scalar::Text(Cow::Owned(text.into_owned())),
                Scalar::Other(what) => Scalar::Other(what),
                // The metadata of the envelope are what is passed on; those of a nested text are read, not kept.
                Scalar::Raw(_) => continue,
            };
            if self.slots[place].as_ref().is_none_or(|(known, _)| *known > path) {
                self.slots[place] = Some((path, value));
            }
        }
    }

    /// Metadata are passed on as they are, and looked into where the mapping has names there.
    pub(super) fn metadata(&mut self, node: &Node, raw: &'a RawValue) {
        if let Some(leaf) = node.leaf {
            self.put(leaf, Scalar::Raw(raw));
        }
        if !node.children.is_empty() && raw.get().starts_with('{') && raw.get().len() > 2 {
            let nested = Captured::read(raw.get(), node);
            self.adopt(nested);
        }
    }
}

/// The rejection of a value that is not what it should be.
pub(super) fn wrong_type(field: &str, value: &Scalar<'_>, wanted: &'static str) -> Rejection {
    let found = match value {
        Scalar::Integer(_) | Scalar::Float(_) => "a number",
        Scalar::Text(_) => "text",
        Scalar::Raw(_) => "an object",
        Scalar::Other(what) => what,
    };
    Rejection::new(RejectionCode::WrongType, field, format!("is {found} where {wanted} is expected"))
}
