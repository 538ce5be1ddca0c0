//! Filters and boosters: any text is refused, or gives an expression that can be asked of any entity.

use recommend::attributes::{AttributeValue, Attributes};
use recommend::service::expression::{Expressions, Subject, split};

/// # Panics
/// Where a number that is not finite is given.
pub(crate) fn expression(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let attributes = Attributes::from([
        ("price".to_owned(), AttributeValue::Number(12.5)),
        ("new".to_owned(), AttributeValue::Boolean(true)),
        ("title".to_owned(), AttributeValue::Text("Alien".to_owned())),
        ("tags".to_owned(), AttributeValue::Tags(vec!["space".to_owned()])),
    ]);
    let expressions = Expressions::default();
    for part in split(text, ';') {
        let Ok(expression) = expressions.compile(part, "boost") else { continue };
        for attributes in [&Attributes::new(), &attributes] {
            let subject = Subject { id: "film-1", entity_type: "film", attributes };
            // What would take long is not asked, as in a request.
            if expression.work(subject) > 1_000_000 {
                continue;
            }
            let prepared = subject.prepare(&[&expression]);
            let _ = expression.holds(&prepared);
            let number = expression.number(&prepared).unwrap_or_default();
            assert!(number.is_finite(), "a number that an expression gives is finite");
        }
    }
}
