//! Expressions in CEL (github.com/google/cel-spec) that configuration has: what they may be made of, and what they give.
//!
//! It refuses more than 2,000 bytes, deep nesting, loops (`all`, `exists`, `map`, `filter`), maps, and functions that are not
//! among [`FUNCTIONS`]: what is left reads or copies what it is given as often as it names it, and that is bounded.
//!
//! To allow one more function: a line in [`FUNCTIONS`]; it must take time in proportion to its arguments.

use std::fmt;
use std::sync::Arc;

use cel::common::ast::{Expr, IdedExpr};
use cel::{Context, Env, ExecutionError, Program};
use serde::Serialize;
use serde::ser::{SerializeMap, SerializeSeq, Serializer};
use serde_json::{Map, Value};

const MOST_BYTES: usize = 2_000;
const MAX_DEPTH: usize = 48;
const MAX_BRACKETS: usize = 32;
const MAX_OPERATORS: usize = 200;
/// The most of a failure that is told, in characters: it may quote what the message holds.
const MAX_MESSAGE_CHARS: usize = 200;
/// The longest text that an expression gives, in bytes.
const MAX_TEXT_BYTES: usize = 4_096;
const FUNCTIONS: [&str; 9] =
    ["size", "contains", "startsWith", "endsWith", "int", "uint", "double", "string", "bool"];

/// What expressions are compiled and evaluated by.
#[derive(Clone)]
pub(super) struct Language {
    env: Arc<Env>,
    variables: &'static [&'static str],
}

impl fmt::Debug for Language {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Language").finish_non_exhaustive()
    }
}

/// A compiled expression.
pub(super) struct Expression {
    program: Program,
    text: String,
}

impl fmt::Debug for Expression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Expression").finish_non_exhaustive()
    }
}

/// What expressions read.
pub(super) struct Seen {
    context: Context<'static, 'static>,
}

impl Seen {
    /// By the variables of the language, in their order.
    pub(super) fn new(language: &Language, objects: &[&Map<String, Value>]) -> Self {
        let mut context = Context::with_env(Arc::clone(&language.env));
        for (name, object) in language.variables.iter().zip(objects) {
            // A JSON object has this form; where it had none, its name would not be known.
            let _ = context.add_variable(*name, Doubles::Object(object));
        }
        Self { context }
    }
}

impl Language {
    /// Of expressions that know these names.
    pub(super) fn of(variables: &'static [&'static str]) -> Self {
        Self { env: Arc::new(Env::stdlib()), variables }
    }

    pub(super) fn compile(&self, text: &str) -> Result<Expression, String> {
        if text.len() > MOST_BYTES {
            return Err(format!("an expression has at most {MOST_BYTES} bytes, this one {}", text.len()));
        }
        check_brackets(text)?;
        let program = self.env.compile(text).map_err(|errors| {
            let told = errors.to_string();
            told.lines().next().unwrap_or("cannot be parsed").to_owned()
        })?;
        check(program.expression(), self.variables, 0)?;
        Ok(Expression { program, text: text.to_owned() })
    }
}

impl Expression {
    /// Whether a name stands in it.
    pub(super) fn names(&self, name: &str) -> bool {
        self.text.contains(name)
    }

    /// What it gives, as JSON; none where it is null or asks for a name that is not there.
    pub(super) fn value(&self, seen: &Seen) -> Result<Option<Value>, String> {
        json(self.found(seen)?)
    }

    /// The same, but for NaN and infinities, which are refused.
    pub(super) fn finite_value(&self, seen: &Seen) -> Result<Option<Value>, String> {
        match self.found(seen)? {
            cel::Value::Float(value) if !value.is_finite() => Err(format!("it gives {value}")),
            found => json(found),
        }
    }

    fn found(&self, seen: &Seen) -> Result<cel::Value, String> {
        match self.program.execute(&seen.context) {
            Err(ExecutionError::NoSuchKey(_)) => Ok(cel::Value::Null),
            found => found.map_err(|error| error.to_string().chars().take(MAX_MESSAGE_CHARS).collect()),
        }
    }
}

fn json(found: cel::Value) -> Result<Option<Value>, String> {
    Ok(Some(match found {
        cel::Value::Null => return Ok(None),
        cel::Value::Bool(value) => Value::from(value),
        cel::Value::Int(value) => Value::from(value),
        cel::Value::UInt(value) => Value::from(value),
        // NaN and infinities have no JSON form; as text they are told for what they are.
        cel::Value::Float(value) if !value.is_finite() => Value::from(value.to_string()),
        cel::Value::Float(value) => Value::from(value),
        cel::Value::String(text) if text.len() <= MAX_TEXT_BYTES => Value::from(text.as_str()),
        cel::Value::String(text) => {
            return Err(format!("it gives a text of {} bytes, {MAX_TEXT_BYTES} at most", text.len()));
        }
        _ => return Err("it gives neither a number, a text, true nor false".to_owned()),
    }))
}

/// Bounds the recursion of the parser before it begins.
fn check_brackets(text: &str) -> Result<(), String> {
    let (mut depth, mut operators) = (0_usize, 0_usize);
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
    if operators > MAX_OPERATORS { Err("too many operators".to_owned()) } else { Ok(()) }
}

fn check(expression: &IdedExpr, variables: &[&str], depth: usize) -> Result<(), String> {
    let check = |inner: &IdedExpr| check(inner, variables, depth + 1);
    if depth > MAX_DEPTH {
        return Err(format!("an expression is nested at most {MAX_DEPTH} deep"));
    }
    match &expression.expr {
        Expr::Ident(name) if !variables.contains(&name.as_str()) => {
            Err(format!("`{name}` is not known; use {}", variables.join(", ")))
        }
        Expr::Call(call) => {
            let is_function = call.func_name.starts_with(|first: char| first.is_ascii_alphabetic());
            if is_function && !FUNCTIONS.contains(&call.func_name.as_str()) {
                return Err(format!("`{}` is not known; use {}", call.func_name, FUNCTIONS.join(", ")));
            }
            call.target.iter().try_for_each(|target| check(target))?;
            call.args.iter().try_for_each(check)
        }
        Expr::Comprehension(_) => Err("`all`, `exists`, `map` and `filter` cannot stand here".to_owned()),
        Expr::List(list) => list.elements.iter().try_for_each(check),
        Expr::Select(select) => check(&select.operand),
        Expr::Map(_) | Expr::Struct(_) => Err("maps and messages cannot be made here".to_owned()),
        _ => Ok(()),
    }
}

/// JSON with every number as a double, so that 31 and 31.2 are of one type.
enum Doubles<'a> {
    Object(&'a Map<String, Value>),
    Value(&'a Value),
}

fn object<S: Serializer>(object: &Map<String, Value>, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(object.len()))?;
    for (name, value) in object {
        map.serialize_entry(name, &Doubles::Value(value))?;
    }
    map.end()
}

impl Serialize for Doubles<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Object(members) => object(members, serializer),
            Self::Value(Value::Object(members)) => object(members, serializer),
            Self::Value(Value::Array(array)) => {
                let mut list = serializer.serialize_seq(Some(array.len()))?;
                for value in array {
                    list.serialize_element(&Doubles::Value(value))?;
                }
                list.end()
            }
            Self::Value(Value::Number(number)) => {
                serializer.serialize_f64(number.as_f64().unwrap_or(f64::NAN))
            }
            Self::Value(other) => other.serialize(serializer),
        }
    }
}
