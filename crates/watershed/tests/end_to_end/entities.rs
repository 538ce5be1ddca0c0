//! `/api/v1/entities`.

use serde_json::{Value, json};

use crate::support::{Server, refused};

fn film() -> Value {
    json!({
        "entity_id": "film-1", "entity_type": "film",
        "attributes": {"title": "The Long Road", "year": 1994, "genres": ["drama", "crime"], "price": 3.99}
    })
}

#[test]
fn an_entity_is_created_read_replaced_patched_and_deleted() {
    let server = Server::new();
    let created = server.create("/api/v1/entities", &film());
    assert_eq!(created["attributes"], film()["attributes"]);
    assert_eq!((&created["hidden"], &created["tenant_id"]), (&json!(false), &json!("default")));
    assert_eq!(server.read("/api/v1/entities/film-1"), created);
    assert_eq!(server.read("/api/v1/entities/film-1?entity_type=film"), created);
    refused(&server.post("/api/v1/entities", &film()), 409, "ENTITY_EXISTS", Some("entity_id"));

    let whole = json!({"attributes": {"title": "The Longer Road", "year": 1995}, "hidden": true});
    let (status, replaced) = server.put("/api/v1/entities/film-1", &whole);
    assert_eq!(
        (status, &replaced["attributes"], &replaced["hidden"]),
        (200, &whole["attributes"], &json!(true))
    );
    assert_eq!(replaced["created_at"], created["created_at"]);

    let changes =
        json!({"attributes": {"title": null, "price": 2.5}, "available_until": "2100-01-01T00:00:00Z"});
    let (status, patched) = server.patch("/api/v1/entities/film-1", &changes);
    assert_eq!((status, &patched["attributes"]), (200, &json!({"price": 2.5, "year": 1995})));
    assert_eq!(
        (&patched["hidden"], &patched["available_until"]),
        (&json!(true), &json!("2100-01-01T00:00:00Z"))
    );
    let (_, cleared) = server.patch("/api/v1/entities/film-1", &json!({"available_until": null}));
    assert_eq!((cleared.get("available_until"), &cleared["hidden"]), (None, &json!(true)));
    assert_eq!(server.read("/api/v1/entities/film-1"), cleared);

    assert_eq!(server.delete("/api/v1/entities/film-1"), (204, Value::Null));
    refused(&server.get("/api/v1/entities/film-1"), 404, "ENTITY_NOT_FOUND", Some("entity_id"));
    server.create("/api/v1/entities", &film());
}

#[test]
fn what_does_not_exist_is_not_found() {
    let server = Server::new();
    server.create("/api/v1/entities", &film());
    for path in ["/api/v1/entities/none", "/api/v1/entities/film-1?entity_type=book"] {
        refused(&server.get(path), 404, "ENTITY_NOT_FOUND", Some("entity_id"));
        refused(&server.put(path, &json!({})), 404, "ENTITY_NOT_FOUND", Some("entity_id"));
        refused(&server.patch(path, &json!({})), 404, "ENTITY_NOT_FOUND", Some("entity_id"));
        refused(&server.delete(path), 404, "ENTITY_NOT_FOUND", Some("entity_id"));
    }
}

#[test]
fn bad_entities_are_refused_with_the_field() {
    let server = Server::new();
    server.create("/api/v1/entities", &film());
    let create = |body: Value, code: &str, field: Option<&str>| {
        refused(&server.post("/api/v1/entities", &body), 400, code, field);
    };
    create(json!({"entity_type": "film"}), "VALIDATION_ERROR", Some("entity_id"));
    let ends = json!({"entity_id": "e", "available_from": "2030-01-02T00:00:00Z", "available_until": "2030-01-01T00:00:00Z"});
    create(ends, "VALIDATION_ERROR", Some("available_until"));
    create(json!({"entity_id": ""}), "VALIDATION_ERROR", Some("entity_id"));
    create(json!({"entity_id": "x".repeat(256)}), "VALIDATION_ERROR", Some("entity_id"));
    create(json!({"entity_id": 7}), "VALIDATION_ERROR", Some("entity_id"));
    create(json!({"entity_id": "e", "entity_type": ""}), "VALIDATION_ERROR", Some("entity_type"));
    create(json!({"entity_id": "e", "atributes": {}}), "VALIDATION_ERROR", Some("atributes"));
    create(json!({"entity_id": "e", "available_from": "soon"}), "VALIDATION_ERROR", Some("available_from"));
    let long = json!({"entity_id": "e", "attributes": {"text": "x".repeat(10_001)}});
    create(long, "VALIDATION_ERROR", Some("attributes.text"));
    let other = json!({"entity_id": "e", "tenant_id": "someone-else"});
    refused(&server.post("/api/v1/entities", &other), 403, "TENANT_MISMATCH", Some("tenant_id"));

    let patch = |changes: Value, field: Option<&str>| {
        refused(&server.patch("/api/v1/entities/film-1", &changes), 400, "VALIDATION_ERROR", field);
    };
    patch(json!({"entity_id": "film-2"}), Some("entity_id"));
    patch(json!({"entity_type": "book"}), Some("entity_type"));
    patch(json!({"colour": "red"}), Some("colour"));
    patch(json!({"hidden": "yes"}), Some("hidden"));
    server.patch("/api/v1/entities/film-1", &json!({"available_until": "2100-01-01T00:00:00Z"}));
    patch(json!({"available_from": "2100-01-01T00:00:00Z"}), Some("available_until"));
    assert_eq!(server.read("/api/v1/entities/film-1")["attributes"], film()["attributes"]);
}

