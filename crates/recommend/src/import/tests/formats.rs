//! What is not clear is refused with what to do.

use super::*;

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
