//! Recommendations without a model: the lists that are the same for everyone, new users, and servers that know
//! little or nothing.

use serde_json::{Value, json};

use crate::support::{Server, ids, refused};

fn record(server: &Server, user: &str, entity: &str, kind: &str) {
    let body = json!({"user_id": user, "entity_id": entity, "interaction_type": kind});
    server.create("/api/v1/interactions", &body);
}

#[test]
fn an_empty_server_answers_with_nothing() {
    let server = Server::new();
    let user = server.read("/api/v1/recommendations/user/ada?explain=true&attributes=*&diversity=0.5");
    assert_eq!(
        (&user["recommendations"], &user["count"], &user["cold_start"]),
        (&json!([]), &json!(0), &json!(true))
    );
    assert_eq!((&user["algorithm"], &user["fallback"]), (&json!("hybrid"), &json!("latest")));
    assert_eq!((user.get("model_version"), user.get("next_cursor")), (None, None));
    for list in ["trending", "popular", "latest"] {
        assert_eq!(ids(&server.read(&format!("/api/v1/recommendations/{list}"))).len(), 0);
    }
    let (status, session) = server.post("/api/v1/recommendations/session", &json!({"interactions": []}));
    assert_eq!((status, &session["recommendations"]), (200, &json!([])));
    for question in ["entity", "bought-together"] {
        let answer = server.get(&format!("/api/v1/recommendations/{question}/e"));
        refused(&answer, 404, "ENTITY_NOT_FOUND", Some("entity_id"));
    }
    refused(&server.get("/api/v1/recommendations/similar-users/ada"), 404, "USER_NOT_FOUND", Some("user_id"));
}

#[test]
fn one_user_and_one_item_are_enough() {
    let server = Server::new();
    record(&server, "ada", "only", "view");
    assert_eq!(ids(&server.read("/api/v1/recommendations/user/bob")), ["only"]);
    assert_eq!(ids(&server.read("/api/v1/recommendations/user/ada")), Vec::<String>::new());
    assert_eq!(ids(&server.read("/api/v1/recommendations/user/ada?exclude_seen=false")), ["only"]);
    assert_eq!(ids(&server.read("/api/v1/recommendations/entity/only")), Vec::<String>::new());
    assert_eq!(server.read("/api/v1/recommendations/similar-users/ada")["users"], json!([]));
}

