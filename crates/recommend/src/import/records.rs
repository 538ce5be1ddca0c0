//! Cuts bytes into records: a line, or several where a quoted field holds line breaks. Memory stays under
//! [`MAX_RECORD_BYTES`] plus one block, whatever the input.
//!
//! A quote that never closes is the fault of the line where it opens, not of all that follows: reading goes
//! on at the next line. Refuses: line ends other than LF and CR LF.

use std::io::{self, Read};
use std::ops::Range;

use memchr::memchr;

use super::Mark;

/// The longest record, in bytes. A longer one is reported and passed over without being kept.
pub const MAX_RECORD_BYTES: usize = 1 << 20;

const BLOCK_BYTES: usize = 1 << 18;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What stands next in the input. It stays there until it is passed by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cut {
    End,
    Record(Found),
    /// More than [`MAX_RECORD_BYTES`] without a line end; already passed by.
    TooLong,
    /// A quote that is not closed, or closed in the middle of a field.
    Quote(&'static str),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// The text in the buffer, without its line end.
    text: Range<usize>,
    consumed: usize,
    lines: u64,
    /// Whether there is a quote in it.
    pub(super) quoted: bool,
}

impl Found {
    pub(super) fn lines(&self) -> u64 {
        self.lines
    }
}

pub(super) struct Records {
    input: Box<dyn Read + Send>,
    /// The separator of fields, where quotes have a meaning.
    quoting: Option<u8>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    ended: bool,
    offset: u64,
    line: u64,
    passed: crc32fast::Hasher,
}

enum Scan {
    Line(usize),
    TooLong,
}

impl Records {
    /// Reads from `input`, from the first record.
    pub(super) fn new(input: Box<dyn Read + Send>, quoting: Option<u8>) -> Self {
        let passed = crc32fast::Hasher::new();
        let buffer = vec![0; BLOCK_BYTES];
        Self { input, quoting, buffer, start: 0, end: 0, ended: false, offset: 0, line: 0, passed }
    }

    /// The place before the next record.
    pub(super) fn mark(&self) -> Mark {
        Mark { offset: self.offset, line: self.line, crc32: self.passed.clone().finalize() }
    }

    /// Bytes before the next record.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Lines before the next record.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    pub(super) fn bytes(&self, found: &Found) -> &[u8] {
        &self.buffer[found.text.clone()]
    }

    /// Finds the next record without passing it.
    pub(super) fn peek(&mut self) -> io::Result<Cut> {
        if self.offset == 0 && self.available(BYTE_ORDER_MARK.len())?.starts_with(BYTE_ORDER_MARK) {
            self.skip_bytes(BYTE_ORDER_MARK.len());
        }
        let Scan::Line(length) = self.scan_line()? else {
            self.skip_line()?;
            return Ok(Cut::TooLong);
        };
        if length == 0 {
            return Ok(Cut::End);
        }
        let line = &self.buffer[self.start..self.start + length];
        match self.quoting {
            Some(separator) if memchr(b'"', line).is_some() => self.scan_quoted(separator),
            _ => Ok(Cut::Record(self.found(length, 1, false))),
        }
    }

    /// Passes a record by.
    pub(super) fn pass(&mut self, found: &Found) {
        self.skip_bytes(found.consumed);
        self.line += found.lines;
    }

    /// Passes one line by, whatever record it belongs to.
    pub(super) fn pass_line(&mut self) -> io::Result<()> {
        self.skip_line()
    }

    fn found(&self, consumed: usize, lines: u64, quoted: bool) -> Found {
        let mut stop = self.start + consumed;
        if self.buffer[self.start..stop].ends_with(b"\n") {
            stop -= 1;
        }
        if self.buffer[self.start..stop].ends_with(b"\r") {
            stop -= 1;
        }
        Found { text: self.start..stop, consumed, lines, quoted }
    }

    fn skip_bytes(&mut self, count: usize) {
        self.passed.update(&self.buffer[self.start..self.start + count]);
        self.start += count;
        self.offset += count as u64;
    }

    /// The length of the next line with its line end; 0 at the end of the input.
    fn scan_line(&mut self) -> io::Result<Scan> {
        let mut scanned = 0;
        loop {
            if let Some(at) = memchr(b'\n', &self.buffer[self.start + scanned..self.end]) {
                let length = scanned + at + 1;
                return Ok(if length > MAX_RECORD_BYTES { Scan::TooLong } else { Scan::Line(length) });
            }
            scanned = self.end - self.start;
            if scanned > MAX_RECORD_BYTES {
                return Ok(Scan::TooLong);
            }
            if self.ended {
                return Ok(Scan::Line(scanned));
            }
            self.fill()?;
        }
    }

    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            if let Some(at) = memchr(b'\n', &self.buffer[self.start..self.end]) {
                self.skip_bytes(at + 1);
                break;
            }
            self.skip_bytes(self.end - self.start);
            if self.ended {
                break;
            }
            self.fill()?;
        }
        self.line += 1;
        Ok(())
    }

    fn scan_quoted(&mut self, separator: u8) -> io::Result<Cut> {
        let mut state = State::FieldStart;
        let mut position = 0;
        let mut lines = 0;
        loop {
            while position < self.end - self.start {
                let byte = self.buffer[self.start + position];
                position += 1;
                lines += u64::from(byte == b'\n');
                state = match state.after(byte, separator) {
                    Ok(State::RecordEnd) => return Ok(Cut::Record(self.found(position, lines, true))),
                    Ok(state) => state,
                    Err(reason) => return Ok(Cut::Quote(reason)),
                };
                if position > MAX_RECORD_BYTES {
                    return Ok(Cut::Quote("the quoted field does not end within 1 MiB"));
                }
            }
            if self.ended {
                let closed = !matches!(state, State::Quoted);
                let rest = self.found(position, lines + 1, true);
                return Ok(if closed {
                    Cut::Record(rest)
                } else {
                    Cut::Quote("the quoted field does not end")
                });
            }
            self.fill()?;
        }
    }

    fn available(&mut self, count: usize) -> io::Result<&[u8]> {
        while self.end - self.start < count && !self.ended {
            self.fill()?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(self.end + BLOCK_BYTES, 0);
        }
        loop {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.ended = true,
                Ok(count) => self.end += count,
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => continue,
                Err(cause) => return Err(cause),
            }
            return Ok(());
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    FieldStart,
    Plain,
    Quoted,
    /// After a quote inside a quoted field: it closes the field, or it is the first of two.
    Quote,
    /// After the CR that follows a closed field.
    Return,
    RecordEnd,
}

