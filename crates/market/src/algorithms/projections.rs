//! Custom projections: what the newest price, quote or bar of each key makes, declared in configuration, in CEL.
//!
//! An expression sees `event`: the price, quote or bar in the form of its topic, without what it has no value for. Numbers are
//! doubles. A field whose expression names something that is missing is left out; a `when` that does so is not true.
//!
//! It refuses expressions that could take long (see `algorithms::expression`), keys that are no text, and numbers that are not
//! finite. An expression that fails for one event says so for that event alone.
//!
//! To add something that projections can be made of: a variant of [`Origin`], and its topic in `topology::custom`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use super::expression::{Expression, Language, Seen};

const MOST_PROJECTIONS: usize = 100;
const MOST_FIELDS: usize = 64;
/// The longest key, in bytes.
const MOST_KEY_BYTES: usize = 300;
/// How much of the hash of a declaration names it, in characters.
const DEFINITION_CHARS: usize = 16;

/// A custom projection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Projection {
    /// Its name: `a-z 0-9 _ -`.
    pub name: String,
    /// What it is made of.
    pub from: Origin,
    /// An expression in CEL: only events of which this is true.
    #[serde(default)]
    pub when: Option<String>,
    /// An expression in CEL that gives a text: of each there is the newest. The instrument where missing.
    #[serde(default)]
    pub key: Option<String>,
    /// What is kept: expressions in CEL by the name of the field, `a-z A-Z 0-9 _`.
    pub fields: BTreeMap<String, String>,
    /// How long it says something after it happened, in seconds; for ever where missing.
    #[serde(default)]
    pub ttl_seconds: Option<u64>,
}

/// What a projection is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Origin {
    /// Ticks with a price that somebody traded at or published.
    #[serde(rename = "price")]
    Price,
    /// Ticks with a bid or an ask.
    #[serde(rename = "quote")]
    Quote,
    /// Revisions of bars of five minutes.
    #[serde(rename = "bar_5m")]
    Bar5m,
    /// Of an hour.
    #[serde(rename = "bar_1h")]
    Bar1h,
    /// Of a trading day.
    #[serde(rename = "bar_1d")]
    Bar1d,
}

impl Origin {
    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Price => "price",
            Self::Quote => "quote",
            Self::Bar5m => "bar_5m",
            Self::Bar1h => "bar_1h",
            Self::Bar1d => "bar_1d",
        }
    }
}

/// Why a projection cannot be used: which, what of it, and the reason.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{reason}")]
pub struct ProjectionFault {
    /// `NAME`, `NAME.when`, `NAME.fields.basis`.
    pub at: String,
    /// For people.
    pub reason: String,
}

/// Projections made ready.
#[derive(Debug)]
pub struct Projections {
    ready: Vec<Ready>,
    language: Language,
}

#[derive(Debug)]
struct Ready {
    projection: Projection,
    definition: String,
    when: Option<Expression>,
    key: Option<Expression>,
    fields: Vec<(String, Expression)>,
}

/// What an event makes of a projection.
#[derive(Debug, Clone, PartialEq)]
pub struct Made<'a> {
    /// The name of the projection.
    pub projection: &'a str,
    /// Names what it is declared as: what was made otherwise is another thing.
    pub definition: &'a str,
    /// Its key; none where that is the instrument.
    pub key: Option<String>,
    /// Its fields.
    pub data: Map<String, Value>,
}

impl Projections {
    /// Makes projections ready.
    ///
    /// # Errors
    /// [`ProjectionFault`].
    pub fn new(projections: &[Projection]) -> Result<Self, ProjectionFault> {
        if projections.len() > MOST_PROJECTIONS {
            let reason = format!("there are at most {MOST_PROJECTIONS} projections");
            return Err(ProjectionFault { at: String::new(), reason });
        }
        let language = Language::of(&["event"]);
        let mut ready: Vec<Ready> = Vec::new();
        for projection in projections {
            if ready.iter().any(|other| other.projection.name == projection.name) {
                return Err(projection.fault("", "there are two projections of this name"));
            }
            ready.push(Ready::new(projection, &language)?);
        }
        Ok(Self { ready, language })
    }

    /// As they were declared.
    pub fn declared(&self) -> impl Iterator<Item = &Projection> {
        self.ready.iter().map(|ready| &ready.projection)
    }

    /// The one of this name, and what names its declaration.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<(&Projection, &str)> {
        let found = self.ready.iter().find(|ready| ready.projection.name == name)?;
        Some((&found.projection, &found.definition))
    }

    /// Whether any is made of this.
    #[must_use]
    pub fn reads(&self, origin: Origin) -> bool {
        self.declared().any(|projection| projection.from == origin)
    }

    /// What an event that is all of these makes, projection by projection; why, where one fails.
    pub fn apply<'a>(
        &'a self,
        origins: &[Origin],
        mut event: Map<String, Value>,
    ) -> Vec<Result<Made<'a>, String>> {
        let mut wanted =
            self.ready.iter().filter(|ready| origins.contains(&ready.projection.from)).peekable();
        if wanted.peek().is_none() {
            return Vec::new();
        }
        // What has no value is missing, so that an expression that needs it is left out and does not fail.
        event.retain(|_, value| !value.is_null());
        let seen = Seen::new(&self.language, &[&event]);
        wanted.filter_map(|ready| ready.apply(&seen).transpose()).collect()
    }
}

