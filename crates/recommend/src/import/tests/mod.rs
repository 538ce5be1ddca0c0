//! The importers from files to rows, one file for each format: to add one, a file here and its bytes in `samples`.

mod delimited;
mod formats;
mod gorse;
mod hostile;
mod json_lines;
mod lists;
mod movielens;
#[cfg(feature = "parquet")]
mod parquet;
mod resume;

use std::io::Read;
use std::path::Path;

use self::gorse::gorse_dump;
use self::movielens::RATINGS;
use super::*;

type Files<'a> = &'a [(&'a str, &'a [u8])];

fn request(format: &str, map: &str) -> Request {
    Request {
        format: (!format.is_empty()).then(|| format.parse().unwrap()),
        mapping: (!map.is_empty()).then(|| map.parse().unwrap()),
        ..Request::default()
    }
}

fn folder(files: Files<'_>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn start(path: &Path, request: &Request) -> kernel::Result<Importer> {
    Importer::start(Plan::detect(path, request)?, Options::default())
}

fn render(imported: &ImportedRow) -> String {
    let json = |attributes: &Attributes| serde_json::to_string(attributes).unwrap();
    let row = match &imported.row {
        Row::Entity { entity_id, entity_type, attributes, hidden, available_from } => {
            let hidden = if *hidden { " hidden" } else { "" };
            let from = available_from.map(|time| format!(" from {time}")).unwrap_or_default();
            format!("{entity_type} {entity_id} {}{hidden}{from}", json(attributes))
        }
        Row::User { user_id, attributes } => format!("user {user_id} {}", json(attributes)),
        Row::Interaction {
            user_id,
            entity_id,
            entity_type,
            interaction_type,
            value,
            timestamp,
            metadata,
        } => {
            let value = value.map(|value| format!("={value}")).unwrap_or_default();
            let time = timestamp.map(|time| format!("@{time}")).unwrap_or_default();
            let metadata = if metadata.is_empty() { String::new() } else { json(metadata) };
            format!("{user_id} {interaction_type}{value} {entity_type} {entity_id}{time}{metadata}")
        }
    };
    format!("{} {row}", imported.position)
}

/// The rows, and `!` before each line that could not be read.
fn import(files: Files<'_>, request: &Request) -> Vec<String> {
    let folder = folder(files);
    let mut importer = start(folder.path(), request).unwrap();
    let mut lines: Vec<String> = importer.by_ref().map(|row| render(&row.unwrap())).collect();
    lines.extend(importer.report().first_bad_lines.iter().map(|bad| format!("! {bad}")));
    assert_eq!(importer.progress().position_bytes, importer.progress().total_bytes);
    lines
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    flate2::GzBuilder::new().read(text, flate2::Compression::fast()).read_to_end(&mut bytes).unwrap();
    bytes
}

/// Everything that can be resumed, as (name, bytes, request).
fn samples() -> Vec<(&'static str, Vec<u8>, Request)> {
    let csv = b"user_id,item_id\n1,a\n2\n3,\"c\nd\"\n4,\"\n5,e\n".to_vec();
    vec![
        ("ratings.csv", RATINGS.to_vec(), Request::default()),
        ("a.csv", csv.clone(), Request::default()),
        ("a.csv.gz", gzip(&csv), Request::default()),
        ("train.txt", b"0 1 2 3\n1 x 4 5\n2\n3 6\n".to_vec(), Request::default()),
        ("a.ndjson", b"{\"item_id\":\"a\"}\n{}\n{\"user_id\":\"b\"}\n".to_vec(), Request::default()),
        ("dump.bin", gorse_dump(), Request::default()),
        ("a.data", b"1 2\n3 4\n".to_vec(), request("", "user_id=#0,entity_id=#1")),
    ]
}
