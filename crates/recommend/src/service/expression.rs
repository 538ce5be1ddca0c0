//! Filters and boosters: expressions in CEL (the Common Expression Language, github.com/google/cel-spec) over one
//! entity.
//!
//! An expression sees `id`, `type` and `attributes`. A filter keeps an entity where it is `true`; a booster gives
//! the factor by which the entity's odds grow. An entity that lacks an attribute the expression asks for is not
//! kept, and not boosted: use `has(attributes.price)` to say otherwise.
//!
//! It refuses what could take long: more than 2,000 characters, deep nesting, one `all`/`exists`/`map`/`filter`
//! inside another, and regular expressions.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use cel::common::ast::{ComprehensionExpr, Expr, IdedExpr};
use cel::objects::{Key, Map};
use cel::{Context, Env, Program, Value};
use kernel::{Error, ErrorCode, ErrorKind, Result};
use moka::sync::Cache;

use crate::attributes::{AttributeValue, Attributes};

/// The expression cannot be used.
pub const INVALID_EXPRESSION: ErrorCode = ErrorCode {
    name: "INVALID_EXPRESSION",
    kind: ErrorKind::Invalid,
    title: "A filter or booster is not a usable CEL expression",
};

/// The longest expression, in bytes.
pub const MAX_BYTES: usize = 2_000;
const MAX_DEPTH: usize = 48;
const MAX_BRACKETS: usize = 32;
const CACHED: u64 = 1_024;
const VARIABLES: [&str; 3] = ["id", "type", "attributes"];
/// Each takes time in proportion to its arguments at most.
const FUNCTIONS: [&str; 11] =
    ["size", "contains", "startsWith", "endsWith", "int", "uint", "double", "string", "bool", "min", "max"];

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

/// A compiled expression.
pub struct Expression {
    program: Program,
    env: Arc<Env>,
    uses_attributes: bool,
}

impl Expression {
    /// Whether the expression is `true` of the entity. An evaluation that fails is not.
    #[must_use]
    pub fn holds(&self, subject: Subject<'_>) -> bool {
        matches!(self.evaluate(subject), Some(Value::Bool(true)))
    }

    /// The number that the expression gives for the entity; none where it fails or gives something else.
    #[must_use]
    pub fn number(&self, subject: Subject<'_>) -> Option<f64> {
        match self.evaluate(subject)? {
            Value::Float(number) => Some(number),
            Value::Int(number) => Some(number as f64),
            Value::UInt(number) => Some(number as f64),
            _ => None,
        }
        .filter(|number| number.is_finite())
    }

    fn evaluate(&self, subject: Subject<'_>) -> Option<Value> {
        let mut context = Context::with_env(Arc::clone(&self.env));
        context.add_variable_from_value("id", subject.id);
        context.add_variable_from_value("type", subject.entity_type);
        if self.uses_attributes {
            context.add_variable_from_value("attributes", attributes_value(subject.attributes));
        }
        self.program.execute(&context).ok()
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Expression").finish_non_exhaustive()
    }
}

fn attributes_value(attributes: &Attributes) -> Value {
    let entries = attributes.iter().map(|(name, value)| (Key::from(name.as_str()), value_of(value)));
    Value::Map(Map { map: Arc::new(entries.collect::<HashMap<_, _>>()) })
}

fn value_of(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::Boolean(value) => Value::Bool(*value),
        AttributeValue::Number(value) => Value::Float(*value),
        AttributeValue::Text(text) => Value::from(text.as_str()),
        AttributeValue::Tags(tags) => {
            Value::List(Arc::new(tags.iter().map(|tag| Value::from(tag.as_str())).collect()))
        }
    }
}

/// Compiles expressions, and remembers the latest ones.
pub struct Expressions {
    env: Arc<Env>,
    compiled: Cache<String, Arc<Expression>>,
}

impl Default for Expressions {
    fn default() -> Self {
        Self { env: Arc::new(Env::stdlib()), compiled: Cache::new(CACHED) }
    }
}

impl fmt::Debug for Expressions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Expressions").field("cached", &self.compiled.entry_count()).finish()
    }
}

