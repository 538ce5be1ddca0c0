//! An entity in the form that expressions read: only the attributes that they name, and no text copied.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use cel::Context;
use cel::common::ast::{Expr, IdedExpr};
use cel::common::types::{CelBool, CelDouble, CelList, CelMap, CelMapKey, CelString};
use cel::common::value::Val;

use super::Expression;
use crate::attributes::{AttributeValue, Attributes};

/// What an expression looks at.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The entity's id.
    pub id: &'a str,
    /// The entity's type.
    pub entity_type: &'a str,
    /// What it is like.
    pub attributes: &'a Attributes,
}

/// An entity in the form that expressions read: made once, and asked by each expression that it was made for.
pub struct Prepared<'a> {
    pub(super) context: Context<'a, 'a>,
}

impl fmt::Debug for Prepared<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Prepared").finish_non_exhaustive()
    }
}

/// Which attributes an expression reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Needs {
    Named(BTreeSet<String>),
    All,
}

impl<'a> Subject<'a> {
    /// For these expressions; others may miss attributes.
    #[must_use]
    pub fn prepare(self, expressions: &[&Expression]) -> Prepared<'a> {
        let env = expressions.first().map(|expression| Arc::clone(&expression.env));
        let mut context = Context::with_env(env.unwrap_or_default());
        context.add_variable_as_val("id", Box::new(CelString::from(self.id)));
        context.add_variable_as_val("type", Box::new(CelString::from(self.entity_type)));
        let attributes = self.attributes.iter().filter(|(name, _)| {
            expressions.iter().any(|expression| match &expression.needs {
                Needs::All => true,
                Needs::Named(names) => names.contains(*name),
            })
        });
        let entries = attributes.map(|(name, value)| (CelMapKey::from(name.as_str()), value_of(value)));
        context.add_variable_as_val("attributes", Box::new(CelMap::from(entries.collect::<HashMap<_, _>>())));
        Prepared { context }
    }
}

fn value_of(value: &AttributeValue) -> Box<dyn Val + '_> {
    match value {
        AttributeValue::Boolean(value) => Box::new(CelBool::from(*value)),
        AttributeValue::Number(value) => Box::new(CelDouble::from(*value)),
        AttributeValue::Text(text) => Box::new(CelString::from(text.as_str())),
        AttributeValue::Tags(tags) => {
            let mut list: Vec<Box<dyn Val + '_>> = Vec::with_capacity(tags.len());
            list.extend(tags.iter().map(|tag| Box::new(CelString::from(tag.as_str())) as _));
            Box::new(CelList::from(list))
        }
    }
}

impl Needs {
    /// What `expression` reads.
    pub(super) fn of(expression: &IdedExpr) -> Self {
        let mut names = BTreeSet::new();
        if collect(expression, &mut names) { Self::Named(names) } else { Self::All }
    }
}

/// Adds the attributes that are read by their name; false where some are read otherwise.
fn collect(expression: &IdedExpr, names: &mut BTreeSet<String>) -> bool {
    match &expression.expr {
        Expr::Ident(name) => name != "attributes",
        Expr::Select(select) => {
            let is_attributes = matches!(&select.operand.expr, Expr::Ident(name) if name == "attributes");
            if is_attributes {
                names.insert(select.field.clone());
            }
            is_attributes || collect(&select.operand, names)
        }
        Expr::Call(call) => {
            call.target.as_deref().into_iter().chain(&call.args).all(|part| collect(part, names))
        }
        Expr::List(list) => list.elements.iter().all(|element| collect(element, names)),
        Expr::Comprehension(loops) => {
            let parts =
                [&loops.iter_range, &loops.accu_init, &loops.loop_cond, &loops.loop_step, &loops.result];
            parts.into_iter().all(|part| collect(part, names))
        }
        Expr::Literal(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::expression::Expressions;

    #[test]
    fn only_what_is_read_is_prepared() {
        let expressions = Expressions::default();
        let check = |text: &str, names: Option<&[&str]>| {
            let needs = Needs::of(expressions.compile(text, "filter").unwrap().program.expression());
            let named = |names: &[&str]| Needs::Named(names.iter().map(|name| (*name).to_owned()).collect());
            assert_eq!(needs, names.map_or(Needs::All, named), "{text}");
        };
        check("id == 'a'", Some(&[]));
        check("has(attributes.b) && attributes.a > 1.0", Some(&["a", "b"]));
        check("attributes.a.exists(x, x == attributes.c)", Some(&["a", "c"]));
        check("[attributes.a, 1].size() == 2", Some(&["a"]));
        check("'a' in attributes", None);
        check("attributes['a'] == 1", None);
        check("attributes.all(x, x != 'a')", None);
    }
}
