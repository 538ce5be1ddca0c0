//! The words of a filter. It refuses a quote that is not closed and characters that begin no word.

use kernel::{Error, Result};

use super::invalid;

/// The longest filter, in bytes.
const MAX_FILTER_BYTES: usize = 64 << 10;

/// One word.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A name or keyword that stands bare, dots and all.
    Word(String),
    /// In backticks, which is always a name; or in double quotes after a dot.
    Name(String),
    /// In single or double quotes.
    Text(String),
    /// A number.
    Number(f64),
    /// `=`, `!=`, `<`, `<=`, `>`, `>=`.
    Comparator(&'static str),
    /// `(`
    Open,
    /// `)`
    Close,
    /// `,`
    Comma,
    /// `.` between a prefix and a quoted name.
    Dot,
}

/// The words of `text`.
///
/// # Errors
/// `VALIDATION_ERROR` naming the place.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>> {
    if text.len() > MAX_FILTER_BYTES {
        return Err(invalid(format!("a filter has at most {MAX_FILTER_BYTES} bytes")));
    }
    let mut rest = text;
    let mut found = Vec::new();
    loop {
        rest = rest.trim_start();
        let Some(first) = rest.chars().next() else { return Ok(found) };
        let (token, length) = match first {
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            ',' => (Token::Comma, 1),
            '.' => (Token::Dot, 1),
            '=' if rest.starts_with("==") => (Token::Comparator("="), 2),
            '=' => (Token::Comparator("="), 1),
            '!' if rest.starts_with("!=") => (Token::Comparator("!="), 2),
            '<' if rest.starts_with("<=") => (Token::Comparator("<="), 2),
            '<' if rest.starts_with("<>") => (Token::Comparator("!="), 2),
            '<' => (Token::Comparator("<"), 1),
            '>' if rest.starts_with(">=") => (Token::Comparator(">="), 2),
            '>' => (Token::Comparator(">"), 1),
            '`' | '"' | '\'' => quoted(rest, first)?,
            '0'..='9' | '-' | '+' => number(rest)?,
            _ if is_word(first) => word(rest),
            _ => return Err(unexpected(rest)),
        };
        found.push(token);
        rest = &rest[length..];
    }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | '-' | '/' | ':' | '@' | '$' | '%' | '&')
}

/// A bare word goes over dots, as in `tags.mlflow.user`, but ends before a quoted name.
fn word(rest: &str) -> (Token, usize) {
    let end = rest.find(|character| !is_word(character) && character != '.').unwrap_or(rest.len());
    let word = rest[..end].trim_end_matches('.');
    (Token::Word(word.to_owned()), word.len())
}

/// A number, or a bare word that begins with a digit.
fn number(rest: &str) -> Result<(Token, usize)> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || matches!(character, '.' | '_');
    let exponent = |before: &str| before.ends_with(['e', 'E']) && before.len() > 1;
    let mut end = 0;
    for (at, character) in rest.char_indices() {
        let is_sign = matches!(character, '-' | '+') && (at == 0 || exponent(&rest[..at]));
        if !is_part(character) && !is_sign {
            break;
        }
        end = at + character.len_utf8();
    }
    match rest[..end].parse::<f64>() {
        Ok(value) if value.is_finite() => Ok((Token::Number(value), end)),
        _ if rest.starts_with(|first: char| first.is_ascii_digit()) => Ok(word(rest)),
        _ => Err(unexpected(rest)),
    }
}

/// What stands between two of the same quotes; a doubled quote is one of its characters.
fn quoted(rest: &str, quote: char) -> Result<(Token, usize)> {
    let mut text = String::new();
    let mut characters = rest.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        if character != quote {
            text.push(character);
        } else if characters.next_if(|(_, next)| *next == quote).is_some() {
            text.push(quote);
        } else {
            let token = if quote == '`' { Token::Name(text) } else { Token::Text(text) };
            return Ok((token, at + 1));
        }
    }
    Err(invalid(format!("the quote before `{}` is not closed", shown(&rest[1..]))))
}

fn unexpected(rest: &str) -> Error {
    invalid(format!("nothing in a filter begins like `{}`", shown(rest)))
}

fn shown(text: &str) -> String {
    text.chars().take(20).collect::<String>().escape_debug().to_string()
}
