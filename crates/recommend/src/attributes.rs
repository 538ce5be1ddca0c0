//! Typed attributes of entities and users: a number, a boolean, a text or a list of tags under a name.
//!
//! Refuses: nested objects, nulls, lists of anything but text, numbers that are not finite, and whatever is
//! longer than the limits below. To add one more kind of value: add a variant, read it in `ValueVisitor`,
//! bound it in [`AttributeValue::check`], and say in `algorithms::content` what it means for similarity.

use std::collections::BTreeMap;
use std::fmt;

use kernel::{Error, Result, codes};
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, OneOfBuilder, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// The longest attribute name, in bytes.
pub const MAX_KEY_BYTES: usize = 255;
/// The longest text, in characters.
pub const MAX_TEXT_CHARS: usize = 10_000;
/// The most tags in one attribute.
pub const MAX_TAGS: usize = 1_000;
/// The longest tag, in bytes.
pub const MAX_TAG_BYTES: usize = 1_000;

// Above this an integer has no exact 64-bit float, so that printing it as an integer would claim too much.
const MAX_EXACT_INTEGER: f64 = 9_007_199_254_740_992.0;

/// Attributes by name, in the order of their names.
pub type Attributes = BTreeMap<String, AttributeValue>;

/// One value. On the wire it is plain JSON: `19.5`, `true`, `"text"`, `["a", "b"]`.
#[derive(Debug, Clone, PartialEq)]
pub enum AttributeValue {
    /// True or false.
    Boolean(bool),
    /// A finite number; integers above 2^53 lose digits.
    Number(f64),
    /// A text or the name of a category.
    Text(String),
    /// A list of tags; may be empty.
    Tags(Vec<String>),
}

impl AttributeValue {
    /// Checks the limits. `field` is the name that an error carries, such as `attributes.price`.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` that names `field`.
    pub fn check(&self, field: &str) -> Result<()> {
        match self {
            Self::Boolean(_) => Ok(()),
            Self::Number(number) if number.is_finite() => Ok(()),
            Self::Number(number) => {
                Err(fault(field, format!("a number must be finite, this one is {number}")))
            }
            // The number of bytes bounds the number of characters, and is free.
            Self::Text(text) if text.len() <= MAX_TEXT_CHARS => Ok(()),
            Self::Text(text) => match text.chars().count() {
                count if count > MAX_TEXT_CHARS => Err(fault(
                    field,
                    format!("a text has at most {MAX_TEXT_CHARS} characters, this one has {count}"),
                )),
                _ => Ok(()),
            },
            Self::Tags(tags) => check_tags(field, tags),
        }
    }
}

impl ToSchema for AttributeValue {
    fn name() -> std::borrow::Cow<'static, str> {
        "AttributeValue".into()
    }
}

impl PartialSchema for AttributeValue {
    fn schema() -> RefOr<Schema> {
        let of = |kind| ObjectBuilder::new().schema_type(SchemaType::Type(kind));
        let text = of(Type::String).max_length(Some(MAX_TEXT_CHARS));
        let tags = ArrayBuilder::new().items(of(Type::String)).max_items(Some(MAX_TAGS));
        let schema = OneOfBuilder::new()
            .description(Some("A truth, a number, a text, or a list of tags."))
            .item(of(Type::Boolean))
            .item(of(Type::Number))
            .item(text)
            .item(tags);
        Schema::OneOf(schema.build()).into()
    }
}

fn check_tags(field: &str, tags: &[String]) -> Result<()> {
    if tags.len() > MAX_TAGS {
        return Err(fault(field, format!("at most {MAX_TAGS} tags, here are {}", tags.len())));
    }
    match tags.iter().position(|tag| tag.len() > MAX_TAG_BYTES) {
        Some(at) => Err(fault(
            &format!("{field}[{at}]"),
            format!("a tag has at most {MAX_TAG_BYTES} bytes, this one has {}", tags[at].len()),
        )),
        None => Ok(()),
    }
}

fn fault(field: &str, message: String) -> Error {
    Error::new(codes::VALIDATION_ERROR, message).with_field(field)
}

