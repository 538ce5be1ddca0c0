//! What an expression may be made of, checked before it is evaluated for the first time.
//!
//! It refuses names and functions that nothing answers to, deep nesting, and a loop inside a loop. To allow one more
//! function: a line in [`FUNCTIONS`], and what it gives in `work.rs`.

use cel::common::ast::{ComprehensionExpr, Expr, IdedExpr};

const MAX_DEPTH: usize = 48;
const MAX_BRACKETS: usize = 32;
/// Each takes time in proportion to its arguments at most.
const FUNCTIONS: [&str; 9] =
    ["size", "contains", "startsWith", "endsWith", "int", "uint", "double", "string", "bool"];

/// Bounds the recursion of the parser before it begins.
pub(super) fn check_brackets(text: &str) -> Result<(), String> {
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
pub(super) struct Check<'a> {
    scope: Vec<&'a str>,
    depth: usize,
    in_loop: bool,
}

impl<'a> Check<'a> {
    /// A check in which `scope` is known.
    pub(super) fn new(scope: &[&'a str]) -> Self {
        Self { scope: scope.to_vec(), depth: 0, in_loop: false }
    }

    /// Walks the expression.
    pub(super) fn expression(&self, expression: &'a IdedExpr) -> Result<(), String> {
        if self.depth > MAX_DEPTH {
            return Err(format!("an expression is nested at most {MAX_DEPTH} deep"));
        }
        let inner = Self { depth: self.depth + 1, ..self.clone() };
        match &expression.expr {
            Expr::Ident(name) if !self.scope.contains(&name.as_str()) => {
                Err(format!("`{name}` is not known; use {}", super::VARIABLES.join(", ")))
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
