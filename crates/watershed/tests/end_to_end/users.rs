//! `/api/v1/users`.

use serde_json::json;

use crate::support::{Server, refused};

#[test]
fn users_are_described_and_read() {
    let server = Server::new();
    let (status, ada) = server.put("/api/v1/users/ada", &json!({"attributes": {"age": 30, "tags": ["a"]}}));
    assert_eq!((status, &ada["user_id"], &ada["interactions"]), (200, &json!("ada"), &json!(0)));
    assert_eq!(server.read("/api/v1/users/ada"), ada);
    let (_, replaced) = server.put("/api/v1/users/ada", &json!({"attributes": {"age": 31}}));
    assert_eq!((&replaced["attributes"], &replaced["created_at"]), (&json!({"age": 31}), &ada["created_at"]));
    let view = json!({"user_id": "ada", "entity_id": "e", "interaction_type": "view"});
    server.create("/api/v1/interactions", &view);
    let read = server.read("/api/v1/users/ada");
    assert_eq!((&read["attributes"], &read["interactions"]), (&json!({"age": 31}), &json!(1)));
    let odd = server.put("/api/v1/users/a%20b%2Fc", &json!({}));
    assert_eq!((odd.0, &odd.1["user_id"]), (200, &json!("a b/c")));
}

#[test]
fn bad_users_are_refused() {
    let server = Server::new();
    let long = format!("/api/v1/users/{}", "x".repeat(256));
    refused(&server.put(&long, &json!({})), 400, "INVALID_ID", Some("id"));
    for id in ["x".repeat(5_000), "a%00b".to_owned()] {
        let asked = server.get(&format!("/api/v1/recommendations/user/{id}"));
        refused(&asked, 400, "INVALID_ID", Some("id"));
    }
    refused(&server.put("/api/v1/users/ada", &json!({"age": 1})), 400, "VALIDATION_ERROR", Some("age"));
    refused(&server.put("/api/v1/users/ada", &json!([])), 400, "VALIDATION_ERROR", None);
    let nested = json!({"attributes": {"age": {"years": 1}}});
    refused(&server.put("/api/v1/users/ada", &nested), 400, "VALIDATION_ERROR", Some("attributes.age"));
    refused(&server.get("/api/v1/users/ada"), 404, "USER_NOT_FOUND", Some("user_id"));
}
