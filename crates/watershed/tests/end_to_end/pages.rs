//! Cursors: pages that together are the one long list.

use serde_json::{Value, json};

use crate::questions::{busiest, shop};
use crate::support::{Server, encode, ids, refused};

/// All pages, joined.
fn pages(server: &Server, path: &str, count: usize) -> Vec<String> {
    let mut all = Vec::new();
    let mut query = format!("{path}count={count}");
    for _ in 0..200 {
        let page = server.read(&query);
        all.extend(ids(&page));
        let Some(cursor) = page["next_cursor"].as_str() else { return all };
        assert_eq!(page["count"].as_u64(), Some(count as u64));
        query = format!("{path}count={count}&cursor={}", encode(cursor));
    }
    panic!("{path} has no last page");
}

/// Fails unless the pages of each of these are the one long list, without repeats.
#[track_caller]
fn paged(server: &Server, cases: &[String]) {
    for case in cases {
        let path = format!("/api/v1/recommendations/{case}");
        let long = ids(&server.read(&format!("{path}count=100")));
        assert!(long.len() > 20, "{path} is too short to be paged");
        for count in [7, 20] {
            let joined = pages(server, &path, count);
            let mut distinct = joined.clone();
            distinct.sort();
            distinct.dedup();
            assert_eq!(distinct.len(), joined.len(), "{path} repeats");
            assert_eq!(joined, long, "{path}");
        }
    }
}

#[test]
fn pages_together_are_the_long_list() {
    let server = shop();
    let user = busiest(&server);
    let mut cases = vec!["entity/item-01?".to_owned()];
    for algorithm in ["hybrid", "collaborative", "content_based", "sequence"] {
        cases.push(format!("user/{user}?algorithm={algorithm}&exclude_seen=false&"));
    }
    let filter = encode("attributes.price > 5.0");
    let boost = encode("attributes.price < 20.0 ? 2.0 : 1.0");
    for rest in ["", "diversity=0.5&"] {
        cases.push(format!("user/{user}?exclude_seen=false&filter={filter}&boost={boost}&{rest}"));
    }
    for diversity in ["0.1", "0.5", "1"] {
        cases.push(format!("user/{user}?exclude_seen=false&diversity={diversity}&"));
    }
    paged(&server, &cases);
}

#[test]
fn lists_that_need_no_model_are_paged_beside_one() {
    let server = shop();
    let user = busiest(&server);
    let mut cases = ["trending?", "popular?", "latest?", "user/newcomer?"].map(str::to_owned).to_vec();
    for algorithm in ["trending", "popular", "latest"] {
        cases.push(format!("user/{user}?algorithm={algorithm}&exclude_seen=false&"));
    }
    paged(&server, &cases);
}

#[test]
fn a_session_is_paged_too() {
    let server = shop();
    let ask = |count: usize, cursor: Option<&str>| -> Value {
        let interactions = json!([{"entity_id": "item-01", "entity_type": "product"}]);
        let body = json!({"interactions": interactions, "options": {"count": count, "cursor": cursor}});
        let (status, answer) = server.post("/api/v1/recommendations/session", &body);
        assert_eq!(status, 200, "{answer}");
        answer
    };
    let long = ids(&ask(30, None));
    let first = ask(15, None);
    let second = ask(15, first["next_cursor"].as_str());
    assert_eq!([ids(&first), ids(&second)].concat(), long);
    // The cursor is of this session's list and of no other's.
    for other in [
        json!([{"entity_id": "item-02", "entity_type": "product"}]),
        json!([{"entity_id": "item-01", "entity_type": "product", "weight": 2.0}]),
        json!([{"entity_id": "item-01", "entity_type": "product", "interaction_type": "purchase"}]),
        json!([]),
    ] {
        let options = json!({"count": 15, "cursor": first["next_cursor"]});
        let body = json!({"interactions": other, "options": options});
        let answer = server.post("/api/v1/recommendations/session", &body);
        refused(&answer, 400, "INVALID_CURSOR", Some("cursor"));
    }
}