/// Checks names and values. `parent` is the field that holds the attributes, such as `attributes`.
///
/// # Errors
/// `VALIDATION_ERROR` that names the first attribute that is out of its limits.
pub fn check_attributes(attributes: &Attributes, parent: &str) -> Result<()> {
    for (key, value) in attributes {
        check_key(key).map_err(|message| fault(parent, message))?;
        value.check(&format!("{parent}.{key}"))?;
    }
    Ok(())
}

fn check_key(key: &str) -> Result<(), String> {
    match key.len() {
        0 => Err("an attribute must have a name".to_owned()),
        1..=MAX_KEY_BYTES => Ok(()),
        length => {
            Err(format!("the name of an attribute has at most {MAX_KEY_BYTES} bytes, this one has {length}"))
        }
    }
}

/// Reads attributes so that the path of an error names the attribute: `#[serde(deserialize_with =
/// "deserialize_attributes")]`. Limits are checked too.
///
/// # Errors
/// What is not acceptable of the attribute.
pub fn deserialize_attributes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Attributes, D::Error> {
    deserializer.deserialize_map(AttributesVisitor)
}

struct AttributesVisitor;

/// A value within its limits. Checked as it is read, while the path of an error still has its name.
struct Checked(AttributeValue);

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = AttributeValue::deserialize(deserializer)?;
        value.check("").map_err(|error| match error.field() {
            Some(place) if !place.is_empty() => de::Error::custom(&error),
            _ => de::Error::custom(error.message()),
        })?;
        Ok(Self(value))
    }
}

impl<'de> Visitor<'de> for AttributesVisitor {
    type Value = Attributes;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of attributes")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Attributes, A::Error> {
        let mut attributes = Attributes::new();
        while let Some(key) = map.next_key::<String>()? {
            check_key(&key).map_err(de::Error::custom)?;
            let Checked(value) = map.next_value()?;
            attributes.insert(key, value);
        }
        Ok(attributes)
    }
}

/// The form in formats that do not describe themselves, where a value must say what it is.
#[derive(Serialize, Deserialize)]
enum Tagged {
    Boolean(bool),
    Number(f64),
    Text(String),
    Tags(Vec<String>),
}

impl Serialize for AttributeValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            let tagged = match self {
                Self::Boolean(flag) => Tagged::Boolean(*flag),
                Self::Number(number) => Tagged::Number(*number),
                Self::Text(text) => Tagged::Text(text.clone()),
                Self::Tags(tags) => Tagged::Tags(tags.clone()),
            };
            return tagged.serialize(serializer);
        }
        match self {
            Self::Boolean(value) => serializer.serialize_bool(*value),
            // A year came in as `1995` and goes out as `1995`, not as `1995.0`.
            Self::Number(value) if value.fract() == 0.0 && value.abs() <= MAX_EXACT_INTEGER => {
                serializer.serialize_i64(*value as i64)
            }
            Self::Number(value) => serializer.serialize_f64(*value),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Tags(tags) => tags.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for AttributeValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return Ok(match Tagged::deserialize(deserializer)? {
                Tagged::Boolean(flag) => Self::Boolean(flag),
                Tagged::Number(number) => Self::Number(number),
                Tagged::Text(text) => Self::Text(text),
                Tagged::Tags(tags) => Self::Tags(tags),
            });
        }
        deserializer.deserialize_any(ValueVisitor)
    }
}

