//! Tells what one file is, from its name and its first bytes.

use std::path::Path;

use kernel::Result;

use super::detect::{Format, Request};
use super::fields::{Separator, Splitter};
use super::text_file::Dialect;
use super::{gorse, guess, json_lines, movielens, source};

// Enough for the first line of anything reasonable.
const HEAD_BYTES: usize = 1 << 16;

/// What a file holds and how it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    MovieLens(movielens::File),
    LightGcn {
        is_test: bool,
    },
    Gorse(Dialect),
    GorseDump,
    Delimited(Dialect),
    /// `user item` a line, the lines of a user in the order of time.
    Sequences,
    Ndjson,
    Parquet,
}

impl Content {
    pub(super) fn format(self) -> Format {
        match self {
            Self::MovieLens(file) => file.format(),
            Self::LightGcn { .. } => Format::LightGcn,
            Self::Gorse(_) => Format::Gorse,
            Self::GorseDump => Format::GorseDump,
            Self::Delimited(dialect) => match dialect.separator {
                Separator::Byte(b'\t') => Format::Tsv,
                Separator::Byte(_) => Format::Csv,
                _ => Format::Whitespace,
            },
            Self::Sequences => Format::Whitespace,
            Self::Ndjson => Format::Ndjson,
            Self::Parquet => Format::Parquet,
        }
    }

    /// Things come before what happened to them.
    pub(super) fn rank(self) -> u8 {
        match self {
            Self::MovieLens(file) => file.rank(),
            Self::LightGcn { is_test } => u8::from(is_test),
            _ => 0,
        }
    }
}

/// What `name` is, or why it is passed over.
pub(super) fn classify(path: &Path, name: &str, request: &Request) -> Result<Result<Content, String>> {
    let head = match source::read_text_head(path, HEAD_BYTES) {
        Ok(head) => head,
        // A file that was asked for by its format must be readable; another in its folder need not be.
        Err(error) if request.format.is_none() => return Ok(Err(error.message().to_owned())),
        Err(error) => return Err(error),
    };
    let stem = stem(name);
    Ok(match request.format {
        Some(format) => as_format(format, &stem, &head, request),
        None => guessed(&stem, &head, request),
    })
}

/// The name in lower case without the ending of a compression.
fn stem(name: &str) -> String {
    let name = name.to_lowercase();
    let shorter = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst"));
    shorter.unwrap_or(&name).to_owned()
}

fn guessed(stem: &str, head: &[u8], request: &Request) -> Result<Content, String> {
    if head.starts_with(b"PAR1") {
        return Ok(Content::Parquet);
    }
    if is_gorse_dump(head) {
        return Ok(Content::GorseDump);
    }
    if request.mapping.is_none() {
        if let Some(file) = movielens::File::of(stem, &columns(head, b',')) {
            return Ok(Content::MovieLens(file));
        }
        if let Some(content) = light_gcn(stem, head).or_else(|| gorse_text(stem, head)) {
            return Ok(content);
        }
    }
    match stem.rsplit('.').next() {
        Some("csv") => generic(Format::Csv, head, request),
        Some("tsv" | "inter" | "item" | "user") => generic(Format::Tsv, head, request),
        Some("ndjson" | "jsonl" | "json") => generic(Format::Ndjson, head, request),
        Some("txt" | "dat" | "data") if request.mapping.is_some() => {
            generic(Format::Whitespace, head, request)
        }
        Some("txt" | "dat" | "data") if is_sequences(head) => Ok(Content::Sequences),
        _ => Err(
            "the format cannot be told from its name and content: pass the format, and a mapping if it is \
                  csv, tsv, whitespace or ndjson, such as whitespace with \
                  user_id=#0,entity_id=#1,timestamp=@row:s"
                .to_owned(),
        ),
    }
}

fn as_format(format: Format, stem: &str, head: &[u8], request: &Request) -> Result<Content, String> {
    let refused = || format!("it is not a file of {}", format.name());
    match format {
        Format::MovieLens100k | Format::MovieLens1m | Format::MovieLens => {
            movielens::File::of(stem, &columns(head, b','))
                .filter(|file| file.format() == format)
                .map(Content::MovieLens)
                .ok_or_else(refused)
        }
        Format::LightGcn => Ok(Content::LightGcn { is_test: stem.starts_with("test") }),
        Format::Gorse => gorse_text(stem, head).ok_or_else(refused),
        Format::GorseDump => Ok(Content::GorseDump),
        Format::Parquet => Ok(Content::Parquet),
        Format::Whitespace if request.mapping.is_none() && is_sequences(head) => Ok(Content::Sequences),
        Format::Csv | Format::Tsv | Format::Whitespace | Format::Ndjson => generic(format, head, request),
    }
}