#[test]
fn an_id_of_two_types_needs_its_type() {
    let server = Server::new();
    for kind in ["film", "book"] {
        server.create("/api/v1/entities", &json!({"entity_id": "dune", "entity_type": kind}));
    }
    refused(&server.get("/api/v1/entities/dune"), 400, "VALIDATION_ERROR", Some("entity_type"));
    refused(&server.delete("/api/v1/entities/dune"), 400, "VALIDATION_ERROR", Some("entity_type"));
    assert_eq!(server.read("/api/v1/entities/dune?entity_type=book")["entity_type"], "book");
    assert_eq!(server.delete("/api/v1/entities/dune?entity_type=book").0, 204);
    assert_eq!(server.read("/api/v1/entities/dune")["entity_type"], "film");
}

#[test]
fn a_broken_record_does_not_keep_the_others_out() {
    let server = Server::new();
    let records = json!({"entities": [
        {"entity_id": "one", "attributes": {"price": 1}},
        {"entity_id": "two", "attributes": {"price": {"amount": 2}}},
        {"entity_id": "three", "tenant_id": "someone-else"},
        {"entity_id": "four", "entity_type": "x".repeat(101)},
        {"entity_id": "five"},
    ]});
    let (status, result) = server.post("/api/v1/entities/bulk", &records);
    assert_eq!((status, result["status"].as_str()), (202, Some("partially_completed")), "{result}");
    let counts =
        ["total_records", "processed", "successful", "failed"].map(|name| result[name].as_u64().unwrap());
    assert_eq!(counts, [5, 5, 2, 3]);
    let told = result["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|told| (told["index"].as_u64().unwrap(), told["problem"]["code"].as_str().unwrap()));
    assert_eq!(
        told.collect::<Vec<_>>(),
        [(1, "VALIDATION_ERROR"), (2, "TENANT_MISMATCH"), (3, "VALIDATION_ERROR")]
    );
    for (id, status) in [("one", 200), ("two", 404), ("three", 404), ("four", 404), ("five", 200)] {
        assert_eq!(server.get(&format!("/api/v1/entities/{id}")).0, status, "{id}");
    }
    let letters = server.read("/api/v1/dead-letters");
    // What names another tenant is not kept, not even as a dead letter.
    assert_eq!(letters["dead_letters"].as_array().unwrap().len(), 2, "{letters}");

    let (_, empty) = server.post("/api/v1/entities/bulk", &json!({"entities": []}));
    assert_eq!((&empty["status"], &empty["total_records"]), (&json!("completed"), &json!(0)));
    let (_, failed) = server.post("/api/v1/entities/bulk", &json!({"entities": [7]}));
    assert_eq!((&failed["status"], &failed["failed"]), (&json!("failed"), &json!(1)));
}

#[test]
fn a_retry_with_the_same_key_creates_once() {
    let server = Server::new();
    let (status, created) = server.post_once("key-1", "/api/v1/entities", &film());
    assert_eq!(status, 201);
    assert_eq!(server.post_once("key-1", "/api/v1/entities", &film()), (201, created));
    refused(&server.post_once("key-2", "/api/v1/entities", &film()), 409, "ENTITY_EXISTS", Some("entity_id"));
    refused(&server.post("/api/v1/entities", &film()), 409, "ENTITY_EXISTS", Some("entity_id"));
    let long = "k".repeat(256);
    let answer = server.post_once(&long, "/api/v1/entities", &film());
    refused(&answer, 400, "VALIDATION_ERROR", Some("idempotency-key"));

    let other = json!({"entity_id": "film-2", "entity_type": "film"});
    let answer = server.post_once("key-1", "/api/v1/entities", &other);
    refused(&answer, 409, "CONFLICT", Some("idempotency-key"));
    assert_eq!(server.delete("/api/v1/entities/film-1").0, 204);
    let answer = server.post_once("key-1", "/api/v1/entities", &film());
    refused(&answer, 409, "CONFLICT", Some("idempotency-key"));
}
