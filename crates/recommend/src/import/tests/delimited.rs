//! CSV and its kin, and the lines of them that cannot be read.

use super::*;

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
    let expected = ["a.csv:2 7 rating=4 item a,b"];
    check("a.csv", b"user_id;item_id;rating\n7;a,b;4\n", &guess, &expected);
    check("a.csv", b"user_id\titem_id\trating\n7\ta,b\t4\n", &guess, &expected);
    check("a.csv", b"\"user_id\"|item_id|rating\n7|\"a,b\"|4\n", &guess, &expected);
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
