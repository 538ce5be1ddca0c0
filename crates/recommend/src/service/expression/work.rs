//! How much work an expression may be over one entity, told before it is evaluated.
//!
//! The expression is walked once, with the sizes of the entity's values in place of the values: both sides of a
//! choice count, a loop counts its body for every element, and an operation counts what it may read or copy. The
//! result bounds the time and the memory of the evaluation from above. It is exact for no expression, and the same
//! for the same entity on every machine.
//!
//! A unit is about a tenth of a microsecond. To add a function to the language: say in `Meter::call` what it gives.

use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, IdedExpr, LiteralValue};

use super::Subject;
use crate::attributes::AttributeValue;

/// What an evaluation costs, however small.
const BASE: u64 = 8;
/// Text that is read in one unit.
const BYTES_PER_UNIT: u64 = 64;

/// Operators that look at one bit of what their operands, which are counted, give.
const LOGIC: [&str; 4] = ["_&&_", "_||_", "!_", "@not_strictly_false"];

/// Bounds on a value.
#[derive(Debug, Clone, Copy)]
struct Shape {
    /// Units to read or to copy it all.
    size: u64,
    /// Steps of a loop over it.
    elements: u64,
    /// The size of its largest element.
    largest: u64,
}

impl Shape {
    const SCALAR: Self = Self { size: 1, elements: 0, largest: 1 };

    fn text(bytes: usize) -> Self {
        let size = 1 + bytes as u64 / BYTES_PER_UNIT;
        Self { size, elements: 0, largest: size }
    }

    fn attribute(value: &AttributeValue) -> Self {
        match value {
            AttributeValue::Boolean(_) | AttributeValue::Number(_) => Self::SCALAR,
            AttributeValue::Text(text) => Self::text(text.len()),
            AttributeValue::Tags(tags) => {
                let none = Self { size: 1, elements: 0, largest: 1 };
                tags.iter().fold(none, |list, tag| list.with(Self::text(tag.len())))
            }
        }
    }

    /// As a list with one more element.
    fn with(self, element: Self) -> Self {
        Self {
            size: self.size.saturating_add(element.size),
            elements: self.elements.saturating_add(1),
            largest: self.largest.max(element.size),
        }
    }

    /// As both, one after the other.
    fn and(self, other: Self) -> Self {
        Self {
            size: self.size.saturating_add(other.size),
            elements: self.elements.saturating_add(other.elements),
            largest: self.largest.saturating_add(other.largest),
        }
    }

    /// As one of them, whichever is the greater.
    fn or(self, other: Self) -> Self {
        Self {
            size: self.size.max(other.size),
            elements: self.elements.max(other.elements),
            largest: self.largest.max(other.largest),
        }
    }

    /// As one of its elements. What an element holds in turn is bounded by its size.
    fn element(self) -> Self {
        Self { size: self.largest, elements: self.largest, largest: self.largest }
    }
}

/// The units that evaluating `expression` over `subject` takes at most.
pub(super) fn work(expression: &IdedExpr, subject: Subject<'_>) -> u64 {
    let mut meter = Meter { subject, names: Vec::new(), times: 1, units: BASE };
    let result = meter.shape(expression);
    meter.charge(result.size);
    meter.units
}

/// Whether the node itself costs next to nothing, as the frame of a loop does.
fn is_free(expression: &Expr) -> bool {
    match expression {
        Expr::Call(call) => LOGIC.contains(&call.func_name.as_str()),
        Expr::Ident(name) => name.starts_with('@'),
        _ => false,
    }
}

struct Meter<'a> {
    subject: Subject<'a>,
    /// What loops bind, innermost last.
    names: Vec<(&'a str, Shape)>,
    /// How often what is walked now is evaluated.
    times: u64,
    units: u64,
}

impl<'a> Meter<'a> {
    fn charge(&mut self, units: u64) {
        self.units = self.units.saturating_add(units.saturating_mul(self.times));
    }

    fn shape(&mut self, expression: &'a IdedExpr) -> Shape {
        self.charge(u64::from(!is_free(&expression.expr)));
        match &expression.expr {
            Expr::Literal(LiteralValue::String(text)) => Shape::text(text.inner().len()),
            Expr::Literal(LiteralValue::Bytes(bytes)) => Shape::text(bytes.inner().len()),
            Expr::Ident(name) => self.named(name),
            Expr::Select(select) => match self.attribute(&select.operand, &select.field) {
                Some(shape) => {
                    if select.test {
                        Shape::SCALAR
                    } else {
                        shape
                    }
                }
                None => self.shape(&select.operand).element(),
            },
            Expr::List(list) => {
                let shapes = list.elements.iter().map(|element| self.shape(element));
                let made = shapes.fold(Shape::SCALAR, Shape::with);
                self.charge(made.size);
                made
            }
            Expr::Call(call) => self.call(call),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            _ => Shape::SCALAR,
        }
    }

    fn named(&mut self, name: &str) -> Shape {
        if let Some((_, shape)) = self.names.iter().rev().find(|(bound, _)| *bound == name) {
            return *shape;
        }
        match name {
            "id" => Shape::text(self.subject.id.len()),
            "type" => Shape::text(self.subject.entity_type.len()),
            "attributes" => {
                let attributes = self.subject.attributes.iter();
                let all = attributes.fold(Shape::SCALAR, |all, (name, value)| {
                    all.with(Shape::text(name.len()).and(Shape::attribute(value)))
                });
                // All of it is made for the expression.
                self.charge(all.size);
                all
            }
            _ => Shape::SCALAR,
        }
    }