impl Projection {
    fn fault(&self, part: &str, reason: impl Into<String>) -> ProjectionFault {
        ProjectionFault { at: format!("{}{part}", self.name), reason: reason.into() }
    }

    fn check(&self) -> Result<(), ProjectionFault> {
        let lawful =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
        if !(1..=64).contains(&self.name.len()) || !self.name.bytes().all(lawful) {
            return Err(self.fault("", "a name is 1 to 64 characters of a-z 0-9 _ -"));
        }
        if !(1..=MOST_FIELDS).contains(&self.fields.len()) {
            return Err(self.fault(".fields", format!("there are 1 to {MOST_FIELDS} fields")));
        }
        let lawful = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let is_name = |name: &String| (1..=64).contains(&name.len()) && name.bytes().all(lawful);
        if let Some(name) = self.fields.keys().find(|name| !is_name(name)) {
            let part = format!(".fields.{}", name.escape_debug());
            return Err(self.fault(&part, "a field is 1 to 64 characters of a-z A-Z 0-9 _"));
        }
        if self.ttl_seconds.is_some_and(|seconds| !(1..=3_153_600_000).contains(&seconds)) {
            return Err(self.fault(".ttl_seconds", "must be between 1 and 3,153,600,000"));
        }
        Ok(())
    }

    /// Names what is declared, but for how it is called and how long it lasts.
    fn definition(&self) -> String {
        let declared = serde_json::json!([self.from, self.when, self.key, self.fields]).to_string();
        blake3::hash(declared.as_bytes()).to_hex()[..DEFINITION_CHARS].to_owned()
    }
}

impl Ready {
    fn new(projection: &Projection, language: &Language) -> Result<Self, ProjectionFault> {
        projection.check()?;
        let compile =
            |part: &str, text: &str| language.compile(text).map_err(|reason| projection.fault(part, reason));
        let optional =
            |part: &str, text: &Option<String>| text.as_deref().map(|text| compile(part, text)).transpose();
        let field = |(name, text): (&String, &String)| {
            compile(&format!(".fields.{name}"), text).map(|compiled| (name.clone(), compiled))
        };
        Ok(Self {
            when: optional(".when", &projection.when)?,
            key: optional(".key", &projection.key)?,
            fields: projection.fields.iter().map(field).collect::<Result<_, _>>()?,
            definition: projection.definition(),
            projection: projection.clone(),
        })
    }

