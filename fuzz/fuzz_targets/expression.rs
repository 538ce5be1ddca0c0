//! Filters and boosters: any text is refused or gives an expression that can be asked of any entity.
#![no_main]

use libfuzzer_sys::fuzz_target;
use recommend::attributes::{AttributeValue, Attributes};
use recommend::service::expression::{Expressions, Subject};

fuzz_target!(|text: &str| {
    let Ok(expression) = Expressions::default().compile(text, "filter") else { return };
    let attributes = Attributes::from([
        ("price".to_owned(), AttributeValue::Number(12.5)),
        ("new".to_owned(), AttributeValue::Boolean(true)),
        ("title".to_owned(), AttributeValue::Text("Alien".to_owned())),
        ("tags".to_owned(), AttributeValue::Tags(vec!["space".to_owned()])),
    ]);
    for attributes in [&Attributes::new(), &attributes] {
        let subject = Subject { id: "film-1", entity_type: "film", attributes };
        let _ = expression.holds(subject);
        let _ = expression.number(subject);
    }
});
