//! Tells what a file or folder is, and plans the reading: things before what happened to them, training
//! before test.
//!
//! A named format (MovieLens, LightGCN, gorse) is told by file names and headers, a generic one by the
//! ending. Where two would fit or none does, the error lists what was seen and what to pass.

use std::path::{Path, PathBuf};

use kernel::{Error, Id, Result};

use super::assemble::Defaults;
use super::classify::{Content, classify};
use super::mapping::{Mapping, Origin};
use super::{IMPORT_FORMAT, source};

macro_rules! formats {
    ($($variant:ident, $name:literal, $about:literal;)*) => {
        /// A format that can be imported.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Format {
            $(#[doc = $about] $variant,)*
        }

        impl Format {
            /// Every format.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name used in settings and messages.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

formats! {
    MovieLens100k, "movielens-100k", "MovieLens 100K: `u.data`, `u.item`, `u.user`.";
    MovieLens1m, "movielens-1m", "MovieLens 1M: `ratings.dat` or an ordered `ratings.csv`, `movies.dat`, `users.dat`.";
    MovieLens, "movielens", "MovieLens 20M, 25M, 32M: `ratings.csv`, `movies.csv`, `tags.csv`, `links.csv`.";
    LightGcn, "lightgcn", "Lists `user item item ...` in `train.txt` and `test.txt`.";
    Csv, "csv", "Fields between commas, or semicolons, tabs or bars where the first line has no comma.";
    Tsv, "tsv", "Fields between tabs.";
    Whitespace, "whitespace", "Fields between spaces or tabs, without quotes or a header.";
    Ndjson, "ndjson", "One JSON object a line.";
    Parquet, "parquet", "Apache Parquet.";
    Gorse, "gorse", "Users, items and feedback of gorse as JSON lines or CSV.";
    GorseDump, "gorse-dump", "The binary dump of gorse.";
}

impl Format {
    /// Whether it needs no mapping.
    pub(super) fn is_named(self) -> bool {
        !matches!(self, Self::Csv | Self::Tsv | Self::Whitespace | Self::Ndjson | Self::Parquet)
    }
}

impl std::str::FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let name = match text {
            "movielens-20m" | "movielens-25m" | "movielens-32m" => "movielens",
            "jsonl" => "ndjson",
            name => name,
        };
        Self::ALL.iter().copied().find(|format| format.name() == name).ok_or_else(|| {
            fault(format!(
                "`{text}` is not a format: use {}",
                names(Self::ALL.iter().map(|format| format.name()))
            ))
        })
    }
}

/// What the caller knows beforehand. All of it may be left out.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The format, where it is not to be told from the files.
    pub format: Option<Format>,
    /// The columns of a generic format.
    pub mapping: Option<Mapping>,
    /// Whether the first line of a generic format names the columns. Told from the mapping where it is left
    /// out: a mapping by place means no.
    pub header: Option<bool>,
    /// The type of entities that come without one: `movie` for MovieLens, `item` for others where it is left
    /// out.
    pub entity_type: Option<Id>,
    /// The type of interactions that come without one: `rating` where there is a value column, else `view`.
    pub interaction_type: Option<Id>,
}

/// A file that will be read.
#[derive(Debug, Clone)]
pub(super) struct PlannedFile {
    pub(super) path: PathBuf,
    /// Relative to what is imported.
    pub(super) name: String,
    pub(super) content: Content,
    pub(super) size_bytes: u64,
}

/// A file that will not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IgnoredFile {
    /// Relative to what is imported.
    pub name: String,
    /// Why not.
    pub reason: String,
}

/// What will be read, in which order.
#[derive(Debug, Clone)]
pub struct Plan {
    pub(super) format: Format,
    pub(super) files: Vec<PlannedFile>,
    pub(super) ignored: Vec<IgnoredFile>,
    pub(super) mapping: Option<Mapping>,
    pub(super) defaults: Defaults,
}

