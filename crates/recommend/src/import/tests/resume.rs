//! Going on: after any row, after growth, after repair, and beside new files.

use super::*;

const WITH_IDS: Options = Options { strict: false, bad_lines_kept: 20, row_ids: true };

/// Reads everything, as from the text of a checkpoint where there is one; what is left is the last checkpoint.
fn run(path: &Path, earlier: Option<&Checkpoint>) -> (Vec<ImportedRow>, Vec<Resumed>, Importer) {
    let plan = Plan::detect(path, &Request::default()).unwrap();
    let mut importer = match earlier {
        Some(checkpoint) => Importer::resume(plan, WITH_IDS, reread(checkpoint)).unwrap(),
        None => Importer::start(plan, WITH_IDS).unwrap(),
    };
    let rows = importer.by_ref().map(Result::unwrap).collect();
    let resumed = importer.take_resumed();
    (rows, resumed, importer)
}

fn reread(checkpoint: &Checkpoint) -> Checkpoint {
    serde_json::from_str(&serde_json::to_string(checkpoint).unwrap()).unwrap()
}

fn places(rows: &[ImportedRow]) -> Vec<String> {
    rows.iter().map(|row| row.position.to_string()).collect()
}

#[test]
fn an_import_goes_on_exactly_where_it_stood() {
    for (name, bytes, request) in samples() {
        let folder = folder(&[(name, &bytes)]);
        let plan = || Plan::detect(folder.path(), &request).unwrap();
        let mut whole = Importer::start(plan(), WITH_IDS).unwrap();
        let rows: Vec<ImportedRow> = whole.by_ref().map(Result::unwrap).collect();
        for taken in 0..=rows.len() {
            let mut first = Importer::start(plan(), WITH_IDS).unwrap();
            let mut joined: Vec<ImportedRow> = first.by_ref().take(taken).map(Result::unwrap).collect();
            let mut second = Importer::resume(plan(), WITH_IDS, reread(&first.checkpoint())).unwrap();
            joined.extend(second.by_ref().map(Result::unwrap));
            assert_eq!(joined, rows, "{name} after {taken} rows");
            assert_eq!(second.report(), whole.report(), "{name} after {taken} rows");
            assert_eq!(second.checkpoint(), whole.checkpoint(), "{name} after {taken} rows");
            let again = Importer::resume(plan(), WITH_IDS, second.checkpoint()).unwrap();
            assert_eq!(again.progress().position_bytes, again.progress().total_bytes);
            assert_eq!(again.count(), 0, "{name} is done");
        }
    }
}

#[test]
fn what_changed_is_read_again_and_what_grew_is_gone_on_with() {
    let before = "user_id,item_id,rating\n1,a,5\n2,b,x\n3,c,5\n";
    let grown = |line: u64| Resumed::GoesOn { file: "a.csv".to_owned(), line };
    let changed = || Resumed::Changed { file: "a.csv".to_owned() };
    let check = |after: &str, expected: &[&str], became: Option<Resumed>, bad_lines: u64| {
        let folder = folder(&[("a.csv", before.as_bytes())]);
        let (_, _, first) = run(folder.path(), None);
        std::fs::write(folder.path().join("a.csv"), after).unwrap();
        let (rows, resumed, second) = run(folder.path(), Some(&first.checkpoint()));
        assert_eq!(places(&rows), expected, "{after:?}");
        assert_eq!(resumed, became.into_iter().collect::<Vec<_>>(), "{after:?}");
        assert_eq!(second.report().bad_lines, bad_lines, "{after:?}");
        let (rows, resumed, _) = run(folder.path(), Some(&second.checkpoint()));
        assert!(rows.is_empty() && resumed.is_empty(), "{after:?} is done");
    };
    check(before, &[], None, 1);
    check(&format!("{before}4,d,5\n"), &["a.csv:5"], Some(grown(4)), 1);
    let repaired = before.replace("2,b,x", "2,b,1");
    check(&repaired, &["a.csv:2", "a.csv:3", "a.csv:4"], Some(changed()), 0);
    check(&before.replace("2,b,x\n", ""), &["a.csv:2", "a.csv:3"], Some(changed()), 0);
    check("user_id,item_id,rating\n", &[], Some(changed()), 0);
    check("", &[], Some(changed()), 1);
    // The last line had no end, and is now another one.
    let open_end = format!("{}7\n", before.trim_end());
    check(&open_end, &["a.csv:2", "a.csv:4"], Some(changed()), 1);
}

#[test]
fn a_line_that_went_on_is_not_taken_for_a_new_one() {
    for (before, after, expected) in [
        ("user_id,item_id\n1,a", "user_id,item_id\n1,ab\n2,c\n", vec!["a.csv:2", "a.csv:3"]),
        ("user_id,item_id\n1,a", "user_id,item_id\n1,a\n2,c\n", vec!["a.csv:2", "a.csv:3"]),
        ("user_id,item_id\n1,a\n\"2", "user_id,item_id\n1,a\n\"2\n\",c\n", vec!["a.csv:2"]),
    ] {
        let folder = folder(&[("a.csv", before.as_bytes())]);
        let (earlier, _, first) = run(folder.path(), None);
        std::fs::write(folder.path().join("a.csv"), after).unwrap();
        let (rows, resumed, _) = run(folder.path(), Some(&first.checkpoint()));
        assert_eq!(places(&rows), expected, "{after:?}");
        assert_eq!(resumed, [Resumed::Changed { file: "a.csv".to_owned() }], "{after:?}");
        let kept = earlier.iter().filter(|row| rows.iter().any(|again| again.id == row.id)).count();
        assert_eq!(kept, usize::from(!after.contains("ab")), "{after:?}");
    }
}