impl State {
    fn after(self, byte: u8, separator: u8) -> Result<Self, &'static str> {
        const STRAY: &str = "a quote inside a quoted field must be doubled";
        Ok(match (self, byte) {
            (Self::Quoted, b'"') => Self::Quote,
            (Self::Quoted, _) | (Self::Quote, b'"') => Self::Quoted,
            (_, b'\n') => Self::RecordEnd,
            (Self::Return, _) => return Err(STRAY),
            (_, byte) if byte == separator => Self::FieldStart,
            (Self::Quote, b'\r') => Self::Return,
            (Self::Quote, _) => return Err(STRAY),
            (Self::FieldStart, b'"') => Self::Quoted,
            _ => Self::Plain,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    fn records(bytes: &[u8], quoting: bool) -> Vec<String> {
        let mut records = Records::new(Box::new(Cursor::new(bytes.to_vec())), quoting.then_some(b','));
        let mut texts = Vec::new();
        loop {
            let line = records.line() + 1;
            match records.peek().unwrap() {
                Cut::End => break,
                Cut::Record(found) => {
                    texts.push(format!("{line}:{}", String::from_utf8_lossy(records.bytes(&found))));
                    records.pass(&found);
                }
                Cut::TooLong => texts.push(format!("{line}!long")),
                Cut::Quote(_) => {
                    texts.push(format!("{line}!quote"));
                    records.pass_line().unwrap();
                }
            }
        }
        assert_eq!(records.offset(), bytes.len() as u64, "every byte is passed once");
        assert_eq!(records.mark().crc32, crc32fast::hash(bytes), "and is in the sum");
        texts
    }

    #[test]
    fn records_are_cut() {
        let check =
            |text: &str, expected: &[&str]| assert_eq!(records(text.as_bytes(), true), expected, "{text:?}");
        check("", &[]);
        check("\n", &["1:"]);
        check("a,b", &["1:a,b"]);
        check("a,b\r\n\r\nc\n", &["1:a,b", "2:", "3:c"]);
        check("\u{feff}a\nb\n", &["1:a", "2:b"]);
        check("\"a\nb\",c\nd\n", &["1:\"a\nb\",c", "3:d"]);
        check("\"a\"\"b\",c\r\nd", &["1:\"a\"\"b\",c", "2:d"]);
        check("5\" disk,c\nd\n", &["1:5\" disk,c", "2:d"]);
        check("\"a\"b,c\nd\n", &["1!quote", "2:d"]);
        check("\"a\nb\nc,d\n", &["1!quote", "2:b", "3:c,d"]);
        check("\"a\"", &["1:\"a\""]);
        check("\"\"\n\"\"\"\"\n", &["1:\"\"", "2:\"\"\"\""]);
        assert_eq!(records(b"\"a\nb\n", false), ["1:\"a", "2:b"]);
    }

    #[test]
    fn long_lines_are_passed_without_being_kept() {
        let long = "x".repeat(MAX_RECORD_BYTES + 10);
        let fits = "y".repeat(MAX_RECORD_BYTES - 1);
        let found = records(format!("a\n{long}\n{fits}\nb\n{long}{long}").as_bytes(), true);
        assert_eq!(found.len(), 5);
        assert_eq!((found[1].as_str(), found[3].as_str(), found[4].as_str()), ("2!long", "4:b", "5!long"));
        let found = records(format!("\"{}\nb\n", "x\n".repeat(MAX_RECORD_BYTES)).as_bytes(), true);
        assert_eq!((found[0].as_str(), found[1].as_str()), ("1!quote", "2:x"));
        assert_eq!(found.len(), MAX_RECORD_BYTES + 2);
    }

    proptest! {
        #[test]
        fn any_bytes_are_passed_once(bytes in prop::collection::vec(
            prop_oneof![Just(b'"'), Just(b'\n'), Just(b','), Just(b'\r'), any::<u8>()], 0..300)) {
            records(&bytes, true);
            prop_assert_eq!(records(&bytes, false).len(), bytes.split_inclusive(|byte| *byte == b'\n').count()
                - usize::from(bytes == BYTE_ORDER_MARK));
        }
    }
}
