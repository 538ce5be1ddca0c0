//! Filters: `metrics.loss < 0.5 AND tags.team = 'search'`.

use std::iter::Peekable;
use std::vec::IntoIter;

use kernel::Result;

use super::lexer::{Token, tokens};
use super::like::like;
use super::{Entity, Grammar, Kind, Subject, Value, invalid};

/// Prompts of other tools live among registered models and say so with this tag; a model that lacks it is none.
const IS_PROMPT: &str = "mlflow.prompt.is_prompt";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparator {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Like,
    LikeIgnoringCase,
    In,
    NotIn,
    IsNull,
    IsNotNull,
}

#[derive(Debug, Clone, PartialEq)]
enum Literal {
    None,
    Number(f64),
    Text(String),
    List(Vec<String>),
}

#[derive(Debug, Clone, PartialEq)]
struct Condition {
    entity: Entity,
    key: String,
    comparator: Comparator,
    literal: Literal,
}

/// Conditions that must all hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter(Vec<Condition>);

impl Filter {
    /// Reads a filter; an empty one lets everything pass.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` saying what cannot be understood.
    pub fn parse(text: &str, grammar: &Grammar) -> Result<Self> {
        let mut words = tokens(text)?.into_iter().peekable();
        let mut conditions = Vec::new();
        while words.peek().is_some() {
            if !conditions.is_empty() && !is_keyword(words.next(), "AND") {
                return Err(invalid("conditions are joined by AND"));
            }
            conditions.push(condition(&mut words, grammar)?);
        }
        Ok(Self(conditions))
    }

    /// Whether every condition holds.
    #[must_use]
    pub fn admits(&self, subject: &impl Subject) -> bool {
        self.0.iter().all(|condition| condition.holds(subject))
    }

