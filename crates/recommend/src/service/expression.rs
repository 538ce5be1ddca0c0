//! Filters and boosters: expressions in CEL (the Common Expression Language, github.com/google/cel-spec) over one
//! entity.
//!
//! An expression sees `id`, `type` and `attributes`. A filter keeps an entity where it is `true`; a booster gives
//! the factor by which the entity's odds grow. An entity that lacks an attribute the expression asks for is not
//! kept, and not boosted: use `has(attributes.price)` to say otherwise. Numbers are doubles: they compare with whole
//! numbers, are reckoned with `2.0` and not with `2`, and `int(...)` makes whole ones for `%`.
//!
//! It refuses what could take long: more than 2,000 characters, deep nesting, one `all`/`exists`/`map`/`filter`
//! inside another, and regular expressions. What is left takes as long as [`Expression::work`] says, at most.

mod check;
mod prepared;
mod split;
mod work;

use std::fmt;
use std::sync::Arc;

use cel::{Env, Program, Value};
use kernel::{Error, ErrorCode, ErrorKind, Result};
use moka::sync::Cache;

use check::{Check, check_brackets};
use prepared::Needs;

pub use prepared::{Prepared, Subject};
pub use split::split;

/// The expression cannot be used.
pub const INVALID_EXPRESSION: ErrorCode = ErrorCode {
    name: "INVALID_EXPRESSION",
    kind: ErrorKind::Invalid,
    title: "A filter or booster is not a usable CEL expression",
};

/// The longest expression, in bytes.
pub const MAX_BYTES: usize = 2_000;
/// The most of a failure that is told, in characters: it may quote what the entity holds.
const MAX_MESSAGE_CHARS: usize = 200;
const CACHED: u64 = 1_024;
const VARIABLES: [&str; 3] = ["id", "type", "attributes"];

/// Why an expression says nothing about an entity.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure(Why);

#[derive(Debug, Clone, PartialEq)]
enum Why {
    Evaluation(cel::ExecutionError),
    OtherThan(&'static str, &'static str),
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = match &self.0 {
            Why::OtherThan(wanted, found) => return write!(formatter, "it gives {found} and not {wanted}"),
            Why::Evaluation(cel::ExecutionError::NoSuchKey(name)) => {
                format!("`{name}` is missing; guard it with `has(...)`")
            }
            Why::Evaluation(error) => error.to_string(),
        };
        let mut shown: String = message.chars().take(MAX_MESSAGE_CHARS).collect();
        if shown.len() < message.len() {
            shown.push_str("...");
        }
        formatter.write_str(&shown)?;
        if message.starts_with("Unsupported binary operator") {
            formatter.write_str("; numbers are doubles, so write `2.0`, or `int(...)` around them")?;
        }
        Ok(())
    }
}

/// A compiled expression.
pub struct Expression {
    program: Program,
    env: Arc<Env>,
    needs: Needs,
}

impl Expression {
    /// The units of work that asking it of the entity takes at most; a unit is about a tenth of a microsecond.
    #[must_use]
    pub fn work(&self, subject: Subject<'_>) -> u64 {
        work::work(self.program.expression(), subject)
    }

    /// Whether the expression is `true` of the entity.
    ///
    /// # Errors
    /// Where the evaluation fails, or gives neither true nor false.
    pub fn holds(&self, prepared: &Prepared<'_>) -> Result<bool, Failure> {
        match self.evaluate(prepared)? {
            Value::Bool(value) => Ok(value),
            other => Err(Failure(Why::OtherThan("true or false", kind(&other)))),
        }
    }

    /// The number that the expression gives for the entity; always finite.
    ///
    /// # Errors
    /// Where the evaluation fails, or gives something else.
    pub fn number(&self, prepared: &Prepared<'_>) -> Result<f64, Failure> {
        let number = match self.evaluate(prepared)? {
            Value::Float(number) => number,
            Value::Int(number) => number as f64,
            Value::UInt(number) => number as f64,
            other => return Err(Failure(Why::OtherThan("a number", kind(&other)))),
        };
        let found = if number.is_nan() { "NaN" } else { "an infinite one" };
        let otherwise = Failure(Why::OtherThan("a finite number", found));
        if number.is_finite() { Ok(number) } else { Err(otherwise) }
    }

    fn evaluate(&self, prepared: &Prepared<'_>) -> Result<Value, Failure> {
        self.program.execute(&prepared.context).map_err(|error| Failure(Why::Evaluation(error)))
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "true or false",
        Value::Int(_) | Value::UInt(_) | Value::Float(_) => "a number",
        Value::String(_) => "a text",
        Value::List(_) => "a list",
        _ => "something else",
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Expression").finish_non_exhaustive()
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
        Check::new(&VARIABLES).expression(program.expression())?;
        let needs = Needs::of(program.expression());
        Ok(Expression { needs, program, env: Arc::clone(&self.env) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::attributes::{AttributeValue, Attributes};

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
            let prepared = subject(&attributes).prepare(&[&expression]);
            assert_eq!(expression.holds(&prepared).unwrap_or(false), holds, "{text}");
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
        check("attributes.title.endsWith('d') && int('3') == 3 && uint(4) == 4u", true);
        check("string(2) == '2' && double('1.5') == 1.5 && bool('true')", true);
    }

    #[test]
    fn boosters_give_numbers() {
        let attributes = film();
        let expressions = Expressions::default();
        let check = |text: &str, number: Option<f64>| {
            let expression = expressions.compile(text, "boost").unwrap();
            let prepared = subject(&attributes).prepare(&[&expression]);
            assert_eq!(expression.number(&prepared).ok(), number, "{text}");
        };
        check("2", Some(2.0));
        check("attributes.price * 2.0", Some(7.0));
        check("'crime' in attributes.genres ? 1.5 : 1.0", Some(1.5));
        check("'a'", None);
        check("1.0 / 0.0", None);
        check("attributes.missing", None);
    }

    #[test]
    fn failures_say_why_and_stay_short() {
        let mut attributes = film();
        attributes.insert("text".to_owned(), AttributeValue::Text("long".repeat(2_000)));
        let expressions = Expressions::default();
        let check = |text: &str, part: &str| {
            let expression = expressions.compile(text, "filter").unwrap();
            let prepared = subject(&attributes).prepare(&[&expression]);
            let failure = expression.holds(&prepared).unwrap_err().to_string();
            assert!(failure.contains(part) && failure.len() < 400, "{text}: {failure}");
        };
        check("attributes.yaer > 2000", "`yaer` is missing; guard it with `has(...)`");
        check("attributes.year % 2 == 0", "`int(...)`");
        check("attributes.price * 2 > 3", "write `2.0`");
        check("1 / 0 == 1", "Division by zero");
        check("9223372036854775807 + 1 > 0", "Overflow");
        check("attributes.text - attributes.text", "...");
        check("attributes.year", "a number and not true or false");
        let halved = expressions.compile("int(attributes.year) % 2 == 0", "filter").unwrap();
        assert_eq!(halved.holds(&subject(&attributes).prepare(&[&halved])), Ok(true));
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
                let _ = expression.work(subject(&attributes));
                let _ = expression.holds(&subject(&attributes).prepare(&[&expression]));
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
                let _ = expression.work(subject(&attributes));
                let _ = expression.holds(&subject(&attributes).prepare(&[&expression]));
            }
        }
    }
}