impl Expressions {
    /// Compiles `text`; `field` is the parameter that it came in.
    ///
    /// # Errors
    /// `INVALID_EXPRESSION` with what is wrong.
    pub fn compile(&self, text: &str, field: &str) -> Result<Arc<Expression>> {
        if let Some(found) = self.compiled.get(text) {
            return Ok(found);
        }
        let compiled = self
            .check_and_compile(text)
            .map_err(|message| Error::new(INVALID_EXPRESSION, message).with_field(field))?;
        let compiled = Arc::new(compiled);
        self.compiled.insert(text.to_owned(), Arc::clone(&compiled));
        Ok(compiled)
    }

    fn check_and_compile(&self, text: &str) -> Result<Expression, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("an expression has at most {MAX_BYTES} bytes, this one {}", text.len()));
        }
        check_brackets(text)?;
        let program = self.env.compile(text).map_err(|errors| {
            let first = errors.to_string();
            first.lines().next().unwrap_or("cannot be parsed").to_owned()
        })?;
        Check { scope: VARIABLES.to_vec(), depth: 0, in_loop: false }.expression(program.expression())?;
        let references = program.references();
        let uses_attributes = references.has_variable("attributes");
        Ok(Expression { uses_attributes, program, env: Arc::clone(&self.env) })
    }
}

/// Bounds the recursion of the parser before it begins.
fn check_brackets(text: &str) -> Result<(), String> {
    let mut depth = 0_usize;
    let mut operators = 0_usize;
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b'!' | b'-' | b'?' => operators += 1,
            _ => {}
        }
        if depth > MAX_BRACKETS {
            return Err(format!("brackets are nested at most {MAX_BRACKETS} deep"));
        }
    }
    if operators > 200 { Err("too many operators".to_owned()) } else { Ok(()) }
}

/// Bounds the work of one evaluation, and refuses names that nothing answers to.
#[derive(Clone)]
struct Check<'a> {
    scope: Vec<&'a str>,
    depth: usize,
    in_loop: bool,
}

impl<'a> Check<'a> {
    fn expression(&self, expression: &'a IdedExpr) -> Result<(), String> {
        if self.depth > MAX_DEPTH {
            return Err(format!("an expression is nested at most {MAX_DEPTH} deep"));
        }
        let inner = Self { depth: self.depth + 1, ..self.clone() };
        match &expression.expr {
            Expr::Ident(name) if !self.scope.contains(&name.as_str()) => {
                Err(format!("`{name}` is not known; use {}", VARIABLES.join(", ")))
            }
            Expr::Call(call) => {
                let is_function = call.func_name.starts_with(|first: char| first.is_ascii_alphabetic());
                if is_function && !FUNCTIONS.contains(&call.func_name.as_str()) {
                    return Err(format!("`{}` is not known; use {}", call.func_name, FUNCTIONS.join(", ")));
                }
                call.target.iter().try_for_each(|target| inner.expression(target))?;
                call.args.iter().try_for_each(|argument| inner.expression(argument))
            }
            Expr::Comprehension(comprehension) => inner.comprehension(comprehension),
            Expr::List(list) => list.elements.iter().try_for_each(|element| inner.expression(element)),
            Expr::Select(select) => inner.expression(&select.operand),
            Expr::Map(_) | Expr::Struct(_) => Err("maps and messages cannot be made here".to_owned()),
            _ => Ok(()),
        }
    }

    /// A loop inside a loop could make the work grow without end.
    fn comprehension(&self, comprehension: &'a ComprehensionExpr) -> Result<(), String> {
        if self.in_loop {
            return Err("`all`, `exists`, `map` and `filter` cannot stand inside one another".to_owned());
        }
        self.expression(&comprehension.iter_range)?;
        self.expression(&comprehension.accu_init)?;
        let mut looped = Self { in_loop: true, ..self.clone() };
        looped.scope.extend([comprehension.iter_var.as_str(), comprehension.accu_var.as_str()]);
        looped.scope.extend(comprehension.iter_var2.as_deref());
        looped.expression(&comprehension.loop_cond)?;
        looped.expression(&comprehension.loop_step)?;
        looped.expression(&comprehension.result)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn film() -> Attributes {
        Attributes::from([
            ("title".to_owned(), AttributeValue::Text("The Long Road".to_owned())),
            ("year".to_owned(), AttributeValue::Number(1994.0)),
            ("price".to_owned(), AttributeValue::Number(3.5)),
            ("genres".to_owned(), AttributeValue::Tags(vec!["drama".to_owned(), "crime".to_owned()])),
            ("new".to_owned(), AttributeValue::Boolean(false)),
        ])
    }

    fn subject(attributes: &Attributes) -> Subject<'_> {
        Subject { id: "film-1", entity_type: "film", attributes }
    }