#[test]
fn a_cursor_belongs_to_its_request() {
    let server = shop();
    let user = busiest(&server);
    let first = server.read(&format!("/api/v1/recommendations/user/{user}?count=5"));
    let cursor = first["next_cursor"].as_str().unwrap();
    let check = |path: &str, cursor: &str| {
        let answer = server.get(&format!("/api/v1/recommendations/{path}cursor={}", encode(cursor)));
        refused(&answer, 400, "INVALID_CURSOR", Some("cursor"));
    };
    check(&format!("user/{user}?exclude_seen=false&"), cursor);
    check(&format!("user/{user}?algorithm=popular&"), cursor);
    check(&format!("user/{user}?filter=true&"), cursor);
    check("user/someone-else?", cursor);
    check("popular?", cursor);
    check(&format!("entity/{}?", ids(&first)[0]), cursor);
    for forged in ["", "x", "1.2.3", "1.2.3.4", "1.2.3.4.", "1.2.3.4.AAAA", "-1.0.0.0."] {
        check(&format!("user/{user}?"), forged);
    }
    // The page may have another length.
    let next = server.read(&format!("/api/v1/recommendations/user/{user}?count=3&cursor={cursor}"));
    assert_eq!(next["count"], 3);
    let parts: Vec<&str> = cursor.split('.').collect();
    let deep = format!("{}.{}.ffffffffffffffff.{}.{}", parts[0], parts[1], parts[3], parts[4]);
    let answer = server.get(&format!("/api/v1/recommendations/user/{user}?cursor={deep}"));
    refused(&answer, 400, "VALIDATION_ERROR", Some("cursor"));
}

#[test]
fn what_happens_between_pages_does_not_move_them() {
    let server = shop();
    let user = busiest(&server);
    let path = format!("/api/v1/recommendations/user/{user}?");
    let long = ids(&server.read(&format!("{path}count=30")));
    let first = server.read(&format!("{path}count=10"));
    let body = json!({
        "user_id": user, "entity_id": long[15], "entity_type": "product", "interaction_type": "purchase"
    });
    server.create("/api/v1/interactions", &body);
    let cursor = encode(first["next_cursor"].as_str().unwrap());
    let second = ids(&server.read(&format!("{path}count=20&cursor={cursor}")));
    assert_eq!([ids(&first), second].concat(), long);
    assert!(!ids(&server.read(&format!("{path}count=100"))).contains(&long[15]));
}

#[test]
fn what_others_do_between_pages_repeats_nothing() {
    let server = shop();
    let user = busiest(&server);
    let entities = server.read("/api/v1/export/entities").as_array().unwrap().len();
    for case in
        ["trending?", "popular?", "latest?", "user/newcomer?", &format!("user/{user}?exclude_seen=false&")]
    {
        let mut all: Vec<String> = Vec::new();
        let mut query = format!("/api/v1/recommendations/{case}count=12");
        for page in 0..20 {
            let answer = server.read(&query);
            all.extend(ids(&answer));
            let Some(cursor) = answer["next_cursor"].as_str() else { break };
            query = format!("/api/v1/recommendations/{case}count=12&cursor={}", encode(cursor));
            let last = all.last().unwrap();
            for other in 0..4 {
                let id = format!("other-{page}-{other}");
                let body = json!({"user_id": id, "entity_id": last, "entity_type": "product", "interaction_type": "purchase"});
                server.create("/api/v1/interactions", &body);
            }
            if page < 2 {
                let id = format!("new-{}-{page}", case.len());
                server.create("/api/v1/entities", &json!({"entity_id": id, "entity_type": "product"}));
            }
        }
        let mut distinct = all.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), all.len(), "{case} repeats");
        assert!(distinct.len() >= entities, "{case} passes over {}", entities - distinct.len());
    }
}
