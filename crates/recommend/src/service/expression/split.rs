//! Many expressions in one text.
//!
//! It knows the string literals of CEL and nothing else of it: `'..'`, `".."`, their tripled forms, escapes, and raw
//! strings. What is not an expression is refused where it is compiled.

/// The expressions of a text that are separated by `separator`; one inside a string is a part of the string.
pub fn split(text: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let at = text.len() - rest.len();
        let step = match next {
            '\'' | '"' => {
                let before = &text.as_bytes()[..at];
                string_bytes(rest, matches!(before.last(), Some(b'r' | b'R')))
            }
            _ => next.len_utf8(),
        };
        if next == separator {
            parts.push(&text[start..at]);
            start = at + step;
        }
        rest = &rest[step..];
    }
    parts.push(&text[start..]);
    parts.into_iter().map(str::trim).filter(|part| !part.is_empty()).collect()
}

/// The length of the string literal that `text` begins with, its quotes among it; all of it where it never ends.
fn string_bytes(text: &str, is_raw: bool) -> usize {
    let quote = &text[..1];
    let triple = quote.repeat(3);
    let mark = if text.starts_with(&triple) { triple.as_str() } else { quote };
    let mut at = mark.len();
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with(mark) {
            return at + mark.len();
        }
        let escaped = if rest.starts_with('\\') && !is_raw { 1 } else { 0 };
        at += escaped;
        at += text[at..].chars().next().map_or(0, char::len_utf8);
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn separators_inside_of_strings_do_not_separate() {
        let check = |text: &str, parts: &[&str]| assert_eq!(split(text, ';'), parts, "{text}");
        check("", &[]);
        check(" ; ;", &[]);
        check("1.0; 2.0 ;", &["1.0", "2.0"]);
        check("id == 'a;b' ? 2.0 : 1.0; 3", &["id == 'a;b' ? 2.0 : 1.0", "3"]);
        check("\"a;'\";'\";'", &["\"a;'\"", "'\";'"]);
        check(r"'it\'s;' ; 1", &[r"'it\'s;'", "1"]);
        check(r"r'\';1", &[r"r'\'", "1"]);
        check("'''a';b''';1", &["'''a';b'''", "1"]);
        check("'';1", &["''", "1"]);
        check("'open;1", &["'open;1"]);
        check("'é;ü';é", &["'é;ü'", "é"]);
        check("'\\", &["'\\"]);
    }

    proptest! {
        #[test]
        fn splitting_loses_nothing(text in "[a;'\"r \\\\é]{0,40}") {
            let kept: String = split(&text, ';').concat();
            let plain = |text: &str| text.replace([';', ' '], "");
            prop_assert_eq!(plain(&kept), plain(&text));
        }
    }
}