    /// The text that the attribute must equal, where the filter says so: a search may go by an index.
    #[must_use]
    pub fn exactly(&self, attribute: &str) -> Option<&str> {
        let is_it = |condition: &&Condition| {
            let Condition { entity, key, comparator, .. } = condition;
            *entity == Entity::Attribute && key == attribute && *comparator == Comparator::Equal
        };
        match &self.0.iter().find(is_it)?.literal {
            Literal::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl Condition {
    fn holds(&self, subject: &impl Subject) -> bool {
        let mut values = subject.values(self.entity, &self.key);
        if values.is_empty() && self.entity == Entity::Tag && self.key == IS_PROMPT {
            values.push(Value::Text("false".to_owned()));
        }
        match self.comparator {
            Comparator::IsNull => values.is_empty(),
            Comparator::IsNotNull => !values.is_empty(),
            _ => values.iter().any(|value| self.compares(value)),
        }
    }

    fn compares(&self, value: &Value) -> bool {
        match (value, &self.literal) {
            (Value::Number(value), Literal::Number(wanted)) => match self.comparator {
                Comparator::Equal => value == wanted,
                Comparator::Unequal => value != wanted,
                Comparator::Less => value < wanted,
                Comparator::LessOrEqual => value <= wanted,
                Comparator::Greater => value > wanted,
                Comparator::GreaterOrEqual => value >= wanted,
                _ => false,
            },
            (Value::Text(value), Literal::Text(wanted)) => match self.comparator {
                Comparator::Equal => value == wanted,
                Comparator::Unequal => value != wanted,
                Comparator::Like => like(value, wanted, false),
                Comparator::LikeIgnoringCase => like(value, wanted, true),
                _ => false,
            },
            (Value::Text(value), Literal::List(list)) => {
                list.contains(value) == (self.comparator == Comparator::In)
            }
            _ => false,
        }
    }
}

type Words = Peekable<IntoIter<Token>>;

fn is_keyword(token: Option<Token>, keyword: &str) -> bool {
    matches!(token, Some(Token::Word(word)) if word.eq_ignore_ascii_case(keyword))
}

fn condition(words: &mut Words, grammar: &Grammar) -> Result<Condition> {
    let (entity, key, kind) = identifier(words, grammar)?;
    let comparator = comparator(words)?;
    let literal = match comparator {
        Comparator::IsNull | Comparator::IsNotNull => Literal::None,
        Comparator::In | Comparator::NotIn => list(words)?,
        _ => literal(words, kind, &key)?,
    };
    let is_lawful = match comparator {
        Comparator::Equal | Comparator::Unequal => true,
        Comparator::IsNull | Comparator::IsNotNull => matches!(entity, Entity::Param | Entity::Tag),
        Comparator::Like | Comparator::LikeIgnoringCase => kind == Kind::Text,
        Comparator::In | Comparator::NotIn => {
            kind == Kind::Text && matches!(entity, Entity::Attribute | Entity::Dataset)
        }
        _ => kind == Kind::Number,
    };
    if is_lawful {
        return Ok(Condition { entity, key, comparator, literal });
    }
    Err(invalid(format!("`{key}` cannot be compared that way")))
}

/// `name`, `` `run name` ``, `tags.a.b`, `` metrics.`a b` ``, `params."a b"`.
pub(super) fn identifier(words: &mut Words, grammar: &Grammar) -> Result<(Entity, String, Kind)> {
    match words.next() {
        Some(Token::Word(word)) => {
            if words.next_if_eq(&Token::Dot).is_some() {
                let Some(Token::Name(key) | Token::Text(key)) = words.next() else {
                    return Err(invalid(format!("a name is missing after `{word}.`")));
                };
                return grammar.resolve(Some(&word), &key);
            }
            match word.split_once('.') {
                Some((prefix, key)) => grammar.resolve(Some(prefix), key),
                None => grammar.resolve(None, &word),
            }
        }
        Some(Token::Name(name) | Token::Text(name)) => grammar.resolve(None, &name),
        _ => Err(invalid("a condition begins with a name, such as metrics.loss")),
    }
}

fn comparator(words: &mut Words) -> Result<Comparator> {
    let missing = || invalid("after a name stands one of = != < <= > >= LIKE ILIKE IN NOT IN IS");
    Ok(match words.next() {
        Some(Token::Comparator("=")) => Comparator::Equal,
        Some(Token::Comparator("!=")) => Comparator::Unequal,
        Some(Token::Comparator("<")) => Comparator::Less,
        Some(Token::Comparator("<=")) => Comparator::LessOrEqual,
        Some(Token::Comparator(">")) => Comparator::Greater,
        Some(Token::Comparator(_)) => Comparator::GreaterOrEqual,
        Some(Token::Word(word)) => match word.to_ascii_uppercase().as_str() {
            "LIKE" => Comparator::Like,
            "ILIKE" => Comparator::LikeIgnoringCase,
            "IN" => Comparator::In,
            "NOT" if is_keyword(words.next(), "IN") => Comparator::NotIn,
            "IS" => {
                let is_not = words
                    .next_if(|next| matches!(next, Token::Word(word) if word.eq_ignore_ascii_case("not")))
                    .is_some();
                if !is_keyword(words.next(), "NULL") {
                    return Err(missing());
                }
                if is_not { Comparator::IsNotNull } else { Comparator::IsNull }
            }
            _ => return Err(missing()),
        },
        _ => return Err(missing()),
    })
}

fn literal(words: &mut Words, kind: Kind, key: &str) -> Result<Literal> {
    match (words.next(), kind) {
        (Some(Token::Number(value)), Kind::Number) => Ok(Literal::Number(value)),
        (Some(Token::Text(value)), Kind::Text) => Ok(Literal::Text(value)),
        (Some(Token::Text(value)), Kind::Number) => {
            let number = value.trim().parse().ok().filter(|number: &f64| !number.is_nan());
            number.map(Literal::Number).ok_or_else(|| invalid(format!("`{key}` is compared with a number")))
        }
        (_, Kind::Number) => Err(invalid(format!("`{key}` is compared with a number"))),
        _ => Err(invalid(format!("`{key}` is compared with a text in quotes"))),
    }
}

fn list(words: &mut Words) -> Result<Literal> {
    let fault = || invalid("IN is followed by texts in brackets, such as ('a', 'b')");
    if words.next() != Some(Token::Open) {
        return Err(fault());
    }
    let mut texts = Vec::new();
    loop {
        match words.next() {
            Some(Token::Text(text)) => texts.push(text),
            _ => return Err(fault()),
        }
        match words.next() {
            Some(Token::Comma) if words.next_if_eq(&Token::Close).is_none() => {}
            Some(Token::Comma | Token::Close) => return Ok(Literal::List(texts)),
            _ => return Err(fault()),
        }
    }
}
