//! `/api/v1/interactions`.

use serde_json::{Value, json};

use crate::support::{Home, Server, ids, refused};

fn view(user: &str, entity: &str) -> Value {
    json!({"user_id": user, "entity_id": entity, "interaction_type": "view"})
}

/// The entities of a list of interactions.
fn entities(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|line| line["entity_id"].as_str().unwrap()).collect()
}

#[test]
fn interactions_are_recorded_and_listed_newest_first() {
    let server = Server::new();
    let mut recorded = Vec::new();
    for (entity, day) in [("a", 1), ("b", 2), ("c", 5), ("d", 4), ("e", 3)] {
        let mut body = view("ada", entity);
        body["timestamp"] = json!(format!("2024-03-0{day}T12:00:00Z"));
        body["metadata"] = json!({"page": "home"});
        recorded.push(server.create("/api/v1/interactions", &body));
    }
    let first = &recorded[0];
    let told = ["user_id", "entity_id", "entity_type", "interaction_type", "tenant_id", "timestamp"];
    let told = told.map(|name| first[name].as_str().unwrap());
    assert_eq!(told, ["ada", "a", "item", "view", "default", "2024-03-01T12:00:00Z"]);
    assert_eq!((&first["weight"], &first["metadata"]), (&json!(1.0), &json!({"page": "home"})));

    let all = server.read("/api/v1/interactions/user/ada");
    assert_eq!(entities(&all), ["c", "d", "e", "b", "a"]);
    assert_eq!(all[4], *first);
    assert_eq!(entities(&server.read("/api/v1/interactions/user/ada?limit=2&offset=1")), ["d", "e"]);
    assert_eq!(server.read("/api/v1/interactions/user/ada?offset=5"), json!([]));

    server.create("/api/v1/interactions", &view("bob", "c"));
    let by_entity = server.read("/api/v1/interactions/entity/c");
    let users: Vec<_> =
        by_entity.as_array().unwrap().iter().map(|line| line["user_id"].as_str().unwrap()).collect();
    assert_eq!(users, ["bob", "ada"]);
    assert_eq!(server.read("/api/v1/interactions/entity/c?limit=1&offset=1")[0]["user_id"], "ada");
    assert_eq!(server.read("/api/v1/users/ada")["interactions"], 5);
}

#[test]
fn pages_of_interactions_do_not_move() {
    let server = Server::new();
    for number in 0..5 {
        server.create("/api/v1/interactions", &view("ada", &format!("e-{number}")));
    }
    let page = |path: &str, cursor: Option<&str>| {
        let cursor = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let reply = server.fetch(&format!("/api/v1/interactions/{path}?limit=2{cursor}"));
        assert_eq!(reply.status, 200, "{}", reply.text());
        let next = reply.headers.get("next-cursor").map(|value| value.to_str().unwrap().to_owned());
        (entities(&reply.json()).into_iter().map(str::to_owned).collect::<Vec<_>>(), next)
    };
    let (first, next) = page("user/ada", None);
    assert_eq!(first, ["e-4", "e-3"]);
    server.create("/api/v1/interactions", &view("ada", "new"));
    let mut late = view("ada", "late");
    late["timestamp"] = json!("2020-01-01T00:00:00Z");
    server.create("/api/v1/interactions", &late);
    let (second, next) = page("user/ada", next.as_deref());
    assert_eq!(second, ["e-2", "e-1"]);
    assert_eq!(page("user/ada", next.as_deref()), (vec!["e-0".to_owned(), "late".to_owned()], None));
    for user in ["bob", "cleo"] {
        server.create("/api/v1/interactions", &view(user, "new"));
    }
    let (_, next) = page("entity/new", None);
    server.create("/api/v1/interactions", &view("dan", "new"));
    let last = server.read(&format!("/api/v1/interactions/entity/new?cursor={}", next.unwrap()));
    assert_eq!((last.as_array().unwrap().len(), &last[0]["user_id"]), (1, &json!("ada")));
    let refuse = |query: &str, code: &str, field: &str| {
        refused(&server.get(&format!("/api/v1/interactions/user/ada?{query}")), 400, code, Some(field));
    };
    refuse("cursor=x", "INVALID_CURSOR", "cursor");
    refuse("cursor=", "INVALID_CURSOR", "cursor");
    refuse("cursor=1.1&offset=1", "VALIDATION_ERROR", "offset");
}

