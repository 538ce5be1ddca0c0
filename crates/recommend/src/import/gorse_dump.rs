//! The binary dump of gorse (`GET /api/dump` of its master): 64-bit little-endian numbers, of which -1, -2
//! and -3 open the users, the items and the feedback, 0 ends the dump, and any other is the size of the
//! protocol-buffers message that follows it.
//!
//! A message that is not understood is reported by its number and passed over. A size that no message can
//! have, or an end in the middle of one, means that the rest cannot be told apart: it is reported once, and
//! reading ends.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kernel::{Result, Timestamp};
use serde_json::Value as Json;

use super::assemble::Defaults;
use super::gorse::{Kind, Record, Rows};
use super::protobuf::{Message, Value};
use super::records::MAX_RECORD_BYTES;
use super::source::{self, Source};
use super::{Fault, Mark, Parts, Reader, Step};

pub(super) struct GorseDump {
    path: PathBuf,
    input: Box<dyn Read + Send>,
    read_bytes: Arc<AtomicU64>,
    rows: Rows,
    message: Vec<u8>,
    kind: Option<Kind>,
    mark: Mark,
    passed: crc32fast::Hasher,
    ended: bool,
}

impl GorseDump {
    /// Opens `path`.
    pub(super) fn open(path: &Path, defaults: Defaults) -> Result<Self> {
        let source = Source::open(path)?;
        Ok(Self {
            path: path.to_owned(),
            input: Box::new(io::BufReader::with_capacity(1 << 18, source.input)),
            read_bytes: source.read_bytes,
            rows: Rows::new(defaults),
            message: Vec::new(),
            kind: None,
            mark: Mark::default(),
            passed: crc32fast::Hasher::new(),
            ended: false,
        })
    }

    /// Reads the next message into the buffer; `None` at the end.
    fn next_message(&mut self) -> Result<Option<Result<Kind, Fault>>> {
        self.try_next_message().map_err(|cause| source::fault(&self.path, &cause))
    }

    fn try_next_message(&mut self) -> io::Result<Option<Result<Kind, Fault>>> {
        while !self.ended {
            let mut size = [0; 8];
            let length = read_full(&mut self.input, &mut size)?;
            self.mark.offset += length as u64;
            self.passed.update(&size[..length]);
            if length < size.len() {
                return Ok(Some(Err(self.end_with("the dump is cut off: it does not end with 0"))));
            }
            match i64::from_le_bytes(size) {
                0 => self.ended = true,
                -1 => self.kind = Some(Kind::Users),
                -2 => self.kind = Some(Kind::Items),
                -3 => self.kind = Some(Kind::Feedback),
                size => return self.read_message(size).map(Some),
            }
        }
        Ok(None)
    }

    fn read_message(&mut self, size: i64) -> io::Result<Result<Kind, Fault>> {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let Some(kind) = self.kind.filter(|_| size <= MAX_RECORD_BYTES) else {
            return Ok(Err(self.end_with("no message has this size: the rest of the dump cannot be read")));
        };
        self.message.resize(size, 0);
        let length = read_full(&mut self.input, &mut self.message)?;
        self.mark.offset += length as u64;
        self.passed.update(&self.message[..length]);
        self.mark.line += 1;
        if length < size {
            return Ok(Err(self.end_with("the dump is cut off within a message")));
        }
        Ok(Ok(kind))
    }

    fn end_with(&mut self, reason: &str) -> Fault {
        self.ended = true;
        Fault::line(reason)
    }
}

impl Reader for GorseDump {
    fn next_record(&mut self, rows: &mut Parts) -> Result<Step> {
        let fault = match self.next_message()? {
            None => return Ok(Step::End),
            Some(Ok(kind)) => {
                decode(kind, &self.message).and_then(|record| self.rows.add(kind, record, rows)).err()
            }
            Some(Err(fault)) => Some(fault),
        };
        Ok(Step::Record { line: self.mark.line.max(1), fault })
    }

    fn mark(&self) -> Mark {
        Mark { crc32: self.passed.clone().finalize(), ..self.mark }
    }

    fn position_bytes(&self) -> u64 {
        self.read_bytes.load(Ordering::Relaxed)
    }
}

fn read_full(input: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match input.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(length)
}

/// The field numbers are those of `protocol.proto`; field 1 of items and feedback is a namespace, which is
/// left out.
fn decode(kind: Kind, bytes: &[u8]) -> Result<Record, Fault> {
    let mut record = Record::default();
    for field in Message::new(bytes) {
        let (number, value) = field.map_err(Fault::line)?;
        match (kind, number, value) {
            (Kind::Users, 1, Value::Bytes(bytes)) => record.user_id = text("user_id", bytes)?,
            (Kind::Users, 2, Value::Bytes(bytes)) => record.labels = labels(bytes)?,
            (Kind::Users, 3, Value::Bytes(bytes)) => record.comment = text("comment", bytes)?,
            (Kind::Items, 2, Value::Bytes(bytes)) => record.item_id = text("item_id", bytes)?,
            (Kind::Items, 3, Value::Varint(flag)) => record.is_hidden = flag != 0,
            (Kind::Items, 4, Value::Bytes(bytes)) => record.categories.push(text("categories", bytes)?),
            (Kind::Items | Kind::Feedback, 5, Value::Bytes(bytes)) => record.timestamp = timestamp(bytes)?,
            (Kind::Items, 6, Value::Bytes(bytes)) => record.labels = labels(bytes)?,
            (Kind::Items, 7, Value::Bytes(bytes)) => record.comment = text("comment", bytes)?,
            (Kind::Feedback, 2, Value::Bytes(bytes)) => record.feedback_type = text("feedback_type", bytes)?,
            (Kind::Feedback, 3, Value::Bytes(bytes)) => record.user_id = text("user_id", bytes)?,
            (Kind::Feedback, 4, Value::Bytes(bytes)) => record.item_id = text("item_id", bytes)?,
            (Kind::Feedback, 6, Value::Bytes(bytes)) => record.comment = text("comment", bytes)?,
            (Kind::Feedback, 7, Value::Fixed64(bits)) => {
                let value = Some(f64::from_bits(bits)).filter(|value| value.is_finite());
                record.value = Some(value.ok_or_else(|| Fault::new("value", "it is not a finite number"))?);
            }
            _ => {}
        }
    }
    Ok(record)
}

fn text(column: &str, bytes: &[u8]) -> Result<String, Fault> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Fault::new(column, "not UTF-8"))
}

fn labels(bytes: &[u8]) -> Result<Json, Fault> {
    match bytes {
        [] => Ok(Json::Null),
        bytes => {
            serde_json::from_slice(bytes).map_err(|cause| Fault::new("labels", format!("not JSON: {cause}")))
        }
    }
}

/// `google.protobuf.Timestamp`.
fn timestamp(bytes: &[u8]) -> Result<Option<Timestamp>, Fault> {
    let (mut seconds, mut nanoseconds) = (0, 0);
    for field in Message::new(bytes) {
        match field.map_err(Fault::line)? {
            (1, Value::Varint(value)) => seconds = value as i64,
            (2, Value::Varint(value)) => nanoseconds = value as i32,
            _ => {}
        }
    }
    Timestamp::new(seconds, nanoseconds)
        .map(Some)
        .map_err(|_| Fault::new("timestamp", format!("{seconds} seconds are out of the range of time")))
}