    fn apply(&self, seen: &Seen) -> Result<Option<Made<'_>>, String> {
        let value = |part: &str, expression: &Expression| {
            let found = expression.finite_value(seen);
            found.map_err(|reason| self.failure(part, &reason))
        };
        match self.when.as_ref().map(|when| value("when", when)).transpose()?.flatten() {
            Some(Value::Bool(true)) => {}
            Some(Value::Bool(false)) => return Ok(None),
            Some(_) => return Err(self.failure("when", "it gives neither true nor false")),
            // What it asks for is not there.
            None if self.when.is_some() => return Ok(None),
            None => {}
        }
        let key = match self.key.as_ref().map(|key| value("key", key)).transpose()? {
            None => None,
            Some(Some(Value::String(key))) => Some(self.checked(key)?),
            Some(None) => return Err(self.failure("key", "what it names is missing")),
            Some(Some(_)) => return Err(self.failure("key", "it gives no text; put string() around it")),
        };
        let mut data = Map::new();
        for (name, expression) in &self.fields {
            let found = value(name, expression)?;
            data.extend(found.map(|value| (name.clone(), value)));
        }
        Ok(Some(Made { projection: &self.projection.name, definition: &self.definition, key, data }))
    }

    fn checked(&self, key: String) -> Result<String, String> {
        if (1..=MOST_KEY_BYTES).contains(&key.len()) && !key.chars().any(char::is_control) {
            return Ok(key);
        }
        let rule = format!("it must give 1 to {MOST_KEY_BYTES} bytes without control characters");
        Err(self.failure("key", &rule))
    }

    fn failure(&self, part: &str, reason: &str) -> String {
        format!("projection `{}`, `{part}`: {reason}", self.projection.name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn projections(toml: &str) -> Result<Projections, ProjectionFault> {
        #[derive(Deserialize)]
        struct Settings {
            projections: Vec<Projection>,
        }
        let settings: Settings = toml::from_str(toml).unwrap();
        Projections::new(&settings.projections)
    }

    const BASIS: &str = r#"
        [[projections]]
        name = "basis"
        from = "price"
        when = "event.market == 'MISO'"
        key = "event.market + '/' + event.symbol"
        fields = { gap = "event.price - event.reference", price = "event.price", per = "event.price / event.volume" }
    "#;

    fn made(toml: &str, event: Value) -> Vec<Result<(Option<String>, Value), String>> {
        let projections = projections(toml).unwrap();
        let Value::Object(event) = event else { panic!("an event is an object") };
        let found = projections.apply(&[Origin::Price], event);
        found.into_iter().map(|made| made.map(|made| (made.key, Value::Object(made.data)))).collect()
    }

    #[test]
    fn an_event_makes_what_is_declared() {
        let event = json!({"market": "MISO", "symbol": "HUB", "price": 31, "volume": 2, "reference": 30.5});
        let expected = json!({"gap": 0.5, "price": 31.0, "per": 15.5});
        assert_eq!(made(BASIS, event), [Ok((Some("MISO/HUB".to_owned()), expected))]);
        assert_eq!(made(BASIS, json!({"market": "PJM", "price": 1})), []);
        assert_eq!(made(BASIS, json!({"price": 1})), [], "what `when` asks for is missing");
        let missing = json!({"market": "MISO", "symbol": "HUB", "price": 31, "volume": null});
        let expected = json!({"price": 31.0});
        assert_eq!(made(BASIS, missing), [Ok((Some("MISO/HUB".to_owned()), expected))]);
    }

    #[test]
    fn what_fails_says_where() {
        let check = |toml: &str, event: Value, part: &str| {
            let found = made(toml, event).remove(0).unwrap_err();
            assert!(found.starts_with("projection `") && found.contains(part), "{found}");
        };
        let of = |rest: &str| format!("[[projections]]\nname = \"x\"\nfrom = \"price\"\n{rest}");
        check(BASIS, json!({"market": "MISO", "symbol": "HUB", "price": 1, "volume": 0}), "`per`");
        check(BASIS, json!({"market": "MISO", "symbol": "HUB", "price": "a lot", "volume": 2}), "`per`");
        check(BASIS, json!({"market": "MISO", "price": 1}), "`key`");
        check(
            &of("key = \"event.price\"\nfields = { a = \"1\" }"),
            json!({"price": 1}),
            "put string() around it",
        );
        check(&of("when = \"event.price\"\nfields = { a = \"1\" }"), json!({"price": 1}), "`when`");
        check(&of("key = \"''\"\nfields = { a = \"1\" }"), json!({"price": 1}), "1 to 300 bytes");
    }

    #[test]
    fn faults_name_what_is_wrong() {
        let check = |rest: &str, at: &str| {
            let found = projections(&format!("[[projections]]\nname = \"x\"\nfrom = \"bar_5m\"\n{rest}"));
            assert_eq!(found.unwrap_err().at, at, "{rest}");
        };
        check("fields = {}", "x.fields");
        check("fields = { \"a b\" = \"1\" }", "x.fields.a b");
        check("fields = { a = \"1 +\" }", "x.fields.a");
        check("fields = { a = \"payload.price\" }", "x.fields.a");
        check("fields = { a = \"[1, 2].all(x, x > 1)\" }", "x.fields.a");
        check("fields = { a = \"1\" }\nwhen = \"matches(event.a, 'b')\"", "x.when");
        check("fields = { a = \"1\" }\nkey = \"{\"", "x.key");
        check("fields = { a = \"1\" }\nttl_seconds = 0", "x.ttl_seconds");
        let twice = format!("{BASIS}{BASIS}");
        assert_eq!(projections(&twice).unwrap_err().at, "basis");
    }

    #[test]
    fn another_declaration_is_another_thing() {
        let definition =
            |toml: &str| projections(toml).unwrap().named("basis").map(|(_, found)| found.to_owned());
        assert_eq!(
            definition(BASIS),
            definition(&BASIS.replace("[[projections]]", "[[projections]]\nttl_seconds = 5"))
        );
        assert_ne!(definition(BASIS), definition(&BASIS.replace("event.price /", "1.0 /")));
    }

    proptest! {
        #[test]
        fn any_declaration_is_refused_or_can_be_asked_of_any_event(
            text in "[a-z.()+*/<>=!?:' 0-9-]{0,40}", price in any::<f64>(), symbol in ".{0,8}",
        ) {
            let fields = BTreeMap::from([("a".to_owned(), text.clone())]);
            let projection = Projection {
                name: "x".to_owned(), from: Origin::Price, when: None, key: Some(format!("string({text})")), fields, ttl_seconds: None,
            };
            if let Ok(ready) = Projections::new(&[projection]) {
                let Value::Object(event) = json!({"price": price, "symbol": symbol}) else { unreachable!() };
                let found = ready.apply(&[Origin::Price], event);
                prop_assert_eq!(found.len(), 1);
            }
        }
    }
}