#[test]
fn lists_refuse_what_they_cannot_answer() {
    let server = Server::new();
    server.create("/api/v1/interactions", &view("ada", "a"));
    let check = |path: &str, field: &str| refused(&server.get(path), 400, "VALIDATION_ERROR", Some(field));
    check("/api/v1/interactions/user/ada?limit=0", "limit");
    check("/api/v1/interactions/user/ada?limit=1001", "limit");
    check("/api/v1/interactions/user/ada?limit=ten", "limit");
    check("/api/v1/interactions/user/ada?offset=-1", "offset");
    check("/api/v1/interactions/user/ada?offset=1000000001", "offset");
    check("/api/v1/interactions/user/ada?ofset=1", "ofset");
    check("/api/v1/interactions/entity/a?limit=0", "limit");
    refused(&server.get("/api/v1/interactions/user/eve"), 404, "USER_NOT_FOUND", Some("user_id"));
    refused(&server.get("/api/v1/users/eve"), 404, "USER_NOT_FOUND", Some("user_id"));
    refused(&server.get("/api/v1/interactions/entity/z"), 404, "ENTITY_NOT_FOUND", Some("entity_id"));
}

#[test]
fn ratings_and_own_types_carry_their_weight() {
    let server = Server::new();
    let check = |kind: Value, weight: Value, name: &str, expected: f64| {
        let mut body = view("ada", "a");
        body["interaction_type"] = kind;
        if !weight.is_null() {
            body["weight"] = weight;
        }
        let recorded = server.create("/api/v1/interactions", &body);
        assert_eq!(
            (recorded["interaction_type"].as_str(), recorded["weight"].as_f64()),
            (Some(name), Some(expected))
        );
    };
    check(json!("purchase"), Value::Null, "purchase", 5.0);
    check(json!("view"), json!(-3), "view", -3.0);
    check(json!({"rating": 4.5}), Value::Null, "rating", 4.5);
    check(json!("rating"), json!(2), "rating", 2.0);
    check(json!({"custom": "share"}), Value::Null, "share", 1.0);
    check(json!("share"), Value::Null, "share", 1.0);
    assert_eq!(server.read("/api/v1/interaction-types/share")["weight"], 1.0);
}

#[test]
fn bad_interactions_are_refused_with_the_field() {
    let server = Server::new();
    let check = |name: &str, value: Value, code: &str, field: &str| {
        let mut body = view("ada", "a");
        body[name] = value;
        refused(&server.post("/api/v1/interactions", &body), 400, code, Some(field));
    };
    check("interaction_type", json!("zap"), "UNKNOWN_INTERACTION_TYPE", "interaction_type");
    check("interaction_type", json!("rating"), "VALIDATION_ERROR", "interaction_type");
    check("interaction_type", json!(["view"]), "VALIDATION_ERROR", "interaction_type");
    check("interaction_type", json!({"rating": 1e9}), "VALIDATION_ERROR", "interaction_type.rating");
    check("weight", json!(1e9), "VALIDATION_ERROR", "weight");
    check("user_id", json!(""), "VALIDATION_ERROR", "user_id");
    check("user_id", json!(5), "VALIDATION_ERROR", "user_id");
    check("timestamp", json!("yesterday"), "VALIDATION_ERROR", "timestamp");
    check("timestamp", json!("2100-01-01T00:00:00Z"), "VALIDATION_ERROR", "timestamp");
    check("timestamp", json!("1969-12-31T23:59:59Z"), "VALIDATION_ERROR", "timestamp");
    check("metadata", json!({"a": "x".repeat(1_001)}), "VALIDATION_ERROR", "metadata.a");
    check("colour", json!("red"), "VALIDATION_ERROR", "colour");
    let mut body = view("ada", "a");
    body["tenant_id"] = json!("someone-else");
    refused(&server.post("/api/v1/interactions", &body), 403, "TENANT_MISMATCH", Some("tenant_id"));
    refused(&server.get("/api/v1/users/ada"), 404, "USER_NOT_FOUND", Some("user_id"));

    let mut oldest = view("ada", "a");
    oldest["timestamp"] = json!("1970-01-01T00:00:00Z");
    server.create("/api/v1/interactions", &oldest);
}

#[test]
fn settings_say_what_is_registered_unasked() {
    let server = Home::new()
        .environment("AUTO_REGISTER_ENTITIES", "false")
        .environment("AUTO_REGISTER_INTERACTION_TYPES", "true")
        .serve();
    let answer = server.post("/api/v1/interactions", &view("ada", "a"));
    refused(&answer, 404, "ENTITY_NOT_FOUND", Some("entity_id"));
    server.create("/api/v1/entities", &json!({"entity_id": "a"}));
    let mut zap = view("ada", "a");
    zap["interaction_type"] = json!("zap");
    server.create("/api/v1/interactions", &zap);
    assert_eq!(server.read("/api/v1/interaction-types/zap")["weight"], 1.0);
}