#[test]
fn a_repair_before_the_place_to_go_on_from_is_seen() {
    let text = |user: &str| {
        let mut text = "user_id,item_id,rating\n".to_owned();
        (0..2_000).for_each(|line| text.push_str(&format!("u{line},i,{line}\n")));
        text.replace("u1500,", user)
    };
    let folder = folder(&[("a.csv", text(",").as_bytes())]);
    let path = folder.path().join("a.csv");
    let mut first = Importer::start(Plan::detect(&path, &Request::default()).unwrap(), WITH_IDS).unwrap();
    assert_eq!(first.by_ref().take(1_800).count(), 1_800);
    let checkpoint = first.checkpoint();
    assert_eq!(checkpoint.files[0].report.bad_lines, 1);
    std::fs::write(&path, text("u1500,")).unwrap();
    let (rows, resumed, second) = run(&path, Some(&checkpoint));
    assert_eq!((rows.len(), second.report().bad_lines), (2_000, 0));
    assert_eq!(resumed, [Resumed::Changed { file: "a.csv".to_owned() }]);
}

#[test]
fn files_that_came_later_are_read_wherever_they_stand() {
    let folder = folder(&[("m.csv", b"user_id,item_id\n1,a\n")]);
    let (_, _, first) = run(folder.path(), None);
    std::fs::write(folder.path().join("a.csv"), b"user_id,item_id\n2,a\n").unwrap();
    std::fs::write(folder.path().join("z.csv"), b"user_id,item_id\n3,a\n").unwrap();
    let (rows, resumed, second) = run(folder.path(), Some(&first.checkpoint()));
    assert_eq!((places(&rows), resumed.len()), (vec!["a.csv:2".to_owned(), "z.csv:2".to_owned()], 0));
    // A file that is away for a while is known when it is back.
    std::fs::rename(folder.path().join("m.csv"), folder.path().join("m.away")).unwrap();
    let (rows, _, third) = run(folder.path(), Some(&second.checkpoint()));
    assert!(rows.is_empty());
    std::fs::rename(folder.path().join("m.away"), folder.path().join("m.csv")).unwrap();
    assert!(run(folder.path(), Some(&third.checkpoint())).0.is_empty());
}

#[test]
fn rows_keep_their_ids_when_lines_move() {
    let ids = |text: &str| -> Vec<String> {
        let folder = folder(&[("a.csv", text.as_bytes())]);
        run(folder.path(), None).0.into_iter().map(|row| row.id.unwrap()).collect()
    };
    let before = ids("user_id,item_id\n1,a\n1,a\n2,b\n");
    let after = ids("user_id,item_id\n9,z\n1,a\n\n1,a\n2,b\n");
    assert_eq!(after[1..], before);
    assert!(before.iter().all(|id| *id != after[0]) && before[0] != before[1]);

    let sequences = |text: &str| -> Vec<String> {
        let folder = folder(&[("sequences.txt", text.as_bytes())]);
        run(folder.path(), None).0.into_iter().map(|row| row.id.unwrap()).collect()
    };
    let before = sequences("2 10\n2 11\n3 10\n");
    assert_eq!(sequences("1 10\n2 10\n2 11\n3 10\n")[1..], before, "the number of a line is no part of it");
}

#[test]
fn rows_that_say_the_same_are_counted_over_runs() {
    let text = b"user_id,item_id\n1,a\n1,a\n1,a\n";
    let folder = folder(&[("a.csv", text)]);
    let (whole, _, _) = run(folder.path(), None);
    let mut first =
        Importer::start(Plan::detect(folder.path(), &Request::default()).unwrap(), WITH_IDS).unwrap();
    first.next().unwrap().unwrap();
    let (rest, _, _) = run(folder.path(), Some(&first.checkpoint()));
    assert_eq!(rest, whole[1..]);
}

#[test]
fn another_format_or_mapping_is_refused() {
    let folder = folder(&[("a.csv", b"user_id,item_id\n1,a\n"), ("a.tsv", b"user_id\titem_id\n1\ta\n")]);
    let plan = |name: &str, request: &Request| Plan::detect(&folder.path().join(name), request).unwrap();
    let (_, _, first) = run(&folder.path().join("a.csv"), None);
    let check = |plan: Plan, part: &str| {
        let error = Importer::resume(plan, WITH_IDS, first.checkpoint()).unwrap_err();
        assert_eq!(error.code(), IMPORT_CHECKPOINT);
        assert!(error.message().contains(part), "{error}");
    };
    check(plan("a.tsv", &Request::default()), "it is of csv, the files are tsv");
    check(plan("a.csv", &request("", "user_id=item_id,entity_id=user_id")), "another mapping");
}
