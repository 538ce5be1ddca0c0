//! Any bytes in any format: nothing may panic, or go on for ever.

use proptest::prelude::*;

use super::*;

/// Reads `bytes` in every format; nothing may panic or go on for ever.
fn read_in_every_format(bytes: &[u8]) {
    let names = [
        "ratings.csv",
        "u.data",
        "u.item",
        "u.user",
        "ratings.dat",
        "movies.dat",
        "users.dat",
        "train.txt",
        "a.csv",
        "a.tsv",
        "a.ndjson",
        "a.parquet",
        "items.csv",
        "items.jsonl",
        "dump.bin",
    ];
    let generic = [
        "user_id=#0,entity_id=#1,timestamp=#2,value=#3",
        "user_id=a,entity_id=b",
        "entity_id=a,attributes=*",
    ];
    let folder = tempfile::tempdir().unwrap();
    let read = |path: &Path, request: &Request| {
        let Ok(importer) = start(path, request) else { return };
        // A reader that stands still would never reach the end.
        let limit = 10 * bytes.len() + 10;
        assert!(importer.take(limit + 1).count() <= limit, "{path:?} {request:?}");
    };
    for name in names {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        read(&path, &Request::default());
    }
    let path = folder.path().join("a.csv");
    for format in Format::ALL {
        read(&path, &Request { format: Some(*format), ..Request::default() });
        for map in generic.iter().filter(|_| !format.is_named()) {
            read(&path, &Request { format: Some(*format), ..request("", map) });
        }
    }
}

#[test]
fn the_corpus_is_read_in_every_format() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/import");
    let mut files: Vec<_> = std::fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 20, "the corpus is there");
    for file in files {
        read_in_every_format(&std::fs::read(file).unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_in_every_format(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        read_in_every_format(&bytes);
    }

    #[test]
    fn anything_like_a_table_is_read(text in
        "(user_id,item_id,rating,timestamp\n|a,b\n|userId,movieId,rating,timestamp\n)?([0-9a\"',:|{}\\[\\] \t\r\n\u{e9}.e-]{0,200})") {
        read_in_every_format(text.as_bytes());
    }

    #[test]
    fn a_broken_file_is_read(bytes in prop::sample::select(samples().into_iter().map(|sample| sample.1).collect::<Vec<_>>()),
        at in any::<prop::sample::Index>(), byte: u8, cut: bool) {
        let mut bytes = bytes;
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if cut {
            bytes.truncate(at);
        }
        read_in_every_format(&bytes);
    }

    #[test]
    fn what_is_written_is_read(rows in prop::collection::vec(("[^\\p{C}]{1,12}", "[^\\p{C}]{1,12}", -1e9_f64..1e9), 1..20)) {
        let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
        let lines: Vec<String> =
            rows.iter().map(|(user, item, value)| format!("{},{},{value}\n", quoted(user), quoted(item))).collect();
        let text = format!("user_id,item_id,rating\n{}", lines.concat());
        let folder = folder(&[("a.csv", text.as_bytes())]);
        let mut importer = start(folder.path(), &Request::default()).unwrap();
        let read: Vec<_> = importer.by_ref().map(|row| match row.unwrap().row {
            Row::Interaction { user_id, entity_id, value, .. } =>
                (user_id.as_str().to_owned(), entity_id.as_str().to_owned(), value.unwrap()),
            other => panic!("{other:?}"),
        }).collect();
        prop_assert_eq!(read, rows);
        prop_assert_eq!(importer.report().bad_lines, 0);
    }
}