fn generic(format: Format, head: &[u8], request: &Request) -> Result<Content, String> {
    let separator = match format {
        Format::Ndjson => {
            if head.trim_ascii_start().starts_with(b"[") {
                return Err("it is one JSON array: write one object a line instead".to_owned());
            }
            return Ok(Content::Ndjson);
        }
        Format::Csv => Separator::Byte(separator_of(head)),
        Format::Tsv => Separator::Byte(b'\t'),
        _ => Separator::Whitespace,
    };
    let has_header =
        |request: &Request| request.mapping.as_ref().is_none_or(|mapping| mapping.needs_header());
    let header = request.header.unwrap_or_else(|| separator != Separator::Whitespace && has_header(request));
    if let (true, None, Separator::Byte(byte)) = (header, &request.mapping, separator)
        && !head.trim_ascii().is_empty()
    {
        let columns = columns(head, byte);
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        guess::mapping_of(&columns).map_err(|error| error.message().to_owned())?;
    }
    Ok(Content::Delimited(Dialect { separator, quotes: format != Format::Whitespace, header, latin1: false }))
}

/// What stands between the fields of a CSV file: a comma where the first line has one, else the most frequent of what
/// spreadsheets write in its place.
fn separator_of(head: &[u8]) -> u8 {
    let mut is_quoted = false;
    let mut counts = [(b',', 0_usize), (b';', 0), (b'\t', 0), (b'|', 0)];
    for byte in first_line(head) {
        is_quoted ^= *byte == b'"';
        if let Some((_, count)) = counts.iter_mut().find(|(separator, _)| !is_quoted && separator == byte) {
            *count += 1;
        }
    }
    let most = counts[1..].iter().max_by_key(|(_, count)| *count).filter(|(_, count)| *count > 0);
    if counts[0].1 > 0 { b',' } else { most.map_or(b',', |(separator, _)| *separator) }
}

fn is_gorse_dump(head: &[u8]) -> bool {
    let first = head.first_chunk().map(|bytes| i64::from_le_bytes(*bytes));
    first.is_some_and(|first| matches!(first, -3..=-1))
}

fn light_gcn(stem: &str, head: &[u8]) -> Option<Content> {
    let is_test = match stem {
        "train.txt" => false,
        "test.txt" => true,
        _ => return None,
    };
    let first = first_line(head).trim_ascii();
    let is_list = !first.is_empty() && first.iter().all(|byte| byte.is_ascii_digit() || *byte == b' ');
    is_list.then_some(Content::LightGcn { is_test })
}

/// Two whole numbers a line, the first never falling and some twice: a table of names has each once.
fn is_sequences(head: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(head) else { return false };
    // The last line may be cut off.
    let whole =
        if head.len() < HEAD_BYTES { text } else { text.rsplit_once('\n').map_or("", |(whole, _)| whole) };
    let pair = |line: &str| {
        let mut fields = line.split_ascii_whitespace().map(|field| field.parse::<u64>().ok());
        match (fields.next(), fields.next(), fields.next()) {
            (Some(Some(user)), Some(Some(_)), None) => Some(user),
            _ => None,
        }
    };
    let users: Option<Vec<u64>> = whole.lines().filter(|line| !line.trim().is_empty()).map(pair).collect();
    users.is_some_and(|users| users.is_sorted() && users.windows(2).any(|pair| pair[0] == pair[1]))
}

fn gorse_text(stem: &str, head: &[u8]) -> Option<Content> {
    let (keys, dialect) = if stem.ends_with(".csv") {
        let separator = Separator::Byte(b',');
        (columns(head, b','), Dialect { separator, quotes: true, header: true, latin1: false })
    } else {
        let text = std::str::from_utf8(first_line(head)).ok()?;
        let object = json_lines::parse_object(text).ok()?;
        // The keys of gorse are in camel case; the others are those of Watershed's own exports.
        if !object.keys().all(|key| key.starts_with(|first: char| first.is_ascii_uppercase())) {
            return None;
        }
        (object.keys().cloned().collect(), json_lines::DIALECT)
    };
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    gorse::Kind::of(&keys).map(|_| Content::Gorse(dialect))
}

fn first_line(head: &[u8]) -> &[u8] {
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line)
}

/// The fields of the first line.
fn columns(head: &[u8], separator: u8) -> Vec<String> {
    let text = String::from_utf8_lossy(first_line(head));
    let quoted = text.contains('"');
    let mut splitter = Splitter::default();
    let fields = splitter.split(text.trim_end_matches('\r'), Separator::Byte(separator), quoted);
    fields.iter().map(|field| field.trim().to_owned()).collect()
}
