//! The importers from files to rows: every format, every fault, every place to go on from.

use std::io::Read;
use std::path::Path;

use proptest::prelude::*;

use super::protobuf::encode;
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

fn gorse_dump() -> Vec<u8> {
    let section = |number: i64| number.to_le_bytes().to_vec();
    let message = |fields: &[Vec<u8>]| {
        let message = fields.concat();
        [(message.len() as i64).to_le_bytes().to_vec(), message].concat()
    };
    let time = encode::number(1, 1_700_000_000);
    [
        section(-1),
        message(&[encode::bytes(1, b"bob"), encode::bytes(2, br#"{"city":"Rome","likes":["a"]}"#)]),
        section(-2),
        message(&[
            encode::bytes(1, b"ns"),
            encode::bytes(2, b"x"),
            encode::number(3, 1),
            encode::bytes(4, b"c1"),
            encode::bytes(4, b"c2"),
            encode::bytes(5, &time),
            encode::bytes(6, br#"["l1"]"#),
            encode::bytes(7, b"note"),
        ]),
        message(&[encode::bytes(2, b"y"), encode::bytes(6, br#"{"v":[1.5]}"#)]),
        section(-3),
        message(&[
            encode::bytes(2, b"star"),
            encode::bytes(3, b"bob"),
            encode::bytes(4, b"x"),
            encode::bytes(5, &time),
        ]),
        message(&[encode::bytes(2, b"star"), encode::bytes(3, b"bob")]),
        section(0),
    ]
    .concat()
}

const RATINGS: &[u8] = b"userId,movieId,rating,timestamp\n1,31,2.5,1260759144\n1,1029,3.0,1260759179\n";

#[test]
fn movielens_is_read() {
    assert_eq!(
        import(
            &[
                ("u.data", b"196\t242\t3\t881250949\n"),
                (
                    "u.item",
                    b"2|Toy Story (1995)|01-Jan-1995||url|0|0|0|1|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0\n\
                    267|unknown||||1|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0\n3|caf\xe9|\n"
                ),
                ("u.user", b"1|24|M|technician|85711\n2|old|F|other|1\n"),
                ("u1.base", b"1\t1\t5\t874965758\n"),
            ],
            &Request::default()
        ),
        [
            r#"u.item:1 movie 2 {"genres":["Animation"],"release_date":"01-Jan-1995","title":"Toy Story","year":1995}"#,
            r#"u.item:2 movie 267 {"title":"unknown"}"#,
            r#"u.user:1 user 1 {"age":24,"gender":"M","occupation":"technician","zip_code":"85711"}"#,
            "u.data:1 196 rating=3 movie 242@1997-12-04T15:55:49Z",
            "! u.item:3: it has 3 fields, a movie has 24",
            "! u.user:2: age: `old` is not a finite number",
        ]
    );
    assert_eq!(
        import(
            &[
                ("ratings.dat", b"1::1193::5::978300760\n1::1193::x::978300760\n"),
                ("movies.dat", b"1::Le caf\xe9 (1995)::Comedy|War\n"),
                ("users.dat", b"1::F::1::10::48067\n2::F::1::99::48067\n"),
            ],
            &Request::default()
        ),
        [
            r#"movies.dat:1 movie 1 {"genres":["Comedy","War"],"title":"Le café","year":1995}"#,
            r#"users.dat:1 user 1 {"age":1,"gender":"F","occupation":"K-12 student","zip_code":"48067"}"#,
            "ratings.dat:1 1 rating=5 movie 1193@2000-12-31T22:12:40Z",
            "! users.dat:2: occupation: `99` is not one of 0 to 20",
            "! ratings.dat:2: rating: `x` is not a finite number",
        ]
    );
    assert_eq!(
        import(
            &[(
                "ratings.csv",
                b"user,movie,rating,order,fold\r\n1,3186,4,1,5\r\n2,5,3,,1\r\n1,1,NaN,2,5\r\n"
            )],
            &Request::default()
        ),
        [
            "ratings.csv:2 1 rating=4 movie 3186@2000-04-25T00:01:00Z",
            "ratings.csv:3 2 rating=3 movie 5@2000-04-25T00:00:00Z",
            "! ratings.csv:4: rating: `NaN` is not a finite number",
        ]
    );
    assert_eq!(
        import(
            &[
                ("links.csv", b"movieId,imdbId,tmdbId\n1,0114709,862\n"),
                ("movies.csv", b"movieId,title,genres\n1,\"City, The (1995)\",(no genres listed)\n"),
                ("ratings.csv", RATINGS),
                ("tags.csv", b"userId,movieId,tag,timestamp\n3,1,007,1445714994\n"),
            ],
            &Request::default()
        ),
        [
            r#"links.csv:2 movie 1 {"imdb_id":"0114709","tmdb_id":"862"}"#,
            r#"movies.csv:2 movie 1 {"title":"City, The","year":1995}"#,
            "ratings.csv:2 1 rating=2.5 movie 31@2009-12-14T02:52:24Z",
            "ratings.csv:3 1 rating=3 movie 1029@2009-12-14T02:52:59Z",
            r#"tags.csv:2 3 tag movie 1@2015-10-24T19:29:54Z{"tag":"007"}"#,
        ]
    );
}

#[test]
fn lightgcn_is_read() {
    assert_eq!(
        import(&[("test.txt", b"0 7\n"), ("train.txt", b"0 1 2\n1 \n2 x 3\n\n")], &Request::default()),
        [
            "train.txt:1#1 0 view item 1",
            "train.txt:1#2 0 view item 2",
            "train.txt:3#2 2 view item 3",
            r#"test.txt:1#1 0 view item 7{"split":"test"}"#,
            "! train.txt:3: item 1: `x` is not a whole number",
        ]
    );
}

#[test]
fn sequences_are_told_from_tables_of_names() {
    let sequences: &[u8] = b"1 10\n1 11\n2 10\n";
    let check =
        |files: Files<'_>, expected: &[&str]| assert_eq!(import(files, &Request::default()), expected);
    let rows = |name: &str| {
        let row = |line: u32, pair: &str| format!("{name}:{line} {pair}@1970-01-01T00:00:0{line}Z");
        [row(1, "1 view item 10"), row(2, "1 view item 11"), row(3, "2 view item 10")]
    };
    let expected = rows("sequences.txt");
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    check(&[("sequences.txt", sequences)], &expected);
    check(&[("sequences.txt", sequences), ("item_to_movie.txt", b"1 7\n2 9\n3 8\n")], &expected);

    let unclear: [&[u8]; 5] =
        [b"1 10\n2 11\n", b"2 10\n2 11\n1 10\n", b"1 10 5\n1 11 5\n", b"a b\na c\n", b""];
    for text in unclear {
        let folder = folder(&[("sequences.txt", text)]);
        let error = start(folder.path(), &Request::default()).err().unwrap().to_string();
        assert!(error.contains("user_id=#0,entity_id=#1"), "{error}");
    }
}

#[test]
fn delimited_is_read() {
    let check = |name: &str, text: &[u8], request: &Request, expected: &[&str]| {
        assert_eq!(import(&[(name, text)], request), expected, "{}", String::from_utf8_lossy(text));
    };
    let guess = Request::default();
    check(
        "a.csv",
        b"\xef\xbb\xbfitem_id,user_id,ts,x\r\n\"a \"\"1\"\"\",7,1700000000000,9\r\n",
        &guess,
        &["a.csv:2 7 view item a \"1\"@2023-11-14T22:13:20Z"],
    );
    check(
        "a.tsv",
        b"user_id:token\titem_id:token\trating:float\n7\ta\t4\n",
        &guess,
        &["a.tsv:2 7 rating=4 item a"],
    );
    check(
        "a.csv",
        b"item_id,price,new,code,title,empty\n1,9.5,true,007,\"A, B\",\n",
        &guess,
        &[r#"a.csv:2 item 1 {"code":"007","new":true,"price":9.5,"title":"A, B"}"#],
    );
    check(
        "a.csv",
        b"user_id,attributes\n1,\"{\"\"age\"\":3}\"\n2,\n3,[1]\n",
        &guess,
        &[
            r#"a.csv:2 user 1 {"age":3}"#,
            "a.csv:3 user 2 {}",
            "! a.csv:4: attributes: invalid type: sequence, expected an object of attributes at line 1 column 0",
        ],
    );
    let by_place = request("csv", "user_id=#1,entity_id=#0,timestamp=@row:s,interaction_type='buy'");
    check(
        "a.log",
        b"a,7\nb,8\n",
        &by_place,
        &["a.log:1 7 buy item a@1970-01-01T00:00:01Z", "a.log:2 8 buy item b@1970-01-01T00:00:02Z"],
    );
    let forms = request(
        "",
        "entity_id=id,entity_type=kind,attributes.n=n:number,attributes.t=t:tags(;),attributes.b=b:boolean,attributes=*",
    );
    check(
        "a.csv",
        b"id,kind,n,t,b,rest\n1,book,2,a; b,yes,r\n2,,x,,no,\n3,,1,,maybe,\n",
        &forms,
        &[
            r#"a.csv:2 book 1 {"b":true,"n":2,"rest":"r","t":["a","b"]}"#,
            "! a.csv:3: n: `x` is not a finite number",
            "! a.csv:4: b: `maybe` is not true or false",
        ],
    );
}

#[test]
fn bad_lines_are_named_and_the_rest_is_kept() {
    let long = [b"1,".to_vec(), vec![b'x'; MAX_RECORD_BYTES + 1], b",1,1\n".to_vec()].concat();
    let text = [
        b"user_id,item_id,rating,timestamp\n1,a,5,100\n2,b,five,100\n3,c,inf,100\n4,d,1,noon\n5,e,1\n,f,1,1\n6,,1,1\n".to_vec(),
        b"7,g\xff,1,1\n8,h\0,1,1\n9,\"i\"x,1,1\n10,\"j,1,1\n".to_vec(),
        long,
        b"11,l,1,1e30\n12,m\tx,,\n13,n,,\n".to_vec(),
    ]
    .concat();
    assert_eq!(
        import(&[("a.csv", &text)], &Request::default()),
        [
            "a.csv:2 1 rating=5 item a@1970-01-01T00:01:40Z",
            "a.csv:16 13 rating item n",
            "! a.csv:3: rating: `five` is not a finite number",
            "! a.csv:4: rating: `inf` is not a finite number",
            "! a.csv:5: timestamp: `noon` is not a time such as 2024-05-01T12:00:00Z",
            "! a.csv:6: it has 3 fields, the header has 4",
            "! a.csv:7: user_id: it is missing or empty",
            "! a.csv:8: item_id: it is missing or empty",
            "! a.csv:9: not UTF-8 at byte 4",
            "! a.csv:10: a NUL byte at byte 4",
            "! a.csv:11: a quote inside a quoted field must be doubled",
            "! a.csv:12: the quoted field does not end within 1 MiB",
            "! a.csv:13: the line is longer than 1048576 bytes",
            "! a.csv:14: timestamp: 1000000000000000000000000000000 is out of the range of time",
            "! a.csv:15: item_id: an id has no control characters, `m\\tx` does",
        ]
    );
    // A stray quote that closes lines later must not take them with it.
    assert_eq!(
        import(&[("a.csv", b"user_id,item_id\n\"1,a\n2,b\n3\",c,d\n4,d\n")], &Request::default()),
        [
            "a.csv:3 2 view item b",
            "a.csv:5 4 view item d",
            "! a.csv:2: it has 3 fields, the header has 2",
            "! a.csv:4: it has 3 fields, the header has 2",
        ]
    );
    assert_eq!(import(&[("a.csv", b"")], &Request::default()), ["! a.csv:1: the file is empty"]);
    assert_eq!(import(&[("a.csv", b"user_id,item_id\n")], &Request::default()), Vec::<String>::new());
}

#[test]
fn json_lines_are_read() {
    assert_eq!(
        import(
            &[(
                "a.ndjson",
                br#"{"user_id":7,"entity_id":"a","rating":4.5,"timestamp":"2024-05-01T12:00:00Z","metadata":{"page":2}}
{"entity_id":"a","entity_type":"book","attributes":{"year":1999,"genres":["x"]}}
{"user_id":"7","attributes":{}}
{"user_id":1.5,"entity_id":"a"}
{"user_id":"u","entity_id":"e","rating":"high"}
{"entity_id":"a","attributes":{"price":{"amount":1}}}
{"user_id":"u"
[1]
{"x":1}
"#
            )],
            &Request::default()
        ),
        [
            r#"a.ndjson:1 7 rating=4.5 item a@2024-05-01T12:00:00Z{"page":2}"#,
            r#"a.ndjson:2 book a {"genres":["x"],"year":1999}"#,
            "a.ndjson:3 user 7 {}",
            "! a.ndjson:4: user_id: `1.5` is not a text or a whole number",
            "! a.ndjson:5: rating: `high` is not a finite number",
            "! a.ndjson:6: attributes: price: invalid type: map, expected a number, a boolean, a text or a list of texts",
            "! a.ndjson:7: not JSON at byte 14: EOF while parsing an object",
            "! a.ndjson:8: a line must be one JSON object",
            "! a.ndjson:9: cannot tell which column is the user or the entity: the header has `x`; pass a mapping such \
             as user_id=COLUMN,entity_id=COLUMN",
        ]
    );
    assert_eq!(
        import(
            &[("a.jsonl", br#"{"who":{"id":"u"},"what":"e","when":1700000000000000}"#)],
            &request("", "user_id=who.id,entity_id=what,timestamp=when:us")
        ),
        ["a.jsonl:1 u view item e@2023-11-14T22:13:20Z"]
    );
}

#[test]
fn gorse_is_read() {
    let expected = [
        r#"dump.bin:1 user bob {"city":"Rome","likes":["a"]}"#,
        r#"dump.bin:2 item x {"categories":["c1","c2"],"comment":"note","labels":["l1"]} hidden from 2023-11-14T22:13:20Z"#,
        "dump.bin:3 item y {}",
        "dump.bin:4 bob star item x@2023-11-14T22:13:20Z",
        "! dump.bin:3: v: a list of anything but texts is left out",
        "! dump.bin:5: ItemId: an id must have at least one character",
    ];
    assert_eq!(import(&[("dump.bin", &gorse_dump())], &Request::default()), expected);
    let cut = &gorse_dump()[..gorse_dump().len() - 12];
    assert_eq!(
        import(&[("dump.bin", cut)], &Request::default())[5],
        "! dump.bin:5: the dump is cut off within a message"
    );
    assert_eq!(
        import(
            &[
                ("users.jsonl", br#"{"UserId":"bob","Labels":["a"],"Comment":""}"#),
                ("items.jsonl", br#"{"ItemId":"x","IsHidden":true,"Categories":["c"],"Timestamp":"2024-05-01T12:00:00Z","Labels":null,"Comment":""}"#),
                ("feedback.jsonl", br#"{"FeedbackType":"star","UserId":"bob","ItemId":"x","Value":2,"Timestamp":"0001-01-01T00:00:00Z","Comment":""}"#),
            ],
            &Request::default()
        ),
        [
            "feedback.jsonl:1 bob star=2 item x",
            r#"items.jsonl:1 item x {"categories":["c"]} hidden from 2024-05-01T12:00:00Z"#,
            r#"users.jsonl:1 user bob {"labels":["a"]}"#,
        ]
    );
    assert_eq!(
        import(
            &[(
                "items.csv",
                b"item_id,is_hidden,categories,time_stamp,labels,description\r\n\
                  2,false,x|y,2021-01-01 01:01:01.000000001 +0000 UTC,\"{\"\"genre\"\":[\"\"a\"\"]}\",\"t\r\nw\"\r\n\
                  3,true,,2022-01-01 01:01:01 +0000 UTC,b|c,\"\"\"three\"\"\"\r\n"
            )],
            &Request::default()
        ),
        [
            r#"items.csv:2 item 2 {"categories":["x","y"],"comment":"t\r\nw","genre":["a"]} from 2021-01-01T01:01:01.000000001Z"#,
            r#"items.csv:4 item 3 {"comment":"\"three\"","labels":["b","c"]} hidden from 2022-01-01T01:01:01Z"#,
        ]
    );
}

#[test]
fn unclear_input_says_what_to_do() {
    let check = |files: Files<'_>, request: &Request, code: ErrorCode, part: &str| {
        let folder = folder(files);
        let error = start(folder.path(), request).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.message().contains(part), "{error}");
    };
    let guess = Request::default();
    check(&[], &guess, IMPORT_FORMAT, "there is no file");
    check(&[("a.txt", b"1 2\n")], &guess, IMPORT_FORMAT, "pass the format");
    check(&[("a.json", b"[{}]")], &guess, IMPORT_FORMAT, "one object a line");
    check(&[("a.csv", b"x,y\n1,2\n")], &guess, IMPORT_FORMAT, "the header has `x`, `y`");
    check(
        &[("a.csv", b"user_id,item_id\n"), ("b.tsv", b"user_id\titem_id\n")],
        &guess,
        IMPORT_FORMAT,
        "csv, tsv",
    );
    check(
        &[("u.data", b"1\t1\t1\t1\n"), ("train.txt", b"1 2\n")],
        &guess,
        IMPORT_FORMAT,
        "lightgcn, movielens-100k",
    );
    check(
        &[("a.csv", b"x,y\n")],
        &request("csv", "user_id=z"),
        IMPORT_MAPPING,
        "no column `z`: the header has `x`, `y`",
    );
    check(
        &[("a.csv", b"x,y\n")],
        &request("csv", "user_id=x,attributes.q=#7"),
        IMPORT_MAPPING,
        "no column #7",
    );
    check(&[("a.csv", b"x\xff,y\n")], &request("csv", "user_id=x"), IMPORT_FORMAT, "header of");
    check(&[("a.csv", b"\xff\xfea\0")], &request("csv", "user_id=x"), IMPORT_SOURCE, "convert it to UTF-8");
    check(&[("train.txt", b"1 2\n")], &request("lightgcn", "user_id=#0"), IMPORT_FORMAT, "fixed columns");
    check(&[("a.csv", b"x\n")], &request("movielens", ""), IMPORT_FORMAT, "not a file of movielens");
    let absent = start(Path::new("/nowhere/at/all"), &guess).unwrap_err();
    assert_eq!(absent.code(), IMPORT_SOURCE);
    assert!("excel".parse::<Format>().unwrap_err().message().contains("movielens-100k, "));
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

#[test]
fn an_import_goes_on_exactly_where_it_stood() {
    for (name, bytes, request) in samples() {
        let folder = folder(&[(name, &bytes)]);
        let plan = || Plan::detect(folder.path(), &request).unwrap();
        let mut whole = Importer::start(plan(), Options::default()).unwrap();
        let rows: Vec<ImportedRow> = whole.by_ref().map(Result::unwrap).collect();
        for taken in 0..=rows.len() {
            let mut first = Importer::start(plan(), Options::default()).unwrap();
            let mut joined: Vec<ImportedRow> = first.by_ref().take(taken).map(Result::unwrap).collect();
            let json = serde_json::to_string(&first.checkpoint().unwrap()).unwrap();
            let checkpoint = serde_json::from_str(&json).unwrap();
            let mut second = Importer::resume(plan(), Options::default(), checkpoint).unwrap();
            joined.extend(second.by_ref().map(Result::unwrap));
            assert_eq!(joined, rows, "{name} after {taken} rows");
            assert_eq!(second.report(), whole.report(), "{name} after {taken} rows");
        }
    }
}

#[test]
fn a_checkpoint_survives_growth_and_refuses_another_file() {
    let folder = folder(&[("a.csv", b"user_id,item_id\n1,a\n")]);
    let path = folder.path().join("a.csv");
    let resume = |checkpoint: &Checkpoint| {
        Importer::resume(Plan::detect(&path, &Request::default())?, Options::default(), checkpoint.clone())
    };
    let mut importer = start(&path, &Request::default()).unwrap();
    assert_eq!(importer.by_ref().count(), 1);
    let checkpoint = importer.checkpoint().unwrap();
    std::fs::write(&path, b"user_id,item_id\n1,a\n2,b\n").unwrap();
    let rows: Vec<String> = resume(&checkpoint).unwrap().map(|row| render(&row.unwrap())).collect();
    assert_eq!(rows, ["a.csv:3 2 view item b"]);
    for text in ["user_id,item_id\n9,a\n2,b\n", ""] {
        std::fs::write(&path, text).unwrap();
        assert_eq!(resume(&checkpoint).unwrap_err().code(), IMPORT_CHECKPOINT, "{text}");
    }
    let other = Checkpoint { file: "b.csv".to_owned(), ..checkpoint };
    assert!(resume(&other).unwrap_err().message().contains("not among the files"));
}

#[test]
fn strict_ends_at_the_first_bad_line() {
    let folder = folder(&[("a.csv", b"user_id,item_id,rating\n1,a,5\n2,b,x\n3,c,5\n")]);
    let plan = Plan::detect(folder.path(), &Request::default()).unwrap();
    let mut importer = Importer::start(plan, Options { strict: true, ..Options::default() }).unwrap();
    assert!(importer.next().unwrap().is_ok());
    let error = importer.next().unwrap().unwrap_err();
    assert_eq!(error.code(), IMPORT_LINE);
    assert_eq!(error.message(), "a.csv:3: rating: `x` is not a finite number");
    assert!(importer.next().is_none());
    assert_eq!(importer.report().rows(), 1);
}

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

#[cfg(feature = "parquet")]
mod parquet_files {
    use std::sync::Arc;

    use parquet::basic::Compression;
    use parquet::column::writer::ColumnWriter;
    use parquet::data_type::ByteArray;
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::*;

    fn written(compression: Compression) -> Vec<u8> {
        let schema = "message rows { required byte_array user_id (utf8); required int64 item_id; optional double rating;
            required int64 ts (timestamp_millis); }";
        let properties = WriterProperties::builder().set_compression(compression).build();
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let mut bytes = Vec::new();
        let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties)).unwrap();
        for group in 0..2 {
            let mut rows = writer.next_row_group().unwrap();
            while let Some(mut column) = rows.next_column().unwrap() {
                match column.untyped() {
                    ColumnWriter::ByteArrayColumnWriter(column) => {
                        column
                            .write_batch(&[ByteArray::from("u1"), ByteArray::from("u2")], None, None)
                            .unwrap();
                    }
                    ColumnWriter::Int64ColumnWriter(column) => {
                        column.write_batch(&[1_700_000_000_000 + group, 7], None, None).unwrap();
                    }
                    ColumnWriter::DoubleColumnWriter(column) => {
                        column.write_batch(&[f64::NAN], Some(&[1, 0]), None).unwrap();
                    }
                    _ => panic!("there is no such column"),
                }
                column.close().unwrap();
            }
            rows.close().unwrap();
        }
        writer.close().unwrap();
        bytes
    }

    #[test]
    fn parquet_is_read_and_resumed() {
        for compression in
            [Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::ZSTD(Default::default())]
        {
            let bytes = written(compression);
            let expected = [
                "a.parquet:2 u2 rating item 7@1970-01-01T00:00:00.007Z",
                "a.parquet:4 u2 rating item 7@1970-01-01T00:00:00.007Z",
                "! a.parquet:1: rating: `NaN` is not a finite number",
                "! a.parquet:3: rating: `NaN` is not a finite number",
            ];
            assert_eq!(import(&[("a.parquet", &bytes)], &Request::default()), expected);
            let folder = folder(&[("a.parquet", &bytes)]);
            let mut first = start(folder.path(), &Request::default()).unwrap();
            first.next().unwrap().unwrap();
            let plan = Plan::detect(folder.path(), &Request::default()).unwrap();
            let second = Importer::resume(plan, Options::default(), first.checkpoint().unwrap()).unwrap();
            assert_eq!(second.map(|row| row.unwrap().position.line).collect::<Vec<_>>(), [4]);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn a_broken_parquet_file_is_read(at in any::<prop::sample::Index>(), byte: u8, cut: bool) {
            let mut bytes = written(Compression::SNAPPY);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if cut {
                bytes.truncate(at);
            }
            let folder = folder(&[("a.parquet", &bytes)]);
            if let Ok(importer) = start(folder.path(), &Request::default()) {
                prop_assert!(importer.take(1_000_000).count() < 1_000_000);
            }
        }
    }
}
