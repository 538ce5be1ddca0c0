//! JSON lines.

use super::*;

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
