//! What a search asks for: a filter in MLflow's grammar, an order, and a page of it.
//!
//! A [`Filter`] is conditions joined by `AND` over what a [`Subject`] says of itself; an [`Order`] puts subjects in a
//! total order, those that lack a value last; a page goes on exactly where the one before ended, whatever was written
//! in between (mlflow.org/docs/latest/ml/search).
//!
//! It refuses `OR`, functions, and attributes that the resource does not have. To make another resource searchable:
//! its [`Grammar`], and its [`Subject`].

mod filter;
mod lexer;
mod like;
mod order;
mod page;

use kernel::{Error, codes};

pub use filter::Filter;
pub use order::Order;
pub use page::{Page, Pager};

/// What is known of a thing under some name.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number; also one that is not finite.
    Number(f64),
    /// A text.
    Text(String),
}

/// What a name in a filter belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entity {
    /// A field of the resource itself.
    Attribute,
    /// The last value of a metric.
    Metric,
    /// A parameter.
    Param,
    /// A tag.
    Tag,
    /// A field of the data sets that a run read: a condition holds where it holds for one of them.
    Dataset,
}

/// What can be searched for.
pub trait Subject {
    /// The values under a name; none where it has none. More than one only for data sets.
    fn values(&self, entity: Entity, key: &str) -> Vec<Value>;

    /// Its id, which no other has.
    fn id(&self) -> &str;
}

/// Whether an attribute is a number or a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Compared as numbers.
    Number,
    /// Compared as texts.
    Text,
}

/// What may stand in filters and orders over one resource.
#[derive(Debug)]
pub struct Grammar {
    /// Each attribute: the name that subjects know, the kind, and its other names.
    pub attributes: &'static [(&'static str, Kind, &'static [&'static str])],
    /// What besides attributes and tags may be named.
    pub entities: &'static [Entity],
}

impl Grammar {
    /// The attribute's own name and kind.
    fn attribute(&self, name: &str) -> Option<(&'static str, Kind)> {
        let is_it =
            |(own, _, others): &&(&'static str, Kind, &[&str])| *own == name || others.contains(&name);
        self.attributes.iter().find(is_it).map(|(own, kind, _)| (*own, *kind))
    }

    fn has(&self, entity: Entity) -> bool {
        matches!(entity, Entity::Attribute | Entity::Tag) || self.entities.contains(&entity)
    }

    /// What an identifier such as `metrics.loss` or `name` names.
    fn resolve(&self, prefix: Option<&str>, key: &str) -> Result<(Entity, String, Kind), Error> {
        let entity = match prefix {
            None | Some("attribute" | "attributes" | "attr" | "run") => Entity::Attribute,
            Some("metric" | "metrics") => Entity::Metric,
            Some("param" | "params" | "parameter" | "parameters") => Entity::Param,
            Some("tag" | "tags") => Entity::Tag,
            Some("dataset" | "datasets") => Entity::Dataset,
            Some(other) => return Err(invalid(format!("`{other}` is not something to search by"))),
        };
        if !self.has(entity) {
            return Err(invalid(format!("`{}` cannot be searched by here", prefix.unwrap_or_default())));
        }
        match entity {
            Entity::Attribute => {
                let (name, kind) = self.attribute(key).ok_or_else(|| {
                    let names: Vec<&str> = self.attributes.iter().map(|(own, ..)| *own).collect();
                    invalid(format!("there is no attribute `{key}`; there are {}", names.join(", ")))
                })?;
                Ok((entity, name.to_owned(), kind))
            }
            Entity::Metric => Ok((entity, key.to_owned(), Kind::Number)),
            Entity::Dataset if !matches!(key, "name" | "digest" | "context") => {
                Err(invalid(format!("a dataset has name, digest and context, not `{key}`")))
            }
            _ => Ok((entity, key.to_owned(), Kind::Text)),
        }
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(codes::VALIDATION_ERROR, message)
}

#[cfg(test)]
mod tests;