    /// The attribute that `operand.field` is, where it is one.
    fn attribute(&mut self, operand: &IdedExpr, field: &str) -> Option<Shape> {
        let is_attributes = matches!(&operand.expr, Expr::Ident(name) if name == "attributes");
        if !is_attributes || self.names.iter().any(|(bound, _)| *bound == "attributes") {
            return None;
        }
        let shape = self.subject.attributes.get(field).map_or(Shape::SCALAR, Shape::attribute);
        self.charge(1 + shape.elements);
        Some(shape)
    }

    fn call(&mut self, call: &'a CallExpr) -> Shape {
        let parts = call.target.as_deref().into_iter().chain(&call.args);
        let shapes: Vec<Shape> = parts.map(|part| self.shape(part)).collect();
        let together = shapes.iter().copied().reduce(Shape::and).unwrap_or(Shape::SCALAR);
        match call.func_name.as_str() {
            name if LOGIC.contains(&name) => Shape::SCALAR,
            "_?_:_" => shapes.into_iter().skip(1).reduce(Shape::or).unwrap_or(Shape::SCALAR),
            "_[_]" | "_[?_]" | "_?._" => together.element(),
            "_+_" => {
                self.charge(together.size);
                together
            }
            // A number may have as many digits.
            "string" => {
                self.charge(together.size);
                together.and(Shape::text(350))
            }
            _ => {
                self.charge(together.size);
                Shape::SCALAR
            }
        }
    }

    fn comprehension(&mut self, comprehension: &'a ComprehensionExpr) -> Shape {
        let range = self.shape(&comprehension.iter_range);
        self.shape(&comprehension.accu_init);
        let outside = self.times;
        self.times = self.times.saturating_mul(range.elements);
        let element = range.element();
        self.names.push((&comprehension.accu_var, Shape::SCALAR));
        self.names.push((&comprehension.iter_var, element));
        self.names.extend(comprehension.iter_var2.as_deref().map(|name| (name, element)));
        // Every element is copied, and every step has a scope of its own.
        self.charge(element.size.saturating_add(2));
        self.shape(&comprehension.loop_cond);
        let step = self.shape(&comprehension.loop_step);
        self.charge(step.size);
        self.times = outside;
        self.shape(&comprehension.result);
        let bound = 2 + usize::from(comprehension.iter_var2.is_some());
        self.names.truncate(self.names.len() - bound);
        if matches!(comprehension.accu_init.expr, Expr::Literal(_)) {
            return Shape::SCALAR;
        }
        let size = range.elements.saturating_mul(step.size).saturating_add(1);
        Shape { size, elements: range.elements, largest: step.size }
    }
}

#[cfg(test)]
mod tests {
    use cel::Env;

    use super::*;
    use crate::attributes::Attributes;

    fn units(text: &str, tags: usize, bytes: usize) -> u64 {
        let attributes = Attributes::from([
            ("year".to_owned(), AttributeValue::Number(1994.0)),
            ("tags".to_owned(), AttributeValue::Tags(vec!["tag".to_owned(); tags])),
            ("text".to_owned(), AttributeValue::Text("x".repeat(bytes))),
        ]);
        let program = Env::stdlib().compile(text).unwrap();
        work(program.expression(), Subject { id: "a", entity_type: "film", attributes: &attributes })
    }

    #[test]
    fn work_counts_what_is_touched() {
        let check = |text: &str, tags: usize, bytes: usize, range: std::ops::RangeInclusive<u64>| {
            let units = units(text, tags, bytes);
            assert!(range.contains(&units), "{text} over {tags} tags and {bytes} bytes: {units}");
        };
        check("true", 1_000, 10_000, 1..=12);
        // What is not named does not count.
        check("attributes.year > 2000.0", 1_000, 10_000, 5..=25);
        check("'tag' in attributes.tags", 5, 0, 10..=30);
        check("'tag' in attributes.tags", 1_000, 0, 1_000..=3_000);
        check("attributes.text.contains('y')", 0, 10_000, 150..=500);
        check("attributes.tags.all(tag, tag == 'tag')", 5, 0, 40..=150);
        check("attributes.tags.all(tag, attributes.text.contains(tag))", 1_000, 10_000, 150_000..=400_000);
        check("attributes.tags.all(tag, tag in attributes.tags)", 1_000, 0, 1_000_000..=4_000_000);
        check("size(attributes) > 1", 1_000, 10_000, 1_000..=5_000);
        check("attributes['tags'].exists(tag, tag == 'x')", 1_000, 0, 1_000..=100_000_000);
    }

    #[test]
    fn what_grows_without_end_is_never_small() {
        let doubled = ".map(x, x + x)".repeat(30);
        assert!(units(&format!("[attributes.text]{doubled}.size() > 0"), 0, 10_000) > 1 << 30);
        let squared = ".map(x, attributes.tags)".repeat(12);
        assert!(units(&format!("attributes.tags{squared}.size() > 0"), 1_000, 0) > 1_000_000);
        assert_eq!(units(&format!("[attributes.text]{}", ".map(x, x + x)".repeat(200)), 0, 10_000), u64::MAX);
    }

    #[test]
    fn a_bound_name_is_not_the_attributes() {
        let bound = units("attributes.tags.all(attributes, attributes == 'a')", 2, 0);
        assert_eq!(bound, units("attributes.tags.all(x, x == 'a')", 2, 0));
    }
}
