//! The parameters of recommendations: what each does, and what each refuses.

use serde_json::{Value, json};

use crate::questions::{busiest, chosen, shop};
use crate::support::{encode, ids, refused};

#[test]
fn parameters_do_what_they_say() {
    let server = shop();
    let user = busiest(&server);
    let seen = chosen(&server, &user);
    let ask = |query: &str| server.read(&format!("/api/v1/recommendations/user/{user}?{query}"));
    let total = server.read("/api/v1/export/entities").as_array().unwrap().len();

    assert_eq!(ids(&ask("")).len(), 10);
    assert_eq!(ids(&ask("count=100")).len(), total - seen.len());
    assert_eq!(ids(&ask("count=100&exclude_seen=false")).len(), total);
    assert_eq!(ids(&ask("entity_type=product")), ids(&ask("")));
    assert_eq!(ids(&ask("entity_type=none")), Vec::<String>::new());

    let top = ids(&ask("count=3"));
    let without = ids(&ask(&format!("exclude={},{}", top[0], encode(&format!(" {}", top[2])))));
    assert!(!without.contains(&top[0]) && !without.contains(&top[2]));
    assert_eq!(without[0], top[1]);

    let cheap = ask(&format!("count=100&attributes=price&filter={}", encode("attributes.price < 20.0")));
    assert_eq!(cheap["complete"], true);
    let prices: Vec<f64> =
        lines(&cheap).iter().map(|line| line["attributes"]["price"].as_f64().unwrap()).collect();
    assert!(!prices.is_empty() && prices.len() < total - seen.len());
    assert!(prices.iter().all(|price| *price < 20.0), "{prices:?}");
    let guarded = encode("has(attributes.unheard_of) && attributes.unheard_of == 1");
    assert_eq!(ids(&ask(&format!("filter={guarded}"))), Vec::<String>::new());

    let last = ids(&ask("count=100")).pop().unwrap();
    let boosted = ask(&format!("explain=true&boost={}", encode(&format!("id == '{last}' ? 1e6 : 1.0; 1.0"))));
    let raised = lines(&boosted).iter().find(|line| line["entity_id"] == json!(last));
    assert!(raised.is_some_and(|line| line["explanation"]["boost"].as_f64() > Some(1.0)), "{boosted}");

    let diverse = ids(&ask("count=20&diversity=0.9"));
    let plain = ids(&ask("count=20"));
    assert_eq!((diverse.len(), &diverse[0]), (20, &plain[0]));
    assert_ne!(diverse, plain);
    assert_eq!(ids(&ask("count=20&diversity=0")), plain);

    let named = ask("count=1&attributes=title,price,unheard_of");
    let names: Vec<_> = lines(&named)[0]["attributes"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(names, ["price", "title"]);
    let all = ask("count=1&attributes=*");
    let entity = server.read(&format!("/api/v1/entities/{}", lines(&all)[0]["entity_id"].as_str().unwrap()));
    assert_eq!(lines(&all)[0]["attributes"], entity["attributes"]);
    assert_eq!(lines(&ask("count=1"))[0].get("attributes"), None);

    assert_eq!(ids(&ask("collaborative_weight=0&count=5")), ids(&ask("algorithm=content_based&count=5")));
}

fn lines(answer: &Value) -> &Vec<Value> {
    answer["recommendations"].as_array().unwrap()
}

#[test]
fn parameters_refuse_what_they_cannot_do() {
    let server = crate::support::Server::new();
    let check = |query: &str, code: &str, field: &str| {
        let answer = server.get(&format!("/api/v1/recommendations/user/ada?{query}"));
        refused(&answer, 400, code, Some(field));
    };
    for count in ["0", "101", "-1", "ten", "1.5", "", "99999999999999999999"] {
        check(&format!("count={count}"), "VALIDATION_ERROR", "count");
    }
    check("cuont=5", "VALIDATION_ERROR", "cuont");
    check("count=5&count=6", "VALIDATION_ERROR", "count");
    check("collaborative_weight=1.5", "VALIDATION_ERROR", "collaborative_weight");
    check("collaborative_weight=0.7&content_weight=0.7", "VALIDATION_ERROR", "content_weight");
    for algorithm in ["collaborative", "content_based", "sequence", "trending", "popular", "latest"] {
        for field in ["collaborative_weight", "content_weight"] {
            check(&format!("algorithm={algorithm}&{field}=0.5"), "VALIDATION_ERROR", field);
        }
    }
    check("result_type=product", "VALIDATION_ERROR", "result_type");
    check("content_weight=NaN", "VALIDATION_ERROR", "content_weight");
    check("diversity=2", "VALIDATION_ERROR", "diversity");
    check("diversity=inf", "VALIDATION_ERROR", "diversity");
    check("explain=maybe", "VALIDATION_ERROR", "explain");
    check("exclude_seen=1", "VALIDATION_ERROR", "exclude_seen");
    check(&format!("exclude={}", "a,".repeat(1_001)), "VALIDATION_ERROR", "exclude");
    check(&format!("boost={}", "1.0;".repeat(9)), "VALIDATION_ERROR", "boost");
    let answer = server.get("/api/v1/recommendations/user/ada?tenant_id=else");
    refused(&answer, 403, "TENANT_MISMATCH", Some("tenant_id"));
}

#[test]
fn weights_are_of_the_hybrid() {
    let server = shop();
    let path = "/api/v1/recommendations/entity/item-01";
    let hybrid = server.read(&format!("{path}?algorithm=hybrid&content_weight=1"));
    assert_eq!(ids(&hybrid), ids(&server.read(&format!("{path}?content_weight=1"))));
    let refuse = |path: &str, field: &str| {
        refused(
            &server.get(&format!("/api/v1/recommendations/{path}")),
            400,
            "VALIDATION_ERROR",
            Some(field),
        );
    };
    refuse("entity/item-01?algorithm=sequence&content_weight=1", "content_weight");
    refuse("popular?content_weight=1", "content_weight");
    refuse("bought-together/item-01?collaborative_weight=1", "collaborative_weight");
    refuse("bought-together/item-01?algorithm=hybrid", "algorithm");
    let options = json!({"algorithm": "trending", "collaborative_weight": 0.5});
    let session = json!({"interactions": [], "options": options});
    let answer = server.post("/api/v1/recommendations/session", &session);
    refused(&answer, 400, "VALIDATION_ERROR", Some("collaborative_weight"));
}

#[test]
fn the_type_of_an_entity_is_not_the_type_of_results() {
    let server = crate::support::Server::new();
    let kinds = ["film", "book"];
    for (kind, count) in [("film", 4), ("book", 3)] {
        for number in 0..count {
            let attributes = json!({"genres": ["space"], "shelf": number % 2});
            let entity =
                json!({"entity_id": format!("{number}"), "entity_type": kind, "attributes": attributes});
            server.create("/api/v1/entities", &entity);
        }
    }
    for user in 0..12 {
        for (number, kind) in [(user % 3, kinds[user % 2]), (user % 3, kinds[(user + 1) % 2]), (3, "film")] {
            server.create(
                "/api/v1/interactions",
                &json!({"user_id": format!("u{user}"), "entity_id": format!("{number}"), "entity_type": kind,
                        "interaction_type": "purchase", "timestamp": format!("2024-05-01T10:{user:02}:00Z")}),
            );
        }
    }
    let home = server.stop();
    home.run(&["train"]).succeeded();
    let server = home.serve();
    let types = |path: &str| {
        let answer = server.read(&format!("/api/v1/recommendations/{path}"));
        let lines = lines(&answer).iter();
        let mut types: Vec<String> =
            lines.map(|line| line["entity_type"].as_str().unwrap().to_owned()).collect();
        types.sort();
        types.dedup();
        types.join(",")
    };
    assert_eq!(types("entity/0?entity_type=film"), "film");
    assert_eq!(types("entity/0?entity_type=film&result_type=book"), "book");
    assert_eq!(types("entity/0?entity_type=book&result_type=*"), "book,film");
    assert_eq!(types("entity/3"), "film", "only one type has this id");
    assert_eq!(types("entity/0?entity_type=film&result_type=none"), "");
    assert_eq!(types("bought-together/0?entity_type=film"), "book,film");
    assert_eq!(types("bought-together/0?entity_type=film&result_type=*"), "book,film");
    assert_eq!(types("bought-together/0?entity_type=film&result_type=book"), "book");
    assert_eq!(types("popular?entity_type=book"), "book");
    for question in ["entity", "bought-together"] {
        let ambiguous = server.get(&format!("/api/v1/recommendations/{question}/0?result_type=film"));
        refused(&ambiguous, 400, "VALIDATION_ERROR", Some("entity_type"));
        let unknown = server.get(&format!("/api/v1/recommendations/{question}/0?entity_type=none"));
        assert_eq!(unknown.0, 404, "{}", unknown.1);
    }
}

#[test]
fn hostile_expressions_are_refused() {
    let server = crate::support::Server::new();
    server.create("/api/v1/entities", &json!({"entity_id": "a", "attributes": {"tags": vec!["t"; 1_000]}}));
    let hostile = [
        "1 +".to_owned(),
        "(".repeat(5_000),
        format!("{}1{}", "(".repeat(40), ")".repeat(40)),
        format!("{}true", "!".repeat(500)),
        "[".repeat(33),
        "x".repeat(2_001),
        "user.secret == 1".to_owned(),
        "attributes.title.matches('(a+)+$')".to_owned(),
        "attributes.tags.all(x, attributes.tags.all(y, x == y))".to_owned(),
        "attributes.tags.map(x, attributes.tags.filter(y, y == x)).size() > 0".to_owned(),
        "{'a': 1}.a == 1".to_owned(),
        "\u{0}\u{1}'".to_owned(),
        "'unclosed".to_owned(),
    ];
    for text in &hostile {
        for parameter in ["filter", "boost"] {
            let answer = server.get(&format!("/api/v1/recommendations/latest?{parameter}={}", encode(text)));
            assert_eq!(answer.0, 400, "{text} was taken: {}", answer.1);
            refused(&answer, 400, "INVALID_EXPRESSION", Some(parameter));
        }
        let session = json!({"interactions": [], "options": {"filter": text}});
        let answer = server.post("/api/v1/recommendations/session", &session);
        refused(&answer, 400, "INVALID_EXPRESSION", Some("filter"));
    }
    // These can be compiled, and must neither harm nor take long.
    let failing = [
        "9223372036854775807 + 9223372036854775807 > 0",
        "1 / 0 == 1",
        "attributes.tags[5000] == 't'",
        "'a' < 1",
        "attributes.yaer > 2000",
        "attributes.yaer % 2 == 0",
        "attributes.tags",
    ];
    for text in failing {
        for parameter in ["filter", "boost"] {
            let answer = server.get(&format!("/api/v1/recommendations/latest?{parameter}={}", encode(text)));
            refused(&answer, 400, "INVALID_EXPRESSION", Some(parameter));
        }
    }
    for (text, passes) in [("attributes.tags.all(tag, tag.contains('t'))", 1), ("true", 1), ("false", 0)] {
        let (status, answer) = server.get(&format!("/api/v1/recommendations/latest?filter={}", encode(text)));
        assert_eq!((status, ids(&answer).len()), (200, passes), "{text}: {answer}");
    }
    // What would fill the memory is not evaluated at all.
    let bomb = encode(&format!("attributes.tags{}.size() > 0", ".map(x, x + x)".repeat(40)));
    let answer = server.read(&format!("/api/v1/recommendations/latest?filter={bomb}"));
    assert_eq!((ids(&answer).len(), &answer["complete"]), (0, &json!(false)));
    let answer = server.read(&format!("/api/v1/recommendations/latest?boost={bomb}"));
    assert_eq!((ids(&answer).len(), &answer["complete"]), (1, &json!(false)));
}

#[test]
fn boosters_are_separated_outside_of_strings() {
    let server = crate::support::Server::new();
    for id in ["a", "a;b"] {
        server.create("/api/v1/entities", &json!({"entity_id": id}));
    }
    let boost = encode("id == 'a;b' ? 1000.0 : 1.0; 2.0");
    let answer = server.read(&format!("/api/v1/recommendations/latest?explain=true&boost={boost}"));
    assert_eq!(ids(&answer), ["a;b", "a"]);
    let added = |line: usize| lines(&answer)[line]["explanation"]["boost"].as_f64().unwrap();
    assert!((added(0) - 2_000_f64.ln()).abs() < 1e-3 && (added(1) - 2_f64.ln()).abs() < 1e-3, "{answer}");
}
