//! `/api/v1/interaction-types`.

use serde_json::{Value, json};

use crate::support::{Server, refused};

#[test]
fn types_are_registered_changed_and_deleted() {
    let server = Server::new();
    let built_in = server.read("/api/v1/interaction-types");
    assert_eq!(built_in["total"], 7);
    assert_eq!(
        built_in["interaction_types"][4],
        json!({"interaction_type": "purchase", "weight": 5.0, "tenant_id": "default"})
    );

    let share = json!({"interaction_type": "share", "weight": 2.5, "description": "sent to a friend"});
    let created = server.create("/api/v1/interaction-types", &share);
    assert_eq!(created["weight"], 2.5);
    assert_eq!(server.read("/api/v1/interaction-types/share"), created);
    let seen = json!({"user_id": "ada", "entity_id": "e", "interaction_type": "share"});
    assert_eq!(server.create("/api/v1/interactions", &seen)["weight"], 2.5);

    for known in ["share", "view"] {
        let again =
            server.post("/api/v1/interaction-types", &json!({"interaction_type": known, "weight": 3}));
        refused(&again, 409, "INTERACTION_TYPE_EXISTS", Some("interaction_type"));
    }
    assert_eq!(server.read("/api/v1/interaction-types/share"), created);
    let (status, changed) = server.put("/api/v1/interaction-types/share", &json!({"weight": -1.5}));
    assert_eq!((status, &changed["weight"], changed.get("description")), (200, &json!(-1.5), None));
    assert_eq!(server.read("/api/v1/interaction-types")["total"], 8);

    assert_eq!(server.delete("/api/v1/interaction-types/share"), (204, Value::Null));
    let gone = [
        server.get("/api/v1/interaction-types/share"),
        server.put("/api/v1/interaction-types/share", &json!({"weight": 1})),
        server.delete("/api/v1/interaction-types/share"),
    ];
    for answer in gone {
        refused(&answer, 404, "INTERACTION_TYPE_NOT_FOUND", Some("interaction_type"));
    }
    let answer = server.post("/api/v1/interactions", &seen);
    refused(&answer, 400, "UNKNOWN_INTERACTION_TYPE", Some("interaction_type"));
    assert_eq!(server.read("/api/v1/interactions/user/ada")[0]["interaction_type"], "share");
    server.create("/api/v1/interaction-types", &share);
    server.create("/api/v1/interactions", &seen);
}

#[test]
fn bad_types_are_refused_with_the_field() {
    let server = Server::new();
    let check = |body: Value, field: Option<&str>| {
        refused(&server.post("/api/v1/interaction-types", &body), 400, "VALIDATION_ERROR", field);
    };
    check(json!({"interaction_type": "", "weight": 1}), Some("interaction_type"));
    check(json!({"interaction_type": "x".repeat(101), "weight": 1}), Some("interaction_type"));
    check(json!({"interaction_type": "share", "weight": 1e7}), Some("weight"));
    check(json!({"interaction_type": "share", "weight": "heavy"}), Some("weight"));
    check(json!({"interaction_type": "share"}), Some("weight"));
    check(json!({"interaction_type": "share", "weight": 1, "colour": 1}), Some("colour"));
    let long = "x".repeat(1_001);
    check(json!({"interaction_type": "share", "weight": 1, "description": long}), Some("description"));
    assert_eq!(server.read("/api/v1/interaction-types")["total"], 7);
}