impl Plan {
    /// Looks at a file, or at the files of a folder (not of folders in it).
    ///
    /// # Errors
    /// `IMPORT_FORMAT` where the format is not clear, `IMPORT_MAPPING` where the mapping does not fit it,
    /// `IMPORT_SOURCE` where something cannot be read.
    pub fn detect(path: &Path, request: &Request) -> Result<Self> {
        let (mut files, mut ignored) = (Vec::new(), Vec::new());
        for (path, name, size_bytes) in list(path)? {
            match classify(&path, &name, request)? {
                Ok(content) => files.push(PlannedFile { path, name, content, size_bytes }),
                Err(reason) => ignored.push(IgnoredFile { name, reason }),
            }
        }
        let format = choose(&files, &ignored, path)?;
        let (mut files, others): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|file| file.content.format() == format);
        ignored.extend(others.into_iter().map(|file| IgnoredFile {
            reason: format!("it is {}, the others are {}", file.content.format().name(), format.name()),
            name: file.name,
        }));
        // The folds of MovieLens 100K are parts of `u.data`.
        if files.iter().any(|file| file.name.starts_with("u.data")) {
            let (kept, folds) = files.into_iter().partition(|file| !is_fold(&file.name));
            files = kept;
            let reason = "it is a part of u.data: name the file to import it alone";
            ignored.extend(
                folds.into_iter().map(|file| IgnoredFile { name: file.name, reason: reason.to_owned() }),
            );
        }
        files.sort_by(|a, b| a.content.rank().cmp(&b.content.rank()).then_with(|| a.name.cmp(&b.name)));
        if request.mapping.is_some() && format.is_named() {
            return Err(fault(format!(
                "{} has fixed columns: leave the mapping out, or name a generic format",
                format.name()
            )));
        }
        Ok(Self {
            format,
            files,
            ignored,
            mapping: request.mapping.clone(),
            defaults: defaults(format, request)?,
        })
    }

    /// The format of the files.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// The names of the files that will be read, in order.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| file.name.as_str())
    }

    /// The same without what the data set holds out to be tested on, where there is something else: `test.txt` beside
    /// `train.txt`. What is learned from must not hold it; a test file that is named alone is meant to be read.
    #[must_use]
    pub fn without_held_out(mut self) -> Self {
        let (held_out, kept): (Vec<_>, Vec<_>) = self
            .files
            .into_iter()
            .partition(|file| matches!(file.content, Content::LightGcn { is_test: true }));
        if kept.is_empty() {
            self.files = held_out;
            return self;
        }
        self.files = kept;
        self.ignored.extend(held_out.into_iter().map(|file| IgnoredFile {
            reason:
                "it is held out to be tested on: name the file itself to import it all the same".to_owned(),
            name: file.name,
        }));
        self
    }

    /// Whether the times of rows are only the numbers of their lines.
    pub(super) fn times_are_lines(&self, file: &PlannedFile) -> bool {
        let time = self.mapping.as_ref().and_then(|mapping| mapping.timestamp.as_ref());
        file.content == Content::Sequences || time.is_some_and(|(origin, _)| *origin == Origin::Row)
    }

    /// The files that will not be read, and why.
    #[must_use]
    pub fn ignored(&self) -> &[IgnoredFile] {
        &self.ignored
    }
}

fn is_fold(name: &str) -> bool {
    name.contains(".base") || name.contains(".test")
}

pub(super) fn fault(message: impl Into<String>) -> Error {
    Error::new(IMPORT_FORMAT, message).with_field("format")
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

fn list(path: &Path) -> Result<Vec<(PathBuf, String, u64)>> {
    let refuse = |cause: std::io::Error| source::fault(path, &cause);
    let metadata = std::fs::metadata(path).map_err(refuse)?;
    if !metadata.is_dir() {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        return Ok(vec![(path.to_owned(), name, metadata.len())]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(refuse)? {
        let entry = entry.map_err(refuse)?;
        let metadata = std::fs::metadata(entry.path()).map_err(refuse)?;
        if metadata.is_file() {
            files.push((entry.path(), entry.file_name().to_string_lossy().into_owned(), metadata.len()));
        }
    }
    files.sort();
    Ok(files)
}

/// One named format, or else one generic format.
fn choose(files: &[PlannedFile], ignored: &[IgnoredFile], path: &Path) -> Result<Format> {
    let mut formats: Vec<Format> = Vec::new();
    for file in files {
        if !formats.contains(&file.content.format()) {
            formats.push(file.content.format());
        }
    }
    let named: Vec<Format> = formats.iter().copied().filter(|format| format.is_named()).collect();
    match (&named[..], &formats[..]) {
        ([format], _) | ([], [format]) => Ok(*format),
        ([], []) => {
            let seen: Vec<String> =
                ignored.iter().take(10).map(|file| format!("`{}`: {}", file.name, file.reason)).collect();
            let seen = if seen.is_empty() { "there is no file".to_owned() } else { seen.join("; ") };
            Err(fault(format!("nothing in `{}` can be imported: {seen}", path.display())))
        }
        (several, _) => {
            let several = if several.is_empty() { &formats[..] } else { several };
            Err(fault(format!(
                "`{}` could be any of {}: pass the format, or one file",
                path.display(),
                names(several.iter().map(|format| format.name()))
            )))
        }
    }
}

fn defaults(format: Format, request: &Request) -> Result<Defaults> {
    let named = match format {
        Format::MovieLens100k | Format::MovieLens1m | Format::MovieLens => "movie",
        _ => "item",
    };
    let entity_type = request.entity_type.clone().map_or_else(|| Id::new(named), Ok)?;
    Ok(Defaults { entity_type, interaction_type: request.interaction_type.clone() })
}