    #[test]
    fn filters_hold_where_they_should() {
        let attributes = film();
        let expressions = Expressions::default();
        let check = |text: &str, holds: bool| {
            let expression =
                expressions.compile(text, "filter").unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(expression.holds(subject(&attributes)), holds, "{text}");
        };
        check("true", true);
        check("attributes.year == 1994", true);
        check("attributes.year >= 1990 && attributes.price < 4", true);
        check("attributes.price < 3.5", false);
        check("'drama' in attributes.genres", true);
        check("'comedy' in attributes.genres", false);
        check("attributes.genres.exists(genre, genre.startsWith('cr'))", true);
        check("attributes.title.contains('Long')", true);
        check("type == 'film' && id != 'film-2'", true);
        check("!attributes.new", true);
        check("attributes.missing == 1", false);
        check("has(attributes.missing)", false);
        check("!has(attributes.missing) || attributes.missing > 3", true);
        check("attributes.year", false);
        check("attributes.title < 3", false);
        check("size(attributes.genres) == 2", true);
    }

    #[test]
    fn boosters_give_numbers() {
        let attributes = film();
        let expressions = Expressions::default();
        let check = |text: &str, number: Option<f64>| {
            let expression = expressions.compile(text, "boost").unwrap();
            assert_eq!(expression.number(subject(&attributes)), number, "{text}");
        };
        check("2", Some(2.0));
        check("attributes.price * 2.0", Some(7.0));
        check("'crime' in attributes.genres ? 1.5 : 1.0", Some(1.5));
        check("'a'", None);
        check("1.0 / 0.0", None);
        check("attributes.missing", None);
    }

    #[test]
    fn hostile_expressions_are_refused() {
        let expressions = Expressions::default();
        let check = |text: &str, part: &str| {
            let error = expressions.compile(text, "filter").map(|_| ()).unwrap_err();
            assert_eq!(error.code(), INVALID_EXPRESSION);
            assert!(error.to_string().contains(part), "{error} does not say `{part}`");
        };
        check("", "filter");
        check("1 +", "filter");
        check("user.secret == 1", "`user` is not known");
        check(&"x".repeat(2_001), "at most 2000 bytes");
        check(&format!("{}1{}", "(".repeat(40), ")".repeat(40)), "nested at most 32");
        check(&format!("{}true", "!".repeat(500)), "too many operators");
        check("attributes.a.all(x, attributes.a.all(y, x == y))", "inside one another");
        check("attributes.title.matches('(a+)+$')", "matches");
        check("{'a': 1}.a == 1", "maps");
    }

    proptest! {
        #[test]
        fn any_text_is_compiled_or_refused(text in "\\PC{0,80}") {
            let attributes = film();
            if let Ok(expression) = Expressions::default().compile(&text, "filter") {
                let _ = expression.holds(subject(&attributes));
            }
        }

        #[test]
        fn any_sentence_is_compiled_or_refused(
            words in proptest::collection::vec(prop_oneof![
                Just("attributes"), Just("."), Just("year"), Just("("), Just(")"), Just("=="), Just("&&"), Just("!"),
                Just("1"), Just("'a'"), Just("in"), Just("["), Just("]"), Just("?"), Just(":"), Just("exists"),
                Just(","), Just("x"), Just("{"), Just("}"), Just("-"), Just("/"), Just("%"), Just("9223372036854775808"),
            ], 0..40),
        ) {
            let attributes = film();
            if let Ok(expression) = Expressions::default().compile(&words.join(" "), "filter") {
                let _ = expression.holds(subject(&attributes));
            }
        }
    }
}