// By hand, because a derived untagged enum says only that nothing matched.
struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = AttributeValue;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a number, a boolean, a text or a list of texts")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<AttributeValue, E> {
        Ok(AttributeValue::Boolean(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<AttributeValue, E> {
        Ok(AttributeValue::Number(value as f64))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<AttributeValue, E> {
        Ok(AttributeValue::Number(value as f64))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<AttributeValue, E> {
        if value.is_finite() {
            Ok(AttributeValue::Number(value))
        } else {
            Err(de::Error::custom(format!("a number must be finite, this one is {value}")))
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<AttributeValue, E> {
        Ok(AttributeValue::Text(text.to_owned()))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<AttributeValue, E> {
        Ok(AttributeValue::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<AttributeValue, A::Error> {
        let mut tags = Vec::new();
        while let Some(tag) = sequence.next_element::<String>()? {
            if tags.len() == MAX_TAGS {
                return Err(de::Error::custom(format!("at most {MAX_TAGS} tags, here are more")));
            }
            tags.push(tag);
        }
        Ok(AttributeValue::Tags(tags))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Deserialize)]
    struct Holder {
        #[serde(deserialize_with = "deserialize_attributes")]
        attributes: Attributes,
    }

    #[test]
    fn wire_form_is_plain_json() {
        let check = |json: &str, expected: Result<&str, &str>| {
            let text = format!(r#"{{"attributes":{json}}}"#);
            let read = kernel::json::read::<Holder>(&text);
            let read =
                read.map_err(|fault| format!("{}: {}", fault.field.unwrap_or_default(), fault.message));
            match (read, expected) {
                (Ok(holder), Ok(again)) => {
                    assert_eq!(serde_json::to_string(&holder.attributes).unwrap(), again);
                }
                (Err(error), Err(part)) => assert!(error.contains(part), "{error} has no {part}"),
                (read, _) => panic!("{json}: {:?}", read.map(|holder| holder.attributes)),
            }
        };
        check("{}", Ok("{}"));
        check(r#"{"b":1995,"a":true}"#, Ok(r#"{"a":true,"b":1995}"#));
        check(r#"{"price":19.5,"big":1e300}"#, Ok(r#"{"big":1e+300,"price":19.5}"#));
        check(r#"{"t":"x\u00fc","g":["a","b"],"n":[]}"#, Ok(r#"{"g":["a","b"],"n":[],"t":"xü"}"#));
        check(r#"{"price":{"amount":1}}"#, Err("price: invalid type: map"));
        check(r#"{"price":null}"#, Err("price: invalid type: null"));
        check(r#"{"tags":["a",1]}"#, Err("tags[1]: invalid type: integer"));
        check(r#"{"tags":[["a"]]}"#, Err("tags[0]: invalid type: sequence"));
        check(r#"{"":1}"#, Err("an attribute must have a name"));
        check("[]", Err("an object of attributes"));
        check(&format!(r#"{{"{}":1}}"#, "k".repeat(256)), Err("at most 255 bytes"));
        check(&format!(r#"{{"t":"{}"}}"#, "é".repeat(10_001)), Err("t: a text has at most 10000 characters"));
        check(&format!(r#"{{"g":[{}"x"]}}"#, r#""x","#.repeat(1_000)), Err("g: at most 1000 tags"));
        check(
            &format!(r#"{{"g":["a","{}"]}}"#, "x".repeat(1_001)),
            Err("g: [1]: a tag has at most 1000 bytes"),
        );
    }

    #[test]
    fn limits_name_the_field() {
        let check = |value: AttributeValue, field: Option<&str>| {
            let attributes = Attributes::from([("k".to_owned(), value)]);
            let found = check_attributes(&attributes, "attributes").err();
            assert_eq!(found.as_ref().and_then(Error::field), field, "{found:?}");
        };
        check(AttributeValue::Number(f64::MAX), None);
        check(AttributeValue::Number(f64::NAN), Some("attributes.k"));
        check(AttributeValue::Number(f64::NEG_INFINITY), Some("attributes.k"));
        check(AttributeValue::Text("é".repeat(10_000)), None);
        check(AttributeValue::Text("é".repeat(10_001)), Some("attributes.k"));
        check(AttributeValue::Tags(vec!["x".repeat(1_000); 1_000]), None);
        check(AttributeValue::Tags(vec![String::new(); 1_001]), Some("attributes.k"));
        check(AttributeValue::Tags(vec![String::new(), "x".repeat(1_001)]), Some("attributes.k[1]"));
    }

    proptest! {
        #[test]
        fn values_round_trip(
            number in (-1_000_000_i64..1_000_000).prop_map(|thousandths| thousandths as f64 / 1e3), flag: bool, text in "\\PC{0,20}",
            tags in prop::collection::vec("\\PC{0,8}", 0..5),
        ) {
            for value in [AttributeValue::Number(number), AttributeValue::Boolean(flag),
                AttributeValue::Text(text), AttributeValue::Tags(tags)] {
                let bytes = postcard::to_allocvec(&value).unwrap();
                prop_assert_eq!(&postcard::from_bytes::<AttributeValue>(&bytes).unwrap(), &value);
                let json = serde_json::to_string(&value).unwrap();
                prop_assert_eq!(&serde_json::from_str::<AttributeValue>(&json).unwrap(), &value, "{}", json);
            }
        }
    }
}