#[test]
fn a_broken_record_does_not_keep_the_others_out() {
    let server = Server::new();
    let mut future = view("ada", "c");
    future["timestamp"] = json!("2100-01-01T00:00:00Z");
    let records = [view("ada", "a"), json!({"user_id": "ada"}), view("ada", "b"), future, view("bob", "a")];
    let (status, result) = server.post("/api/v1/interactions/bulk", &json!({"interactions": records}));
    assert_eq!((status, &result["successful"], &result["failed"]), (202, &json!(3), &json!(2)), "{result}");
    assert_eq!((&result["errors"][0]["index"], &result["errors"][1]["index"]), (&json!(1), &json!(3)));
    assert_eq!(server.read("/api/v1/interactions/user/ada").as_array().unwrap().len(), 2);
    assert_eq!(server.read("/api/v1/interactions/user/bob").as_array().unwrap().len(), 1);
}

#[test]
fn a_retry_with_the_same_key_records_once() {
    let server = Server::new();
    let (status, recorded) = server.post_once("key-1", "/api/v1/interactions", &view("ada", "a"));
    assert_eq!(status, 201);
    assert_eq!(server.post_once("key-1", "/api/v1/interactions", &view("ada", "a")), (201, recorded));
    let answer = server.post_once("key-1", "/api/v1/interactions", &view("ada", "b"));
    refused(&answer, 409, "CONFLICT", Some("idempotency-key"));
    assert_eq!(entities(&server.read("/api/v1/interactions/user/ada")), ["a"]);
}

#[test]
fn what_a_user_dislikes_is_not_recommended() {
    let server = Server::new();
    for user in ["ada", "bob", "cleo"] {
        for entity in ["a", "b", "c"] {
            server.create("/api/v1/interactions", &view(user, entity));
        }
    }
    let dislike =
        |entity: &str| json!({"user_id": "dan", "entity_id": entity, "interaction_type": "dislike"});
    server.create("/api/v1/interactions", &dislike("a"));
    server.create("/api/v1/interactions", &dislike("only-disliked"));
    let mut answer = ids(&server.read("/api/v1/recommendations/user/dan"));
    answer.sort();
    assert_eq!(answer, ["b", "c"]);
    for list in ["popular", "trending"] {
        let listed = ids(&server.read(&format!("/api/v1/recommendations/{list}")));
        assert_eq!(listed.len(), 3, "{list}: {listed:?}");
        assert!(!listed.contains(&"only-disliked".to_owned()), "{list}: {listed:?}");
    }
}

#[test]
fn an_entity_without_a_type_is_the_one_that_has_the_id() {
    let server = Server::new();
    server.create(
        "/api/v1/entities",
        &json!({"entity_id": "f-1", "entity_type": "film", "attributes": {"year": 1999}}),
    );
    let event = json!({
        "specversion": "1.0", "id": "1", "source": "/shop", "type": "recommend.interaction.recorded.v1",
        "data": view("cleo", "f-1"),
    });
    assert_eq!(server.create("/api/v1/interactions", &view("ada", "f-1"))["entity_type"], "film");
    let bulk = json!({"interactions": [view("bob", "f-1"), view("bob", "unknown")]});
    let (status, result) = server.post("/api/v1/interactions/bulk", &bulk);
    assert_eq!((status, &result["successful"]), (202, &json!(2)), "{result}");
    let (status, stored) =
        server.post_as("application/cloudevents+json", "/api/v1/events", event.to_string());
    assert_eq!(status, 201, "{stored}");
    for (user, types) in [("ada", vec!["film"]), ("bob", vec!["item", "film"]), ("cleo", vec!["film"])] {
        let list = server.read(&format!("/api/v1/interactions/user/{user}"));
        let found: Vec<_> =
            list.as_array().unwrap().iter().map(|line| line["entity_type"].as_str().unwrap()).collect();
        assert_eq!(found, types, "{user}");
    }
    assert_eq!(server.read("/api/v1/entities/f-1")["attributes"]["year"], 1999, "no other entity has the id");

    server.create(
        "/api/v1/entities",
        &json!({"entity_id": "f-1", "entity_type": "book", "attributes": {"year": 2001}}),
    );
    let reply = server.post("/api/v1/interactions", &view("ada", "f-1"));
    refused(&reply, 400, "VALIDATION_ERROR", Some("entity_type"));
}