#[test]
fn a_new_user_gets_a_named_fallback() {
    let server = Server::new();
    server.create("/api/v1/entities", &json!({"entity_id": "unused"}));
    let check = |user: &str, fallback: &str, expected: &[&str]| {
        let answer = server.read(&format!("/api/v1/recommendations/user/{user}?algorithm=collaborative"));
        assert_eq!((&answer["algorithm"], &answer["cold_start"]), (&json!("collaborative"), &json!(true)));
        assert_eq!(
            (answer["fallback"].as_str(), ids(&answer)),
            (Some(fallback), expected.iter().map(|id| (*id).to_owned()).collect())
        );
        answer
    };
    check("new", "latest", &["unused"]);
    let old = json!({
        "user_id": "ada", "entity_id": "old", "interaction_type": "view", "timestamp": "2020-01-01T00:00:00Z"
    });
    server.create("/api/v1/interactions", &old);
    check("new", "popular", &["old", "unused"]);
    record(&server, "ada", "fresh", "view");
    let answer = check("new", "trending", &["fresh", "old", "unused"]);
    let reasons: Vec<&str> = answer["recommendations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line["reason"].as_str().unwrap())
        .collect();
    let expected = ["chosen in the last 7 days", "popular: 1 interaction", "new in the catalogue"];
    assert_eq!(reasons, expected);
    check("ada", "latest", &["unused"]);
}

#[test]
fn lists_have_their_order() {
    let server = Server::new();
    for number in 1..=4 {
        let day = format!("2024-01-0{number}T00:00:00Z");
        server
            .create("/api/v1/entities", &json!({"entity_id": format!("e-{number}"), "available_from": day}));
    }
    let old = "2020-01-01T00:00:00Z";
    let body =
        json!({"user_id": "ada", "entity_id": "e-1", "interaction_type": "purchase", "timestamp": old});
    server.create("/api/v1/interactions", &body);
    record(&server, "ada", "e-2", "view");
    for user in ["bob", "cleo"] {
        record(&server, user, "e-3", "view");
    }
    let list = |list: &str| {
        let answer = server.read(&format!("/api/v1/recommendations/{list}"));
        (ids(&answer), answer["fallback"].as_str().map(str::to_owned))
    };
    let named = |ids: &[&str], fallback: Option<&str>| {
        (ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>(), fallback.map(str::to_owned))
    };
    // What the list itself does not know comes last, and is named.
    assert_eq!(list("popular?count=3"), named(&["e-1", "e-3", "e-2"], None));
    assert_eq!(list("popular"), named(&["e-1", "e-3", "e-2", "e-4"], Some("latest")));
    assert_eq!(list("trending?count=2"), named(&["e-3", "e-2"], None));
    assert_eq!(list("trending"), named(&["e-3", "e-2", "e-1", "e-4"], Some("popular")));
    assert_eq!(ids(&server.read("/api/v1/recommendations/latest")), ["e-4", "e-3", "e-2", "e-1"]);
    assert_eq!(ids(&server.read("/api/v1/recommendations/latest?count=1")), ["e-4"]);
    let reasons = |list: &str| {
        let answer = server.read(&format!("/api/v1/recommendations/{list}?count=1"));
        answer["recommendations"][0]["reason"].as_str().unwrap().to_owned()
    };
    assert_eq!(reasons("popular"), "popular: 1 interaction");
    assert_eq!(reasons("trending"), "chosen in the last 7 days");
    let narrow = server.read("/api/v1/recommendations/trending?window_days=2");
    assert_eq!(narrow["recommendations"][0]["reason"], "chosen in the last 2 days");
    let check = |path: &str, field: &str| {
        let answer = server.get(&format!("/api/v1/recommendations/{path}"));
        refused(&answer, 400, "VALIDATION_ERROR", Some(field));
    };
    check("trending?algorithm=popular", "algorithm");
    check("trending?window_days=0", "window_days");
    check("trending?window_days=32", "window_days");
    for list in ["trending", "popular", "latest"] {
        check(&format!("{list}?exclude_seen=true"), "exclude_seen");
        check(&format!("{list}?diversity=0.5"), "diversity");
        check(&format!("user/ada?algorithm={list}&diversity=0"), "diversity");
    }
    for path in ["popular", "latest", "user/ada", "entity/e-1", "bought-together/e-1"] {
        check(&format!("{path}?window_days=3"), "window_days");
    }
    for path in ["entity/e-1", "bought-together/e-1"] {
        check(&format!("{path}?exclude_seen=false"), "exclude_seen");
    }
    check("bought-together/e-1?diversity=0.5", "diversity");
}

#[test]
fn an_entity_is_shown_as_soon_as_it_is_known() {
    let server = Server::new();
    let latest = |server: &Server| ids(&server.read("/api/v1/recommendations/latest"));
    server.create("/api/v1/entities", &json!({"entity_id": "a"}));
    assert_eq!(latest(&server), ["a"]);
    let (status, _) =
        server.post("/api/v1/entities/bulk", &json!({"entities": [{"entity_id": "b", "hidden": true}]}));
    assert_eq!(status, 202);
    assert_eq!(latest(&server), ["a"]);
    assert_eq!(server.patch("/api/v1/entities/b", &json!({"hidden": false})).0, 200);
    let mut both = latest(&server);
    both.sort();
    assert_eq!(both, ["a", "b"]);
    assert_eq!(server.delete("/api/v1/entities/a").0, 204);
    assert_eq!(latest(&server), ["b"]);
    let session =
        json!({"interactions": [{"entity_id": "unknown"}], "options": {"algorithm": "latest", "count": 1}});
    let (status, answer) = server.post("/api/v1/recommendations/session", &session);
    assert_eq!((status, ids(&answer)), (200, vec!["b".to_owned()]));
    assert_eq!(answer.get("user_id"), None::<&Value>);
}
