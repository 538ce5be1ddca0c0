//! Splits a record into fields and checks its text: UTF-8 (or Latin-1 where the format says so), no NUL.

use std::borrow::Cow;
use std::ops::Range;

use memchr::{memchr, memmem};

use super::Fault;

/// What stands between two fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Separator {
    Byte(u8),
    DoubleColon,
    /// Spaces and tabs, any number of them.
    Whitespace,
    /// The record is one field.
    None,
}

/// The text of a record; ASCII costs one pass.
///
/// # Errors
/// Where it is not UTF-8 or has a NUL, with the place.
pub(super) fn text_of(bytes: &[u8], latin1: bool) -> Result<Cow<'_, str>, Fault> {
    if let Some(at) = memchr(0, bytes) {
        return Err(Fault::line(format!("a NUL byte at byte {}", at + 1)));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Cow::Borrowed(text)),
        Err(_) if latin1 => Ok(Cow::Owned(bytes.iter().map(|&byte| char::from(byte)).collect())),
        Err(cause) => Err(Fault::line(format!("not UTF-8 at byte {}", cause.valid_up_to() + 1))),
    }
}

/// A value for an error message: quoted, escaped and not longer than a glance.
pub(super) fn shown(text: &str) -> String {
    const GLANCE_CHARS: usize = 40;
    let mut start: String = text.chars().take(GLANCE_CHARS).flat_map(char::escape_debug).collect();
    if text.chars().nth(GLANCE_CHARS).is_some() {
        start.push_str("...");
    }
    format!("`{start}`")
}

/// The places of the fields of one record; kept between records to reuse memory.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    spans: Vec<Range<usize>>,
    unquoted: String,
}

/// The fields of one record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a> {
    text: &'a str,
    spans: &'a [Range<usize>],
}

impl<'a> Fields<'a> {
    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    pub(super) fn get(&self, index: usize) -> Option<&'a str> {
        self.spans.get(index).map(|span| &self.text[span.clone()])
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &'a str> {
        let text = self.text;
        self.spans.iter().map(move |span| &text[span.clone()])
    }

    /// A field that must be there.
    pub(super) fn required(&self, index: usize, column: &str) -> Result<&'a str, Fault> {
        self.get(index).ok_or_else(|| {
            Fault::new(column, format!("it should be field {}, the line has {}", index + 1, self.spans.len()))
        })
    }
}

impl Splitter {
    /// Splits `text`. `quoted` says that it has quotes with a meaning; then `separator` is a byte.
    pub(super) fn split<'a>(&'a mut self, text: &'a str, separator: Separator, quoted: bool) -> Fields<'a> {
        self.spans.clear();
        match separator {
            Separator::Byte(byte) if quoted => {
                self.split_quoted(text, byte);
                return Fields { text: &self.unquoted, spans: &self.spans };
            }
            Separator::Byte(byte) => self.split_at(text.len(), 1, memchr::memchr_iter(byte, text.as_bytes())),
            Separator::DoubleColon => self.split_at(text.len(), 2, memmem::find_iter(text.as_bytes(), b"::")),
            Separator::Whitespace => {
                let start = text.as_ptr() as usize;
                self.spans.extend(text.split_ascii_whitespace().map(|word| {
                    let from = word.as_ptr() as usize - start;
                    from..from + word.len()
                }));
            }
            Separator::None => self.spans.push(0..text.len()),
        }
        Fields { text, spans: &self.spans }
    }

    fn split_at(&mut self, length: usize, width: usize, separators: impl Iterator<Item = usize>) {
        let mut from = 0;
        for at in separators {
            self.spans.push(from..at);
            from = at + width;
        }
        self.spans.push(from..length);
    }

    // The record was cut by the same rules, so that its quotes are known to be closed.
    fn split_quoted(&mut self, text: &str, separator: u8) {
        self.unquoted.clear();
        let mut rest = text;
        loop {
            let from = self.unquoted.len();
            let mut after = match rest.strip_prefix('"') {
                Some(inside) => self.take_quoted(inside),
                None => rest,
            };
            let stop = memchr(separator, after.as_bytes());
            self.unquoted.push_str(&after[..stop.unwrap_or(after.len())]);
            self.spans.push(from..self.unquoted.len());
            match stop {
                Some(stop) => after = &after[stop + 1..],
                None => return,
            }
            rest = after;
        }
    }

    /// Copies a quoted field without its quotes; returns what follows it.
    fn take_quoted<'a>(&mut self, mut inside: &'a str) -> &'a str {
        while let Some(at) = memchr(b'"', inside.as_bytes()) {
            self.unquoted.push_str(&inside[..at]);
            inside = &inside[at + 1..];
            match inside.strip_prefix('"') {
                Some(rest) => {
                    self.unquoted.push('"');
                    inside = rest;
                }
                None => return inside,
            }
        }
        self.unquoted.push_str(inside);
        ""
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(text: &str, separator: Separator, quoted: bool) -> Vec<String> {
        Splitter::default().split(text, separator, quoted).iter().map(str::to_owned).collect()
    }

    #[test]
    fn fields_are_split() {
        let check = |text: &str, separator: Separator, expected: &[&str]| {
            assert_eq!(split(text, separator, text.contains('"')), expected, "{text:?}");
        };
        let comma = Separator::Byte(b',');
        check("", comma, &[""]);
        check("a,,c", comma, &["a", "", "c"]);
        check("\"a,\"\"b\"\"\",c", comma, &["a,\"b\"", "c"]);
        check("\"\",\"\"", comma, &["", ""]);
        check("\"a\",", comma, &["a", ""]);
        check("5\" disk,é", comma, &["5\" disk", "é"]);
        check("1::Title: part::Drama|War", Separator::DoubleColon, &["1", "Title: part", "Drama|War"]);
        check(" 1  2\t3 ", Separator::Whitespace, &["1", "2", "3"]);
        check("a,b", Separator::None, &["a,b"]);
    }

    #[test]
    fn text_is_checked() {
        assert_eq!(text_of(b"caf\xe9", true).unwrap(), "café");
        assert_eq!(text_of("café".as_bytes(), true).unwrap(), "café");
        assert_eq!(text_of(b"caf\xe9", false).unwrap_err().reason, "not UTF-8 at byte 4");
        assert_eq!(text_of(b"a\0b", true).unwrap_err().reason, "a NUL byte at byte 2");
    }

    proptest! {
        #[test]
        fn quoting_round_trips(fields in prop::collection::vec("[a,\"\n é]{0,8}", 1..6)) {
            let text: Vec<String> =
                fields.iter().map(|field| format!("\"{}\"", field.replace('"', "\"\""))).collect();
            prop_assert_eq!(split(&text.join(","), Separator::Byte(b','), true), fields);
        }

        #[test]
        fn any_text_is_split(text in "[a,\"|: é]{0,30}") {
            for separator in [Separator::Byte(b','), Separator::Whitespace, Separator::DoubleColon, Separator::None] {
                split(&text, separator, false);
            }
            split(&text, Separator::Byte(b','), true);
        }
    }
}
