//! LightGCN lists and sequences.

use super::*;

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
fn what_is_held_out_is_left_out_beside_what_is_learned_from() {
    let folder = folder(&[("test.txt", b"0 7\n"), ("train.txt", b"0 1\n")]);
    let plan = |path: &Path| Plan::detect(path, &Request::default()).unwrap().without_held_out();
    let both = plan(folder.path());
    assert_eq!(both.files().collect::<Vec<_>>(), ["train.txt"]);
    assert_eq!(both.ignored()[0].name, "test.txt");
    assert!(both.ignored()[0].reason.contains("name the file itself"), "{:?}", both.ignored());
    let named = plan(&folder.path().join("test.txt"));
    assert_eq!((named.files().collect::<Vec<_>>(), named.ignored().len()), (vec!["test.txt"], 0));
}
