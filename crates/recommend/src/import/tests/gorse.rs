//! The dump, the JSON lines and the CSV of gorse.

use super::super::protobuf::encode;
use super::*;

/// A dump with two rows that are not acceptable.
pub(super) fn gorse_dump() -> Vec<u8> {
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
